"""What a task's end is worth: exit classes, outputs, inputs, checks, retries, and what is left alone. Through a real agent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from albor_pipeline.agent import attempts
from albor_pipeline.agent.layout import Layout
from albor_pipeline.transport import local
from albor_pipeline.transport.client import AgentError

SAVES = """
import pathlib, signal, time
def save(*_):
    time.sleep(3)
    pathlib.Path("saved").touch()
    raise SystemExit(143)
signal.signal(signal.SIGTERM, save)
pathlib.Path("up").touch()
while True:
    signal.pause()
"""


def test_a_good_task_is_proven_with_the_digest_of_its_outputs(box: Any) -> None:
    end = box.run("mkdir -p out; echo 1 > out/a; echo 2 > b", outputs=[{"path": "out"}, {"path": "b"}])
    assert end["liveness"] == "ended"
    assert end["exit"]["class"] == "ok" and end["exit"]["code"] == 0
    assert end["exit"]["outputs"]["out"]["files"] == 1 and end["exit"]["outputs"]["out"]["size_bytes"] == 2
    found = box.client.request("probe", items=[{"op": "tree", "path": "out"}, {"op": "tree", "path": "b"}])["results"]
    assert [item["root"] for item in found] == [end["exit"]["outputs"][name]["root"] for name in ("out", "b")]
    assert end["parts"] == {"command": {"": "mkdir -p out; echo 1 > out/a; echo 2 > b"}}


@pytest.mark.parametrize(
    ("script", "exit_class", "detail", "code"),
    [
        ("exit 7", "error", "exit 7", 7),
        ("kill -9 $$", "killed", "killed by SIGKILL", None),
        ("kill -SEGV $$", "killed", "killed by SIGSEGV", None),
        ("echo 'torch.OutOfMemoryError: CUDA out of memory. Tried'; exit 1", "oom", "out of memory", 1),
    ],
)
def test_a_bad_end_says_what_was_seen(box: Any, script: str, exit_class: str, detail: str, code: int | None) -> None:
    end = box.run(script)["exit"]
    assert end["class"] == exit_class and end["code"] == code
    assert detail in end["detail"]


def test_a_gpu_fault_counts_only_for_a_task_that_has_a_gpu(box: Any) -> None:
    script = "echo 'CUDA error: an illegal memory access was encountered'; exit 1"
    assert box.run(script, "plain")["exit"]["class"] == "error"
    end = box.run(script, "on-gpu", needs={"gpu": 1}, total={"gpu": 1, "cpu": 9, "memory_bytes": 0})["exit"]
    assert end["class"] == "gpu" and "illegal memory access" in end["detail"]


def test_a_command_that_is_not_there_is_named(box: Any) -> None:
    end = box.run("", argv=["no-such-program", "x"])["exit"]
    assert end["class"] == "error" and "no-such-program" in end["detail"]
    assert "no-such-program" in box.log()
    assert "nowhere" in box.run("true", "u", cwd="nowhere")["exit"]["detail"]


def test_a_declared_output_that_is_missing_fails_the_task_by_name(box: Any) -> None:
    end = box.run("true", outputs=[{"path": "models/x"}])["exit"]
    assert end["class"] == "error" and end["code"] == 0
    assert end["detail"] == "declared output models/x is missing"


def test_the_completion_check_decides(box: Any) -> None:
    end = box.run("echo 1 > o", outputs=[{"path": "o"}], completion_check=["sh", "-c", "grep -q 2 o"])["exit"]
    assert end["class"] == "error" and end["detail"].startswith("completion_check did not pass")
    end = box.run("echo 2 > o", outputs=[{"path": "o"}], completion_check=["sh", "-c", "grep -q 2 o"])["exit"]
    assert end["class"] == "ok"


def test_an_input_that_changes_meanwhile_fails_the_task_by_name(box: Any) -> None:
    (box.root / "data").write_text("one")
    root = box.client.request("probe", items=[{"op": "tree", "path": "data"}])["results"][0]["root"]
    end = box.run("echo two > data", inputs=[{"path": "data", "root": root}])["exit"]
    assert end["class"] == "error" and end["detail"] == "input data changed while the task ran"
    end = box.run("true", inputs=[{"path": "data", "root": root}])["exit"]
    assert end["detail"] == "input data changed before the task started"


def test_an_input_that_was_only_touched_is_unchanged(box: Any) -> None:
    (box.root / "data").write_text("one")
    root = box.client.request("probe", items=[{"op": "tree", "path": "data"}])["results"][0]["root"]
    assert box.run("touch data", inputs=[{"path": "data", "root": root}])["exit"]["class"] == "ok"


def test_timeout_stops_the_task_and_all_it_started(box: Any) -> None:
    end = box.run("sh -c 'trap \"\" TERM; echo $$ > pid; sleep 60' & wait", timeout_s=0.4, grace_s=0.2)["exit"]
    assert end["class"] == "timeout" and "0.4 s" in end["detail"]
    assert not Path("/proc", (box.root / "pid").read_text().strip()).exists()


def test_an_end_is_not_reported_while_a_process_that_left_the_session_lives(box: Any) -> None:
    end = box.run("setsid sh -c 'echo $$ > pid; exec sleep 60' >/dev/null 2>&1 & until [ -s pid ]; do sleep 0.01; done")
    assert end["exit"]["class"] == "ok"
    assert not Path("/proc", (box.root / "pid").read_text().strip()).exists()


def test_a_silent_heartbeat_is_a_hang_and_none_declared_is_no_verdict(box: Any) -> None:
    end = box.run('touch "$ALBOR_HEARTBEAT"; sleep 60', heartbeat_s=0.5)["exit"]
    assert end["class"] == "hang" and end["detail"] == "no heartbeat for 0.5 s"
    beating = 'for i in 1 2 3 4 5 6 7 8; do touch "$ALBOR_HEARTBEAT"; sleep 0.1; done'
    assert box.run(beating, heartbeat_s=0.5)["exit"]["class"] == "ok"
    assert box.run("sleep 0.7")["exit"]["class"] == "ok"


def test_cancel_ends_a_running_task(box: Any) -> None:
    number = box.start("echo $$ > pid; sleep 60")
    box.until(lambda: (box.root / "pid").exists())
    box.client.request("signal", resource="t", number=number, how="cancel")
    assert box.ended()["exit"]["class"] == "cancelled"


def test_what_a_stopped_shell_leaves_has_the_rest_of_the_grace_to_save(box: Any) -> None:
    """The shell of a script ends at TERM, before the trainer that it waits for."""
    (box.root / "save.py").write_text(SAVES)
    number = box.start(f"{sys.executable} save.py; true", grace_s=30)
    box.until(lambda: (box.root / "up").exists())
    box.client.request("signal", resource="t", number=number)
    assert box.ended()["exit"]["class"] == "cancelled"
    assert (box.root / "saved").exists()


def test_an_attempt_without_a_supervisor_has_the_grace_of_its_spec(box: Any) -> None:
    (box.root / "save.py").write_text(SAVES)
    box.start(f"exec {sys.executable} save.py", grace_s=0.2)
    box.until(lambda: (box.root / "up").exists())
    box.kill_supervisor()
    box.ended(name="unsupervised")
    reply = box.client.request("signal", resource="t", number=1)
    assert (reply["liveness"], reply["grace_s"]) == ("unsupervised", 0.2)
    assert box.ended()["liveness"] == "dead" and not (box.root / "saved").exists()


def test_retries_are_made_for_the_named_classes_only(box: Any) -> None:
    retry = {"attempts": 3, "backoff_s": 0.05, "on": ["error"]}
    end = box.run("echo x >> tries; [ $(wc -l < tries) = 3 ] && echo 1 > o", outputs=[{"path": "o"}], retry=retry)
    assert end["exit"]["class"] == "ok" and end["tries"] == 3 and end["number"] == 1
    assert "try 3 of 3" in box.log()
    end = box.run("kill -9 $$", "u", retry=retry)
    assert end["exit"]["class"] == "killed" and end["tries"] == 1


def test_a_task_is_told_where_it_is(box: Any) -> None:
    end = box.run(
        "env > seen; pwd > here; cat '{attempt}'/config.json; cat > stdin",
        needs={"gpu": 2, "cpu": 4},
        total={"gpu": 4, "cpu": 9, "memory_bytes": 0},
        env={"MINE": "é $x"},
        files={"config.json": '{"lr": 1}'},
        cwd="sub dir" if (box.root / "sub dir").mkdir() is None else "",
    )
    folder = box.root / "sub dir"
    seen = dict(line.split("=", 1) for line in (folder / "seen").read_text().splitlines())
    assert end["exit"]["class"] == "ok"
    assert (folder / "here").read_text().strip() == str(folder) and (folder / "stdin").read_text() == ""
    assert seen["ALBOR_ATTEMPT"] == str(box.folder()) and seen["ALBOR_MACHINE"] == "box" and seen["ALBOR_GRACE_S"] == "2"
    assert (
        seen["ALBOR_WORK"] == str(box.root / ".albor" / "work" / "t" / "abababababab")
        and Path(seen["ALBOR_WORK"]).is_dir()
    )
    assert seen["CUDA_VISIBLE_DEVICES"] == "0,1" and seen["OMP_NUM_THREADS"] == "4" and seen["MINE"] == "é $x"
    assert box.log() == '{"lr": 1}'


def test_no_value_of_the_environment_reaches_a_file_of_ours(box: Any) -> None:
    box.run("true", env={"TOKEN": "hunter2-hunter2"})
    for path in (box.root / ".albor").rglob("*"):
        assert not path.is_file() or b"hunter2-hunter2" not in path.read_bytes(), path


def test_progress_and_summary_are_read_from_the_attempt_folder(box: Any) -> None:
    script = """echo '{"step": 1}' > "$ALBOR_ATTEMPT"/metrics.jsonl; printf '{"step": 2}\\n{"torn' >> "$ALBOR_ATTEMPT"/metrics.jsonl
    echo '{"metrics": {"loss": 2.5}, "headline": "h", "other": 1}' > "$ALBOR_ATTEMPT"/result.json; until [ -e go ]; do sleep 0.01; done"""
    number = box.start(script)
    box.until(lambda: (box.folder() / "result.json").exists())
    running = box.attempt("t", number)
    assert running["liveness"] == "alive" and running["progress"] == {"step": 2} and running["exit"] is None
    (box.root / "go").touch()
    assert box.ended()["exit"]["summary"] == {"metrics": {"loss": 2.5}, "headline": "h"}


def test_a_second_start_of_a_running_resource_is_refused_and_names_the_first(box: Any) -> None:
    box.start("sleep 60")
    with pytest.raises(AgentError) as refused:
        box.start("true")
    assert refused.value.code == "busy" and refused.value.attempt["number"] == 1
    assert "attempt 1 of t is alive" in refused.value.message
    assert box.start("true", "other") == 1


def test_a_request_that_was_overtaken_starts_nothing(box: Any) -> None:
    box.run("echo x >> starts")
    with pytest.raises(AgentError) as refused:
        box.start("echo x >> starts", number=1)
    assert refused.value.code == "stale"
    assert (box.root / "starts").read_text() == "x\n"


def test_of_many_starts_at_once_exactly_one_wins(box: Any) -> None:
    for client in [box.lead(box.connect(lineage)) for lineage in ("M", "L")]:
        for _ in range(10):
            client.submit("start", **box.spec("echo x >> starts; sleep 0.3"))
    deadline, replies = time.monotonic() + 10, []
    while len(replies) < 20 and time.monotonic() < deadline:
        replies += [message for client in box.clients for message in client.poll(0.05) if message.kind == "reply"]
    assert sum(1 for reply in replies if reply.error is None) == 1
    assert {reply.error.code for reply in replies if reply.error} <= {"busy", "stale"}
    box.until(lambda: box.attempt()["liveness"] == "ended")
    assert (box.root / "starts").read_text() == "x\n"


def test_only_acknowledged_attempts_are_collected_and_three_are_kept(box: Any) -> None:
    for number in range(1, 6):
        assert box.run("true")["number"] == number
    assert len(box.client.request("attempts", resource="t")["attempts"]) == 5
    for number in range(1, 6):
        for _twice in range(2):
            box.client.request("ack", resource="t", number=number)
    box.until(lambda: len(box.client.request("attempts", resource="t")["attempts"]) == 3)
    found = box.client.request("attempts", resource="t")["attempts"]
    assert [attempt["number"] for attempt in found] == [3, 4, 5] and all(attempt["acked"] for attempt in found)
    assert box.start("true") == 6


def test_what_is_collected_while_it_is_acknowledged_once_more_was_acknowledged(box: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(1, 5):
        box.run("true")
        box.client.request("ack", resource="t", number=number)
    layout = Layout(str(box.root))

    def overtaken(*where: Any) -> str:
        attempts.collect(layout, "t")
        return find(*where)

    find = attempts.find
    monkeypatch.setattr(attempts, "find", overtaken)
    assert attempts.acknowledge(layout, "t", 1) is False


@pytest.mark.parametrize("moment", ["rename", "scandir", "rmdir"])
def test_two_may_collect_at_once(box: Any, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    for _ in range(6):
        number = box.run("true")["number"]
        (box.root / ".albor" / "attempts" / "t" / f"{number}-{'ab' * 6}" / "ack").touch()
    layout = Layout(str(box.root))
    call = getattr(os, moment)

    def overtaken(*where: Any) -> Any:
        monkeypatch.setattr(os, moment, call)
        attempts.collect(layout, "t")
        return call(*where)

    monkeypatch.setattr(os, moment, overtaken)
    attempts.collect(layout, "t")
    left = sorted(path.name for path in (box.root / ".albor" / "attempts" / "t").iterdir() if path.name != ".lock")
    assert left == [f"{number}-{'ab' * 6}" for number in (4, 5, 6)]


def test_an_attempt_that_runs_cannot_be_acknowledged(box: Any) -> None:
    number = box.start("sleep 60")
    with pytest.raises(AgentError, match="has not ended"):
        box.client.request("ack", resource="t", number=number)
    with pytest.raises(AgentError, match="no attempt 9"):
        box.client.request("ack", resource="t", number=9)


@pytest.mark.parametrize(
    "changes",
    [
        {"argv": []},
        {"argv": "sh"},
        {"env": {"A=B": "c"}},
        {"env": {"A": 1}},
        {"fingerprint": "x"},
        {"files": {"../up": "x"}},
        {"files": {"exit": "x"}},
        {"outputs": [{"path": ""}]},
        {"timeout_s": "soon"},
        {"resource": ""},
        {"argv": ["a\0b"]},
    ],
)
def test_a_spec_that_cannot_be_used_is_refused_before_anything_is_made(box: Any, changes: dict[str, Any]) -> None:
    with pytest.raises(AgentError) as refused:
        box.start("true", **changes)
    assert refused.value.code == "bad-spec"
    assert not (box.root / ".albor" / "attempts").exists()


def test_odd_resource_names_cannot_leave_their_folder(box: Any) -> None:
    for name in ("../../up", ".hidden", "a/b c@m", "ü\n%", "x" * 190):
        assert box.run("true", name)["resource"] == name
    assert sorted(path.name for path in box.root.iterdir()) == [".albor"]
    assert {attempt["resource"] for attempt in box.client.request("attempts")["attempts"]} >= {"../../up", ".hidden"}


def test_a_task_inherits_no_descriptor_no_blocked_and_no_ignored_signal(box: Any) -> None:
    box.run(
        "", argv=["sh", "-c", "ls /proc/self/fd | sort | tr '\\n' ' '; grep -E 'Sig(Blk|Ign)' /proc/self/status; umask"]
    )
    *descriptors, _blk, blocked, _ign, ignored, umask = box.log().split()
    assert descriptors == ["0", "1", "2", "3"] and umask == "0022", "3 is the listing's own"
    assert int(blocked, 16) == 0 and int(ignored, 16) & 0x7FFFFFFF == 0, "32 and 33 are the C library's"


def test_a_full_disk_delays_the_proof_and_loses_nothing(box: Any) -> None:
    box.start("mkdir '{attempt}/proof'; echo 1 > o", outputs=[{"path": "o"}])
    box.until(lambda: "trying again" in box.log())
    assert box.attempt()["liveness"] == "alive"
    (box.folder() / "proof").rmdir()
    assert box.ended()["exit"]["class"] == "ok"


def test_without_a_digest_nothing_is_started(box: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "env")], check=True)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "env" / "bin" / "python"))
    monkeypatch.setattr(local, "_digest_folder", lambda: "")
    monkeypatch.delenv("ALBOR_TEST_AGENT", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    box.connect()
    with pytest.raises(AgentError) as refused:
        box.start("true")
    assert refused.value.code == "no-blake3" and "b3sum" in refused.value.message


def test_a_supervisor_that_is_told_to_stop_ends_its_task_and_says_why(box: Any) -> None:
    box.start("echo up; sleep 60")
    box.until(lambda: "up" in box.log())
    os.kill(box.record()["pid"], signal.SIGTERM)
    end = box.ended()["exit"]
    assert end["class"] == "killed" and end["detail"] == "its supervisor was told to stop by SIGTERM"


def test_cancel_is_heard_between_tries_and_in_the_completion_check(box: Any) -> None:
    box.start("echo tried; exit 1", retry={"attempts": 5, "backoff_s": 60, "on": ["error"]})
    box.until(lambda: "try 2 of 5" in box.log())
    box.client.request("signal", resource="t", number=1)
    assert box.ended()["exit"]["class"] == "cancelled"
    box.start("true", "u", completion_check=["sh", "-c", "echo checking; sleep 60"])
    box.until(lambda: "checking" in box.log("u"))
    box.client.request("signal", resource="u", number=1)
    assert box.ended("u")["exit"]["class"] == "cancelled"


@pytest.mark.parametrize(
    ("check", "detail"),
    [
        (["no-such-check"], "command not found"),
        (["sh", "-c", "exit 3"], "exit 3"),
        (["sh", "-c", "kill -9 $$"], "signal 9"),
    ],
)
def test_a_completion_check_that_cannot_pass_says_how(box: Any, check: list[str], detail: str) -> None:
    end = box.run("true", completion_check=check)["exit"]
    assert end["class"] == "error" and "completion_check" in end["detail"] and detail in end["detail"]


def test_a_file_that_cannot_be_executed_is_not_a_missing_one(box: Any) -> None:
    (box.root / "tool").write_text("x")
    assert "Permission denied" in box.run("", argv=["./tool"])["exit"]["detail"]
    end = box.run("", "u", argv=["tool"], env={"PATH": str(box.root)})["exit"]
    assert "Permission denied" in end["detail"] and "tool" in end["detail"]


def test_cancelling_what_has_ended_changes_nothing(box: Any) -> None:
    box.run("true")
    assert box.client.request("signal", resource="t", number=1)["liveness"] == "ended"
    with pytest.raises(AgentError, match="unknown `how`"):
        box.client.request("signal", resource="t", number=1, how="tickle")
