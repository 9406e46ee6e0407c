"""Work that outlived its controller is taken over once it has ended; bytes that it did not make are never taken for its own."""

from __future__ import annotations

import json
import os
import shutil
import signal

import pytest
from support_run import Project, task

pytestmark = pytest.mark.slow


def ladder(project: Project, word: str) -> None:
    project.manifest(
        task("first", f"sleep 0.3; echo {word} > first.txt", "outputs: [first.txt]"),
        task("then", "cp first.txt then.txt", "inputs: [first]", "outputs: [then.txt]"),
    )


def rerun_that_loses_its_controller(project: Project) -> None:
    ladder(project, "one")
    assert project.run("apply").code == 0
    ladder(project, "two")
    process = project.start("apply")
    project.wait(lambda: len(project.starts()) == 3)
    project.kill(process)


def test_a_rerun_that_ended_without_its_controller_is_adopted_not_made_again(project: Project) -> None:
    rerun_that_loses_its_controller(project)
    project.quiet()
    assert "has ended; the next apply records it" in project.run("status").out
    assert project.actions()["first"][0] == "adopt"
    assert project.run("apply").code == 0
    assert project.starts() == ["first", "then", "first", "then"]
    assert (project.root / "then.txt").read_text() == "two\n"


def test_an_ended_rerun_whose_output_was_edited_since_is_made_again_after_asking(project: Project) -> None:
    rerun_that_loses_its_controller(project)
    project.quiet()
    project.file("first.txt", "mine\n")
    action, reason = project.actions()["first"]
    assert (action, reason[:27]) == ("rerun", "output first.txt modified: ")
    refused = project.run("apply")
    assert refused.code == 1 and "needs-yes" in refused.err
    assert project.run("apply", "--yes").code == 0
    assert (project.root / "then.txt").read_text() == "two\n"
    assert [path.read_text() for path in project.root.glob(".albor/kept/*/first/first.txt")] == ["mine\n"]


def test_with_the_state_lost_a_deleted_output_is_put_back_and_the_rest_adopted(project: Project) -> None:
    ladder(project, "one")
    assert project.run("apply").code == 0
    shutil.rmtree(project.root / "state")
    (project.root / "then.txt").unlink()
    assert {name: action for name, (action, _) in project.actions().items()} == {"first": "adopt", "then": "restore"}
    assert project.run("apply").code == 0
    assert project.starts() == ["first", "then"]


def test_what_is_there_already_is_adopted_when_its_check_passes_and_its_outputs_exist(project: Project) -> None:
    project.file("model.bin", "weights")
    project.manifest(
        task("fetch", "exit 1", "outputs: [model.bin]", "completion_check: grep -q weights model.bin"),
        task("use", "cp model.bin used.bin", "inputs: [fetch]", "outputs: [used.bin]"),
    )
    assert project.actions()["fetch"][0] == "adopt"
    assert project.run("apply").code == 0
    assert project.row("fetch")["origin"] == "found"
    assert project.starts() == ["use"]
    assert project.run("apply").out == "Nothing to do: 2 unchanged.\n"


def test_a_check_that_passes_without_the_outputs_adopts_nothing(project: Project) -> None:
    project.manifest(task("fetch", "echo weights > model.bin", "outputs: [model.bin]", "completion_check: 'true'"))
    assert project.actions()["fetch"] == ("run", "new")


def test_an_interrupted_task_goes_on_with_its_resume_command_in_its_own_work_folder(project: Project) -> None:
    project.manifest(
        task(
            "train", "echo half > $ALBOR_WORK/state; echo $$ > child.pid; exec sleep 60", "outputs: [out.txt]",
            "resume_command: cp $ALBOR_WORK/state out.txt; echo resumed >> starts.log",
        )
    )  # fmt: skip
    process = project.start("apply")
    project.wait(lambda: project.starts("child.pid"))
    project.kill(process)
    (record,) = project.root.glob(".albor/attempts/train/*/pid")
    os.kill(json.loads(record.read_text())["pid"], signal.SIGKILL)
    os.kill(int(project.starts("child.pid")[0]), signal.SIGKILL)
    project.quiet()
    action, reason = project.actions()["train"]
    assert (action, reason[:23]) == ("resume", "interrupted in run 0001")
    assert project.run("apply").code == 0
    assert project.starts() == ["train", "resumed"]
    assert (project.root / "out.txt").read_text() == "half\n"
