"""What a short task is spared: a supervisor that is free takes the next attempt, and plain words need no shell."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from albor_pipeline.agent.child import plain_words


def test_a_free_supervisor_takes_the_next_attempt(box: Any) -> None:
    assert box.run("exit 3", "one")["exit"]["code"] == 3
    assert box.run("echo two", "two")["exit"]["class"] == "ok"
    assert box.record("one")["pid"] == box.record("two")["pid"]
    assert box.log("one") == "" and box.log("two") == "two\n"


def test_a_supervisor_that_is_not_free_takes_none(box: Any) -> None:
    box.start("until [ -e go ]; do sleep 0.02; done", "long")
    box.run("true", "next")
    assert box.record("long")["pid"] != box.record("next")["pid"]
    (box.root / "go").touch()
    assert box.ended("long")["exit"]["class"] == "ok"


def test_killing_a_free_supervisor_harms_nobody(box: Any) -> None:
    box.run("true", "one")
    box.kill_supervisor("one")
    assert box.attempt("one")["exit"]["class"] == "ok"
    assert box.run("true", "two")["exit"]["class"] == "ok"
    assert box.record("one")["pid"] != box.record("two")["pid"]


def test_a_cancel_that_comes_late_does_not_end_the_next_attempt(box: Any) -> None:
    box.run("true", "one")
    pid = box.record("one")["pid"]
    os.kill(pid, signal.SIGUSR1)
    box.start("until [ -e go ]; do sleep 0.02; done", "two")
    assert box.record("two")["pid"] == pid
    os.kill(pid, signal.SIGUSR1)
    (box.root / "go").touch()
    assert box.ended("two")["exit"]["class"] == "ok"


def test_free_supervisors_go_with_their_agent(box: Any) -> None:
    box.run("true", "one")
    pid = box.record("one")["pid"]
    box.clients.pop().close()
    box.until(lambda: not Path(f"/proc/{pid}").exists())


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("cp in/1.txt out/1.txt", ["cp", "in/1.txt", "out/1.txt"]),
        ("  ls -la --color=never ", ["ls", "-la", "--color=never"]),
        ("cd out", []),
        ("A=1 env", []),
        ("echo *", []),
        ("cat in | wc", []),
        ("cp '$HOME' x", []),
        ("a\nb", []),
        ("", []),
        ("if", []),
    ],
)
def test_only_words_that_mean_nothing_to_a_shell_are_run_without_one(command: str, words: list[str]) -> None:
    assert plain_words(["/bin/bash", "-c", command], {}) == words


def test_what_bash_was_told_by_the_environment_still_reaches_it() -> None:
    argv = ["/bin/bash", "-c", "cp a b"]
    for name in ("BASH_ENV", "BASH_FUNC_cp%%", "SHELLOPTS"):
        assert plain_words(argv, {name: "x"}) == []
    assert plain_words(["/bin/sh", "-c", "cp a b"], {}) == []


def test_a_script_without_a_first_line_and_a_missing_command_are_left_to_bash(box: Any) -> None:
    script = box.root / "script"
    script.write_text("echo from the script; pwd\n")
    script.chmod(0o755)
    assert box.run("", "script", argv=["/bin/bash", "-c", "./script"])["exit"]["class"] == "ok"
    assert box.log("script") == f"from the script\n{box.root}\n"
    end = box.run("", "missing", argv=["/bin/bash", "-c", "no-such-command at-all"])["exit"]
    assert end["code"] == 127 and "no-such-command: command not found" in box.log("missing")


def test_a_command_without_a_shell_is_told_its_folder(box: Any) -> None:
    (box.root / "sub").mkdir()
    box.run("", argv=["/bin/bash", "-c", "printenv PWD"], cwd="sub")
    assert box.log() == f"{box.root}/sub\n"
