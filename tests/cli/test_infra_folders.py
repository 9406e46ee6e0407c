"""A folder that is filled from one of the project: what leaves the source leaves the machine, unless somebody else made or changed it."""

from __future__ import annotations

import json

import pytest

from cli.builder import Project

CONF = "conf: {type: file, state: directory, path: conf, source: from}"


@pytest.fixture
def filled(project: Project) -> Project:
    """A folder with two files and a folder of two, as the project has it."""
    for name in ("a.txt", "b.txt", "in/c.txt", "in/d.txt"):
        project.file(f"from/{name}", f"{name}\n")
    return project.manifest(CONF).does("apply")


def drop(project: Project, *names: str) -> None:
    for name in names:
        (project.root / "from" / name).unlink()


def reason(project: Project) -> str:
    text: str = json.loads(project.run("plan", "--json").out)["steps"][0]["reason"]["text"]
    return text


def test_what_left_the_source_goes_with_the_folders_that_are_empty_then(filled: Project) -> None:
    drop(filled, "b.txt", "in/c.txt", "in/d.txt")
    (filled.root / "from/in").rmdir()
    assert filled.run("drift").exit == 0, "it is as recorded"
    assert "recorded" not in reason(filled), "that it left is a changed declaration, and no drift"
    filled.does("apply").holds("conf/a.txt", "a.txt\n").holds("conf/b.txt", None)
    assert sorted(path.name for path in (filled.root / "conf").iterdir()) == ["a.txt"]
    assert filled.run("apply").out == "Nothing to do: 1 unchanged.\n"


def test_what_somebody_changed_meanwhile_stays_and_that_is_said(filled: Project) -> None:
    drop(filled, "b.txt", "in/c.txt")
    filled.file("conf/b.txt", "theirs\n")
    said = filled.run("drift")
    assert said.exit == 4 and "files.b.txt: recorded blake3:" in said.out and "c.txt" not in said.out, said
    assert "files.b.txt: recorded" in reason(filled)
    said = filled.run("apply")
    assert said.exit == 0 and "conf/b.txt stays: it was changed there" in said.err, said
    filled.holds("conf/b.txt", "theirs\n").holds("conf/in/c.txt", None).holds("conf/in/d.txt", "in/d.txt\n")
    assert filled.run("apply").out == "Nothing to do: 1 unchanged.\n"


def test_what_somebody_took_away_already_is_no_drift(filled: Project) -> None:
    drop(filled, "b.txt")
    (filled.root / "conf/b.txt").unlink()
    assert "recorded" not in reason(filled)
    filled.does("apply").holds("conf/b.txt", None)


def test_in_a_folder_that_was_there_only_what_we_put_there_goes(project: Project) -> None:
    project.file("conf/a.txt", "a\n").file("conf/other", "x").file("from/a.txt", "a\n").file("from/b.txt", "b\n")
    project.manifest(CONF).does("apply")
    project.file("from/c.txt", "c\n").does("apply")
    drop(project, "a.txt", "b.txt", "c.txt")
    said = project.run("apply")
    assert said.exit == 0 and "conf/a.txt stays: it was there before" in said.err, said
    project.holds("conf/a.txt", "a\n").holds("conf/b.txt", None).holds("conf/c.txt", None).holds("conf/other", "x")


def test_a_source_that_is_declared_no_more_takes_its_files_along_and_another_path_does_not(filled: Project) -> None:
    filled.edit("path: conf", "path: moved").does("apply").holds("conf/a.txt", "a.txt\n").holds("moved/a.txt", "a.txt\n")
    filled.edit(", source: from", "").does("apply").holds("moved/a.txt", None).holds("conf/a.txt", "a.txt\n")
    assert list((filled.root / "moved").iterdir()) == []


def test_a_folder_in_the_home_folder_is_changed_and_emptied_there(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(project.root / "home"))
    (project.root / "home").mkdir()
    project.file("from/in/a.txt", "a\n").file("from/b.txt", "b\n")
    more = 'f: {type: file, path: ~/f, content: x, mode: "0600"}'
    project.manifest(f"{CONF.replace('path: conf', 'path: ~/conf')}\n{more}")
    project.does("apply").holds("home/conf/in/a.txt", "a\n").edit("0600", "0640")
    drop(project, "in/a.txt")
    (project.root / "from/in").rmdir()
    project.does("apply")
    assert [path.name for path in (project.root / "home/conf").iterdir()] == ["b.txt"]
    assert (project.root / "home/f").stat().st_mode & 0o777 == 0o640
