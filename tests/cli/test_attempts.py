"""`logs`, `ps`, `attach`, `cancel` and Ctrl-C: attempts are their own masters, and none of these verbs needs the lock."""

from __future__ import annotations

import io
import json
import os
import select
import signal
import sys
import time
from pathlib import Path

import pytest

from albor_pipeline.agent.liveness import lock_is_held
from albor_pipeline.cli.apply import told
from albor_pipeline.run.limits import Leave
from albor_pipeline.run.signals import Interrupts
from cli.builder import LIMIT_S, Project, Said


def test_logs_prints_the_newest_attempt(project: Project) -> None:
    project.chain().edit("wc -l < words.txt > count.txt", "echo out; echo err >&2; touch count.txt").does("apply")
    project.says("logs", "count", out="""
        out
        err
    """)


def test_logs_of_an_older_attempt(project: Project) -> None:
    project.chain().edit("wc -l < words.txt > count.txt", "echo first; touch count.txt").does("apply")
    project.edit("echo first", "echo second").does("apply")
    project.says("logs", "count", out="second").says("logs", "count", "--attempt", "1", out="first")


def test_logs_of_the_last_minutes(project: Project) -> None:
    project.manifest("t: {type: task, command: echo long ago; echo just now}").does("apply")
    (log,) = project.root.glob(".albor/attempts/t/*/log")
    hour_ago = int(time.time()) - 3600
    log.with_name("log.times").write_text(f"{hour_ago} 9\n")
    project.says("logs", "t", "--since", "10m", out="just now").says("logs", "t", "--since", "2h", out="long ago\njust now")
    os.utime(log, (hour_ago, hour_ago))
    project.says("logs", "t", "--since", "10m")
    said = project.run("logs", "t", "--since", "soon")
    assert said.exit == 64 and "--since takes a time such as 90s, 10m or 1h30m, not 'soon'" in said.err


def test_logs_of_a_task_that_never_ran(project: Project) -> None:
    project.chain().says("logs", "count", exit=1, err="""
        error[no-attempt]: no attempt of `count` is on localhost
          = what was kept of its logs is in state/runs/
    """)


def test_nothing_is_running(project: Project) -> None:
    project.chain().does("apply").says("ps", out="Nothing is running.")


def test_ps_lists_what_is_alive(project: Project) -> None:
    process = project.slow().start("apply")
    project.wait_for("begun")
    said = project.run("ps")
    assert (said.exit, said.err) == (0, "")
    assert said.out.splitlines()[1].split()[:4] == ["localhost", "slow", "1", "alive"]
    assert [row["resource"] for row in project.json("ps")["attempts"]] == ["slow"]
    project.does("cancel", "slow").end(process)


def test_ps_tells_how_far_a_task_is_and_how_fast(project: Project) -> None:
    told = '{"step": 24000, "of": 38349, "loss": 2.412, "tokens_per_s": 81234.5, "eta_s": 5400}'
    project.file("told.jsonl", told + "\n").slow().edit("touch begun;", "cp told.jsonl $ALBOR_ATTEMPT/metrics.jsonl; touch begun;")
    process = project.start("apply")
    project.wait_for("begun").wait(lambda: project.json("ps")["attempts"][0]["progress"])
    project.says("ps", out="""
          machine    resource  attempt  state  since             progress
          localhost  slow      1        alive  DAY TIME  step 24,000 of 38,349 (62.6%), loss 2.41, 81,234 tok/s, ETA 1 h 30 min
    """)
    project.does("cancel", "slow").end(process)


def test_cancel_ends_the_task_and_the_run_tells(project: Project) -> None:
    process = project.slow().start("apply")
    project.wait_for("begun").says("cancel", "slow", out="slow@localhost: attempt 1 ended (cancelled).")
    said = project.end(process)
    assert said.exit == 3
    assert "cancelled" in said.err and "1 cancelled" in said.out
    project.holds("never", None).says("cancel", "slow", out="slow@localhost: nothing is running (attempt 1 is over).")


@pytest.mark.slow
def test_a_cancelled_task_saves_within_the_grace_it_asked_for(project: Project) -> None:
    """Saving takes longer than the 10 s of a task that asks for nothing; the shell above the one that saves ends at once."""
    saves = "trap 'sleep 11; touch saved; exit 143' TERM; touch begun; while :; do sleep 0.1; done"
    project.file("save.sh", saves).manifest("t: {type: task, command: bash save.sh; touch never, grace: 60s}")
    process = project.start("apply")
    project.wait_for("begun").says("cancel", "t", out="t@localhost: attempt 1 ended (cancelled).").holds("saved", "").holds("never", None)
    project.edit("grace: 60s", "grace: 5s")
    assert "1 cancelled" in project.end(process).out and "code" not in project.run("plan").out


def test_what_follows_a_log_into_a_pipe_is_read_as_it_comes_and_to_the_end(project: Project) -> None:
    run = project.slow().start("apply")
    project.wait_for("begun")
    attached, followed = project.start("attach", "slow"), project.start("logs", "-f", "slow")
    for process in (attached, followed):
        assert process.stdout is not None and select.select([process.stdout], [], [], LIMIT_S / 2)[0], "nothing came while the task ran"
    project.does("cancel", "slow")
    project.end(run)
    said = project.end(attached)
    assert (said.out, said.exit) == ("begin\n", 3)
    assert said.err.startswith("slow, attempt 1: ended: cancelled.")
    assert project.end(followed) == Said("begin\n", "", 0)


def test_attach_to_what_is_over_prints_its_log(project: Project) -> None:
    project.chain().does("apply").says("attach", "count", err="count, attempt 1: ended well. The next apply records it.")


@pytest.mark.slow
def test_one_interrupt_leaves_the_task_running_and_the_next_run_attaches(project: Project) -> None:
    project.slow().edit("sleep 60; touch never", "while ! test -e go; do sleep 0.05; done; echo end")
    process = project.start("apply")
    project.wait_for("begun")
    process.send_signal(signal.SIGINT)
    said = project.end(process)
    assert said.exit == 130
    assert "  slow goes on on localhost; to watch it: albor-pipeline attach slow\n" in said.out
    assert "! slow  task  localhost  attach  running since DAY TIME" in project.run("plan").out
    project.file("go", "")
    again = project.run("apply")
    assert again.exit == 0
    project.says("logs", "slow", out="""
        begin
        end
    """)


def left(project: Project) -> Path:
    """The log of a task that goes on until `go` is there, whose controller was killed two hours ago; by then it had printed `begin`."""
    project.slow().edit("touch begun; sleep 60; touch never", "touch begun; while ! test -e go; do sleep 0.05; done")
    project.edit("inputs: [in.txt]", "inputs: [in.txt]\n    env: {KEY: '{{secrets.api-key}}'}")
    process = project.start("apply")
    project.wait_for("begun")
    process.kill()
    project.end(process)
    (log,) = project.root.glob(".albor/attempts/slow/*/log")
    (lease,) = project.root.glob(".albor/leases/*")
    project.wait(lambda: not lock_is_held(str(lease)))
    now = int(time.time())
    log.with_name("log.times").write_text(f"{now - 10000} {len('begin') + 1}\n")
    os.utime(log, (now - 10000, now - 10000))
    os.utime(lease, (now - 7201, now - 7201))
    return log


def test_apply_that_attaches_prints_what_was_missed_and_masks_it(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORJAR_SECRET_API_KEY", "hunter2-correct")
    with left(project).open("a") as log:
        log.write("".join(f"step {n}\n" for n in range(1, 24)) + "the key is hunter2-correct\n")
    again = project.start("apply")
    assert again.stderr is not None
    said = [next(again.stderr) for _ in range(4)]
    project.file("go", "")
    said += again.stderr.readlines()
    assert again.wait() == 0
    assert "  attached   running since " in said[1]
    more = "4 lines more: albor-pipeline logs slow\n"
    assert said[2].split(None, 1)[1] == f"localhost  slow  printed    unwatched for 2 h 00 min, from just before    {more}"
    steps = [f"            | step {n}\n" for n in range(5, 24)]
    assert said[3:23] == [*steps, "            | the key is ***\n"] and " done " in said[23] and len(said) == 24, said


def test_apply_that_attaches_and_missed_nothing_says_no_more(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORJAR_SECRET_API_KEY", "hunter2-correct")
    left(project)
    again = project.start("apply", "--json")
    assert again.stderr is not None
    head = [next(again.stderr), next(again.stderr)]
    project.file("go", "")
    rest = again.stderr.readlines()
    said = project.end(again)
    assert "attached" in head[1] and "done" in rest[0] and json.loads(said.out)["counts"] == {"done": 1}, (said, rest)


@pytest.mark.slow
def test_a_second_interrupt_cancels(project: Project) -> None:
    process = project.slow().start("apply")
    project.wait_for("begun")
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("Stopping"):
            break
    process.send_signal(signal.SIGINT)
    said = project.end(process)
    assert said.exit == 130
    assert "1 cancelled" in said.out
    project.holds("never", None)


def test_an_interrupt_in_the_middle_of_a_line_is_told(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    class Interrupted(io.RawIOBase):
        """A terminal at which Ctrl-C is typed whenever something is written."""

        def writable(self) -> bool:
            return True

        def write(self, data: object) -> int:
            os.kill(os.getpid(), signal.SIGINT)
            return len(bytes(data))  # type: ignore[call-overload, no-any-return]

    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(io.BufferedWriter(Interrupted())))
    with Interrupts(told) as interrupts:
        print("a line", file=sys.stderr, flush=True)
        assert interrupts.leave() is Leave.STOP
    assert capfd.readouterr().err.startswith("\nStopping: nothing new starts")
