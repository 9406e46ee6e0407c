"""Files and environments brought about in a run: created, repaired, and refused to be called done when they are not as planned."""

from __future__ import annotations

import pytest
from support_run import Project

from albor_pipeline.resources.file import FileKind

pytestmark = pytest.mark.slow


def file(project: Project, *lines: str, name: str = "notes") -> str:
    return f"  {name}:\n    type: file\n    path: {project.root}/srv/{name}.txt\n" + "".join(f"    {line}\n" for line in lines)


def test_a_file_is_created_then_updated_then_left_alone(project: Project) -> None:
    target = project.root / "srv" / "notes.txt"
    project.manifest(file(project, "content: one", "mode: 0640"))
    assert "created" in project.run("apply").err
    assert (target.read_text(), target.stat().st_mode & 0o777) == ("one", 0o640)
    project.manifest(file(project, "content: two", "mode: 0600"))
    assert "updated" in project.run("apply").err
    assert (target.read_text(), target.stat().st_mode & 0o777) == ("two", 0o600)
    assert project.run("apply").out == "Nothing to do: 1 unchanged.\n"


def test_bytes_that_are_there_already_are_adopted_and_others_need_a_yes(project: Project) -> None:
    project.manifest(file(project, "content: one"))
    target = project.file("srv/notes.txt", "mine")
    assert project.run("apply").code == 1
    assert target.read_text() == "mine"
    project.file("srv/notes.txt", "one")
    assert project.actions()["notes"] == ("adopt", "already there")
    assert project.run("apply").code == 0


def test_what_is_not_as_planned_after_converging_fails_with_both_values(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.manifest(file(project, "content: one", "mode: 0640"))
    planned = FileKind.converge

    def careless(*args: object) -> list[dict[str, object]]:
        return [{**item, "mode": "0600"} for item in planned(*args)]  # type: ignore[arg-type]

    monkeypatch.setattr(FileKind, "converge", careless)
    said = project.run("apply")
    assert said.code == 3
    assert "mode: planned 0640, found 0600 after converge" in said.err
    assert project.row("notes")["status"] == "failed"
    monkeypatch.undo()
    assert project.run("apply", "--yes").code == 0


def test_a_place_that_cannot_be_written_fails_with_the_machines_words(project: Project) -> None:
    project.file("srv", "a file where a folder must be")
    project.manifest(file(project, "content: one"))
    said = project.run("apply", "--yes")
    assert said.code == 3
    assert "FAILED" in said.err
    assert (project.root / "srv").read_text() == "a file where a folder must be"


def test_an_environment_whose_packages_do_not_exist_fails_with_the_end_of_what_pip_said(project: Project) -> None:
    text = "  env:\n    type: python_env\n    requirements: [./no-such-wheel.whl]\n"
    project.manifest(text, "  use:\n    type: task\n    command: echo never\n    depends_on: [env]\n")
    said = project.run("apply")
    assert said.code == 3
    assert "no-such-wheel" in said.err
    assert "1 failed, 1 not started" in said.out
