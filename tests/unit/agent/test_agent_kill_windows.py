"""kill -9 of supervisor, spawner and agent in every window of an attempt: nothing runs twice, nothing is lost in silence."""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from albor_pipeline.agent.liveness import children
from albor_pipeline.errors import UnreachableError
from albor_pipeline.transport.client import AgentError

REFUSED = ("busy", "stale")


def agent_pid(box: Any) -> int:
    return int(box.client.hello["pid"])


def spawner_pid(box: Any) -> int:
    return children(agent_pid(box))[0]


def spawners(box: Any) -> list[int]:
    """The spawners that live; a killed one stays the agent's zombie, without a command line."""
    return [pid for pid in children(agent_pid(box)) if _command_line(pid)]


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def kill_one(pids: list[int]) -> bool:
    """Kill the newest; False when there is none yet."""
    if pids:
        os.kill(pids[-1], signal.SIGKILL)
    return bool(pids)


def kill_agent(box: Any) -> None:
    os.kill(agent_pid(box), signal.SIGKILL)
    box.clients.pop().close()


def test_killed_when_claimed_means_that_nothing_was_started(box: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALBOR_TEST_PAUSE", "claimed:30")
    box.connect()
    box.start("echo x >> starts")
    supervisor = children(spawner_pid(box))[0]
    with pytest.raises(AgentError, match="alive"):
        box.start("echo x >> starts")
    os.kill(supervisor, signal.SIGKILL)
    end = box.ended()
    assert end["liveness"] == "dead" and end["exit"]["class"] == "lost"
    assert end["exit"]["detail"] == "claimed, but its command was never started"
    monkeypatch.delenv("ALBOR_TEST_PAUSE")
    box.reconnect()
    assert box.run("echo x >> starts")["number"] == 2
    assert (box.root / "starts").read_text() == "x\n"


def test_a_supervisor_killed_under_a_running_task_is_unsupervised_then_lost_with_its_log(box: Any) -> None:
    box.start("echo before; until [ -e go ]; do sleep 0.02; done; echo after")
    box.until(lambda: "before" in box.log())
    box.kill_supervisor()
    assert box.ended(name="unsupervised")["liveness"] == "unsupervised"
    with pytest.raises(AgentError, match="unsupervised"):
        box.start("true")
    (box.root / "go").touch()
    end = box.ended()
    assert (
        end["liveness"] == "dead"
        and end["exit"]["class"] == "lost"
        and "supervisor was killed" in end["exit"]["detail"]
    )
    assert box.log() == "before\nafter\n"
    assert box.run("true")["number"] == 2


def test_what_a_task_left_in_another_session_keeps_it_unsupervised(box: Any) -> None:
    box.start("setsid sleep 30 & setsid sh -c 'until [ -e go ]; do sleep 0.02; done' & echo up; wait")
    box.until(lambda: "up" in box.log())
    record = box.record()
    leader = children(record["pid"])[0]
    box.kill_supervisor()
    os.kill(leader, signal.SIGKILL)
    box.ended(name="unsupervised")
    time.sleep(0.2)
    assert box.attempt()["liveness"] == "unsupervised"
    box.client.request("signal", resource="t", number=1, how="cancel", grace_s=0.2)
    assert box.ended()["liveness"] == "dead"


@pytest.mark.parametrize("window", ["exited", "digesting"])
def test_killed_after_the_task_but_before_its_proof_is_lost_and_its_output_dropped(
    box: Any, monkeypatch: pytest.MonkeyPatch, window: str
) -> None:
    monkeypatch.setenv("ALBOR_TEST_PAUSE", f"{window}:30")
    box.connect()
    box.start("echo x >> starts; echo 1 > o", outputs=[{"path": "o"}])
    box.until(lambda: (box.root / "o").exists())
    record = box.record()
    box.until(lambda: not children(record["pid"]))
    assert box.attempt()["liveness"] == "alive"
    box.kill_supervisor()
    assert box.ended()["exit"]["class"] == "lost"
    monkeypatch.delenv("ALBOR_TEST_PAUSE")
    box.reconnect()
    end = box.run("echo x >> starts; echo 2 > o", outputs=[{"path": "o"}])
    assert end["exit"]["class"] == "ok" and end["number"] == 2
    assert end["kept"] == [] and (box.root / "o").read_text() == "2\n"


def test_partial_output_of_an_attempt_that_was_cut_off_is_dropped_but_not_what_was_written_later(box: Any) -> None:
    script = "mkdir o; echo half > o/part; echo x > started; exec sleep 60"
    box.start(script, outputs=[{"path": "o"}])
    _until_touched(box, 1, "started")
    _cut_off(box, 1)
    end = box.start("[ ! -e o ] && " + script.replace("started", "again"), outputs=[{"path": "o"}])
    _until_touched(box, end, "again")
    _cut_off(box, end)
    (box.root / "o" / "mine").write_text("precious")
    kept = box.run("mkdir o", outputs=[{"path": "o"}])["kept"]
    assert [(box.root / name / "mine").read_text() for name in kept] == ["precious"]


def _until_touched(box: Any, number: int, name: str) -> None:
    """Until the task has written what it does, and its supervisor was seen alive after that."""
    box.until((box.root / name).exists)
    alive = box.folder(number=number) / "alive"
    box.until(lambda: alive.stat().st_mtime > (box.root / name).stat().st_ctime)


def _cut_off(box: Any, number: int) -> None:
    """Kill the supervisor, then the task."""
    pid = box.record(number=number)["pid"]
    below = children(pid)
    os.kill(pid, signal.SIGKILL)
    for each in below:
        os.kill(each, signal.SIGKILL)
    assert box.ended(number=number)["liveness"] == "dead"


def test_an_attempt_outlives_its_agent_and_the_next_one_attaches(box: Any) -> None:
    box.start("echo one; until [ -e go ]; do sleep 0.02; done; echo two; echo 1 > o", outputs=[{"path": "o"}])
    box.until(lambda: "one" in box.log())
    kill_agent(box)
    client = box.connect(attempts="open")
    assert [(attempt["number"], attempt["liveness"]) for attempt in client.hello["attempts"]] == [(1, "alive")]
    number = client.submit("attach", resource="t", number=1, log_from=0)
    (box.root / "go").touch()
    log, seen, deadline = b"", set(), time.monotonic() + 10
    while not {"end", "event"} <= seen and time.monotonic() < deadline:
        for message in client.poll(0.5):
            seen.add(message.kind)
            log += message.data if message.id == number else b""
            assert message.error is None
    assert log == b"one\ntwo\n"
    assert box.attempt()["exit"]["class"] == "ok"


def test_when_the_controller_goes_agent_and_spawner_go_and_attempts_stay(box: Any) -> None:
    box.start("until [ -e go ]; do sleep 0.02; done; echo 1 > o", outputs=[{"path": "o"}])
    agent, spawner = agent_pid(box), spawner_pid(box)
    box.clients.pop().close()
    box.until(lambda: not Path(f"/proc/{agent}").exists() and not Path(f"/proc/{spawner}").exists())
    (box.root / "go").touch()
    box.until(lambda: (box.folder() / "exit").exists())
    assert box.connect().hello["attempts"][0]["exit"]["class"] == "ok"


def test_a_killed_spawner_is_replaced_and_its_attempts_are_still_told_of(box: Any) -> None:
    box.start("until [ -e go ]; do sleep 0.02; done", "long")
    os.kill(spawner_pid(box), signal.SIGKILL)
    (box.root / "go").touch()
    assert box.ended("long")["exit"]["class"] == "ok"
    assert box.run("true", "next")["exit"]["class"] == "ok"


def test_starts_under_way_when_the_spawner_is_killed_happen_exactly_once(box: Any) -> None:
    client, count = box.lead(box.client), 60
    arrived: list[Any] = []
    for i in range(count):
        client.submit("start", **box.spec(f"echo t{i} >> starts", f"t{i}"))
        arrived += client.poll(0)
        if i % 20 == 10:
            box.until(lambda: kill_one(spawners(box)))
    ended: set[str] = set()
    deadline = time.monotonic() + 30
    while len(ended) < count and time.monotonic() < deadline:
        arrived += client.poll(0.2)
        assert not [message for message in arrived if message.error]
        ended = {message.body["resource"] for message in arrived if message.body.get("event") == "ended"}
    assert len(ended) == count
    started = Counter((box.root / "starts").read_text().split())
    assert started == {f"t{i}": 1 for i in range(count)}


@pytest.mark.parametrize("after_s", [0.0, 0.02, 0.05])
def test_starts_queued_when_the_agent_is_killed_never_happen_twice(box: Any, after_s: float) -> None:
    count = 40
    for i in range(count):
        box.lead(box.client).submit("start", number=1, **box.spec(f"echo t{i} >> starts", f"t{i}"))
    time.sleep(after_s)
    kill_agent(box)
    for i in range(count):
        try:
            box.start(f"echo t{i} >> starts", f"t{i}", number=1)
        except AgentError as error:
            assert error.code in REFUSED
    box.until(lambda: all(attempt["exit"] for attempt in box.client.request("attempts")["attempts"]))
    started = Counter((box.root / "starts").read_text().split())
    lost = {
        attempt["resource"]
        for attempt in box.client.request("attempts")["attempts"]
        if attempt["exit"]["class"] == "lost"
    }
    assert set(started.values()) == {1} and set(started) | lost == {f"t{i}" for i in range(count)}


def test_a_dead_agent_is_an_error_that_names_the_machine(box: Any) -> None:
    client = box.connect()
    os.kill(client.hello["pid"], signal.SIGKILL)
    with pytest.raises(UnreachableError, match=r"box does not answer: .*SIGKILL"):
        client.request("attempts")
    box.clients.pop()
    client.close()


def test_a_proof_without_exit_counts_and_a_torn_one_does_not(box: Any) -> None:
    box.run("echo 1 > o", outputs=[{"path": "o"}])
    folder = box.folder()
    (folder / "exit").unlink()
    box.kill_supervisor()
    assert box.attempt()["liveness"] == "ended" and box.attempt()["exit"]["class"] == "ok"
    proof = (folder / "proof").read_bytes()
    for torn in (proof[:-1], proof[: len(proof) // 2], b"", proof + b"x", b"\0" * len(proof)):
        (folder / "proof").write_bytes(torn)
        assert box.attempt()["liveness"] == "dead"


def test_liveness_needs_boot_namespace_pid_and_start_time(box: Any) -> None:
    box.run("true")
    folder = box.folder()
    record = json.loads((folder / "pid").read_text())
    for name in ("exit", "proof"):
        (folder / name).unlink()
    mine = {**record, "pid": os.getpid()}

    def liveness(**changes: Any) -> Any:
        (folder / "pid").write_text(json.dumps({**mine, **changes}))
        return box.attempt()

    stat = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    assert liveness(start=1)["liveness"] == "dead"
    assert liveness(start=int(stat[19]))["liveness"] == "unsupervised"
    rebooted = liveness(start=int(stat[19]), boot="another")
    assert rebooted["liveness"] == "dead" and not rebooted["same_boot"] and "restarted" in rebooted["exit"]["detail"]
    assert liveness(start=1, ns="pid:[1]")["liveness"] == "unknown"
    with pytest.raises(AgentError, match="unknown"):
        box.start("true")
