"""Work that outlived its controller is taken over once it has ended; bytes that it did not make are never taken for its own."""

from __future__ import annotations

import shutil

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


def test_with_the_state_lost_a_deleted_output_is_made_again_and_the_rest_adopted(project: Project) -> None:
    ladder(project, "one")
    assert project.run("apply").code == 0
    shutil.rmtree(project.root / "state")
    (project.root / "then.txt").unlink()
    assert {name: action for name, (action, _) in project.actions().items()} == {"first": "adopt", "then": "rerun"}
    assert project.run("apply").code == 0
    assert project.starts() == ["first", "then", "then"]
