"""A run that is killed after the machine did its part and before that is recorded: what it made is known as ours by the next one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from cli.builder import Project

DIES = """
import os, sys
from albor_pipeline.run import converge
converge.Convergence._verified = lambda *_: os.kill(os.getpid(), 9)
from albor_pipeline.cli import main
sys.exit(main(["apply", "--yes"]))
"""


def cut_off(project: Project) -> None:
    """An apply that is killed when the machine has answered and nothing of it is recorded."""
    done = subprocess.run([sys.executable, "-c", DIES], cwd=project.root, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done


def step(project: Project, *argv: str) -> tuple[str, str]:
    found = json.loads(project.run("plan", "--json", *argv).out)["steps"][0]
    return found["action"], found["reason"]["text"]


CONF = "conf: {type: file, path: conf, content: one, post_apply: echo ran >> ran}"


def test_what_was_made_is_ours_and_what_comes_after_it_is_owed(project: Project) -> None:
    cut_off(project.manifest(CONF))
    project.holds("conf", "one")
    assert step(project) == ("update", "interrupted in run 0001")
    assert "begun in run 0001" in project.run("status").out
    project.does("apply").holds("ran", "ran\nran\n").does("apply").holds("ran", "ran\nran\n")
    project.does("destroy", "--yes").holds("conf", None)


def test_it_can_be_destroyed_at_once(project: Project) -> None:
    cut_off(project.manifest(CONF))
    project.does("destroy", "--yes").holds("conf", None)
    assert json.loads(project.run("state", "list", "--json").out)["rows"] == []


def test_it_can_be_pruned_once_it_is_declared_no_more(project: Project) -> None:
    cut_off(project.manifest(CONF))
    project.manifest("other: {type: file, path: other, content: x}").does("apply", "--prune", "--yes").holds("conf", None)


def test_what_was_there_before_stays_for_ever(project: Project) -> None:
    project.file("conf", "theirs").manifest(CONF)
    cut_off(project)
    project.holds("conf", "one").does("apply").does("destroy", "--yes").holds("conf", "one")


def test_another_thing_than_the_one_that_was_begun_is_not_ours(project: Project) -> None:
    cut_off(project.manifest(CONF))
    project.file("elsewhere", "one").edit("path: conf", "path: elsewhere")
    assert step(project) == ("adopt", "already there")
    project.does("apply").does("destroy", "--yes").holds("elsewhere", "one")


def test_a_change_that_was_cut_off_is_no_drift_and_needs_no_yes(project: Project) -> None:
    project.manifest(CONF, "policy: {drift: fail}\n").does("apply").edit("content: one", "content: two")
    cut_off(project)
    assert step(project)[1].startswith("field content") and "recorded" not in step(project)[1]
    project.edit("content: two", "content: three").does("apply").holds("conf", "three")
    project.does("destroy", "--yes").holds("conf", None)


def test_what_failed_after_it_was_made_is_ours_too(project: Project) -> None:
    project.manifest(CONF.replace("echo ran >> ran", "exit 3"))
    assert project.run("apply").exit == 3
    project.edit("exit 3", "echo ran >> ran").does("apply").does("destroy", "--yes").holds("conf", None)


def test_a_row_that_was_begun_can_be_dropped_by_hand(project: Project) -> None:
    cut_off(project.manifest(CONF))
    project.does("state", "rm", "conf").does("apply").does("destroy", "--yes").holds("conf", "one")


def test_a_machine_that_is_lost_in_the_middle_is_not_said_to_go_on_by_itself(project: Project) -> None:
    project.manifest(CONF.replace("echo ran >> ran", "kill -9 $PPID"))
    said = project.run("apply")
    half = "its agent was killed by SIGKILL; what was begun there may be half done: the next apply looks, and finishes it"
    assert said.exit == 6 and half in said.err and "goes on by itself" not in said.err, said
    project.edit("kill -9 $PPID", "echo ran >> ran")
    assert step(project)[1] == "interrupted in run 0001"
    project.does("apply").holds("ran", "ran\n").does("destroy", "--yes").holds("conf", None)


@pytest.mark.slow
def test_a_controller_that_is_killed_in_the_middle_leaves_nothing_that_is_nobodys(project: Project) -> None:
    project.manifest(CONF.replace("echo ran >> ran", "touch began; sleep 60"))
    process = project.start("apply")
    project.wait_for("began")
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    project.edit("touch began; sleep 60", "echo ran >> ran").does("apply").holds("ran", "ran\n")
    project.does("destroy", "--yes").holds("conf", None)
