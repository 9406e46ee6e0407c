"""`apply --detach`: errors and questions here, the run in a process that outlives the terminal."""

from __future__ import annotations

import os
import re
import signal
import time

import pytest

from cli.builder import Project

SLOW = """
slow:
  type: task
  command: echo start >> starts; until [ -e go ]; do sleep 0.05; done; echo end > out.txt
  outputs: [out.txt]
"""


def wait(project: Project, text: str) -> str:
    """The controller's log once it has this text."""
    limit = time.monotonic() + 30
    while True:
        log = (project.root / "state" / "controller.log").read_text()
        if text in log:
            return log
        assert time.monotonic() < limit, log
        time.sleep(0.05)


def pid_of(said: str) -> int:
    (found,) = re.findall(r"kill (\d+)", said)
    return int(found)


def test_the_run_goes_on_without_us_and_says_where_to_look(project: Project) -> None:
    project.manifest(SLOW)
    process = project.start("apply", "--detach")
    said = project.end(process)
    assert said.exit == 0 and "run 0001: up to 1 to do" in said.err, said
    assert "It goes on by itself" in said.out and "tail -f ROOT/state/controller.log" in said.out, said
    assert os.getsid(pid_of(said.out)) == pid_of(said.out), "a terminal that goes takes its session with it"
    assert "1 running" in project.run("status").out
    assert project.run("apply", "--detach").exit == 5, "one controller at a time"
    (project.root / "go").touch()
    wait(project, "Done: 1 done.")
    assert (project.root / "starts").read_text() == "start\n"
    project.says("apply", "--detach", out="Nothing to do: 1 unchanged.")


def test_a_warning_is_shown_once_though_both_processes_have_it(project: Project) -> None:
    """That of the process which asks nothing stands in its log too, where it is read without ours."""
    said = project.manifest(SLOW.replace("  outputs: [out.txt]\n", "")).run("apply", "--detach")
    (project.root / "go").touch()
    assert said.exit == 0 and said.err.count("warning[") == 1 and "run 0001: up to 1 to do" in said.err, said
    assert wait(project, "Done: 1 done.").count("warning[") == 1


def test_a_controller_that_is_stopped_leaves_its_tasks_running(project: Project) -> None:
    said = project.manifest(SLOW).run("apply", "--detach")
    os.kill(pid_of(said.out), signal.SIGTERM)
    wait(project, "slow goes on on localhost")
    (project.root / "go").touch()
    assert project.run("apply").exit == 0 and (project.root / "starts").read_text() == "start\n"


def test_what_is_wrong_is_said_here_and_starts_nothing(project: Project) -> None:
    said = project.manifest("t: {type: task, comand: 'true'}").run("apply", "--detach")
    assert said.exit == 1 and "did you mean `command`?" in said.err
    project.chain().does("apply").file("words.txt", "by hand\n")
    said = project.run("apply", "--detach")
    assert said.exit == 1 and "needs --yes" in said.err, said
    assert not (project.root / "state" / "controller.log").exists()


def test_what_was_agreed_to_here_is_not_asked_again(project: Project) -> None:
    project.chain().does("apply").file("words.txt", "by hand\n")
    said = project.run("apply", "--detach", answer="y")
    assert said.exit == 0, said
    wait(project, "Done: ")
    assert (project.root / "words.txt").read_text() == "one\ntwo\n"


@pytest.mark.parametrize("ends", [0, 3])
def test_a_run_that_is_over_at_once_ends_with_its_code(project: Project, ends: int) -> None:
    said = project.manifest(f"t: {{type: task, command: exit {ends}}}").run("apply", "--detach")
    log = wait(project, "1 done" if ends == 0 else "1 failed.")
    assert said.exit in (0, ends) and "run 0001" in log
