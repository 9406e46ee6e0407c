"""Nothing to do, said again: the manifest is not even read, and whatever a plan depends on is noticed all the same."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from albor_pipeline.state.hold import take
from cli.builder import Project, Said

SETTLED_S = 2.2
NOTHING = "Nothing to do: 4 unchanged.\n"
HEAD = "includes: [more.yaml]\n"
TASKS = """
words:
  type: task
  command: sort in.txt > words.txt
  inputs: [in.txt]
  outputs: [words.txt]
tree:
  type: task
  command: mkdir -p tree/in; echo a > tree/in/one; sh tool.sh > tree/two
  inputs: [words]
  outputs: [tree]
helper:
  type: task
  command: python3 helper.py {{default(env(SOME_WORD), none)}} > helped.txt
  outputs: [helped.txt]
"""
MORE = "version: '1.0'\nname: more\nresources:\n  more:\n    type: task\n    command: echo more > more.txt\n    outputs: [more.txt]\n"
Change = Callable[[Project], object]


def flip(project: Project) -> None:
    """One byte of an output, the size as before."""
    (project.root / "words.txt").write_text("one\ntwO\n")


def begin_another(project: Project) -> None:
    """Of a pipeline of its own, whose controller dies."""
    project.file("manifests/slow.yaml", 'version: "1.0"\nname: slow\nresources:\n  s:\n    type: task\n    command: touch begun; sleep 9\n')
    project.killed("begun", "apply", "manifests/slow.yaml", "--state-dir", "other")
    project.does("cancel", "s", "-m", "manifests/slow.yaml", "--state-dir", "other")


CHANGES: Mapping[str, Change] = {
    "a byte of an output": flip,
    "an input": lambda project: project.file("in.txt", "three\n"),
    "an output that is gone": lambda project: (project.root / "tree/in/one").unlink(),
    "a file more in an output": lambda project: project.file("tree/in/three", "3\n"),
    "the manifest": lambda project: project.edit("echo a", "echo b"),
    "an included file": lambda project: project.edit("echo more", "echo less", "manifests/more.yaml"),
    "an included file that is gone": lambda project: (project.root / "manifests/more.yaml").unlink(),
    "a script": lambda project: project.edit("echo tool", "echo tools", "tool.sh"),
    "a module that an imported name now means": lambda project: project.file("json.py", "def dumps(word): return word\n"),
    "the state": lambda project: project.does("state", "rm", "tree"),
    "the executable bit of an output": lambda project: (project.root / "words.txt").chmod(0o755),
}
SAME: Mapping[str, Change] = {
    "nothing": lambda project: None,
    "a file beside": lambda project: project.file("beside.txt", "x\n"),
    "an attempt of another pipeline": begin_another,
    "the loss of all notes": lambda project: (project.root / ".albor").rename(project.root / "gone"),
}


def run(project: Project, *argv: str) -> Said:
    with contextlib.chdir(project.root):
        return project.run("apply", *argv)


@pytest.fixture(scope="module")
def settled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Project]]:
    """Projects in which all is done, and in which that was found once since nothing was young any more."""
    found: dict[str, Project] = {}
    for name in [*CHANGES, *SAME, "held", "variable", "other words"]:
        project = found[name] = Project(tmp_path_factory.mktemp("settled"))
        project.manifest(TASKS, HEAD).file("manifests/more.yaml", MORE).file("in.txt", "two\none\n").file("tool.sh", "echo tool\n")
        project.file("helper.py", "import json, sys\nprint(json.dumps(sys.argv))\n")
        assert run(project).exit == 0
    time.sleep(SETTLED_S)
    for project in found.values():
        assert run(project) == Said(NOTHING, "", 0)
    yield found.__getitem__
    for project in found.values():
        project.close()


@pytest.mark.usefixtures("no_session")
@pytest.mark.parametrize("name", ["nothing", "a file beside"])
def test_without_a_change_the_manifest_is_not_even_read(settled: Callable[[str], Project], name: str) -> None:
    project = settled(name)
    SAME[name](project)
    assert run(project) == Said(NOTHING, "", 0)


@pytest.mark.parametrize("name", SAME)
def test_what_changes_nothing_is_nothing_to_do(settled: Callable[[str], Project], name: str) -> None:
    project = settled(name)
    with contextlib.chdir(project.root):
        SAME[name](project)
    assert run(project) == Said(NOTHING, "", 0)


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_noticed(settled: Callable[[str], Project], name: str) -> None:
    project = settled(name)
    with contextlib.chdir(project.root):
        CHANGES[name](project)
    assert run(project).out != NOTHING


def test_a_variable_that_a_template_asks_for_is_noticed(settled: Callable[[str], Project], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_WORD", "word")
    assert run(settled("variable")).exit == 0
    assert "word" in Path(settled("variable").root / "helped.txt").read_text()


def test_a_state_that_another_command_writes_is_in_use(settled: Callable[[str], Project]) -> None:
    project = settled("held")
    hold = take(project.root / "state" / ".lock")
    try:
        assert "state/ is in use" in run(project).err
    finally:
        hold.release()


def test_another_command_line_is_another_question(settled: Callable[[str], Project]) -> None:
    project = settled("other words")
    assert run(project, "--target", "more").out == "Nothing to do: 1 unchanged.\n"
    assert run(project, "--target", "more", "--force").out != NOTHING
    assert {step["action"] for step in json.loads(run(project, "--json").out)["steps"]} == {"skip"}
