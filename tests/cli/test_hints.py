"""A command that is shown to be typed next means the manifest, the environment and the state of the one before."""

from __future__ import annotations

import re
import shlex
import signal
from pathlib import Path

import pytest

import albor_pipeline
from albor_pipeline.ui.hints import OF_A_TASK, SHOWN, Hints
from cli.builder import Project

MANIFEST = """
version: "1.0"
name: tale
params: { word: plain }
environments:
  prod: { params: { word: real } }
resources:
  say:
    type: task
    command: echo {{params.word}} > said.txt
    outputs: [said.txt]
  note: { type: file, path: ROOT/note.txt, content: x }
"""
GIVEN = ("their own/tale.yaml", "--env", "prod")
MORE = "'their own/tale.yaml' --env prod"
SLOW = """
slow:
  type: task
  command: touch begun; sleep 60; true {{params.word}}
"""


@pytest.fixture
def tale(project: Project) -> Project:
    """A manifest that is not where one is looked for."""
    return project.file("their own/tale.yaml", MANIFEST.replace("ROOT", str(project.root)))


def _last(text: str) -> str:
    return text.splitlines()[-1]


def test_plan_and_apply(tale: Project) -> None:
    assert _last(tale.run("plan", *GIVEN).out) == f"Nothing was changed. To do this: albor-pipeline apply {MORE}"
    assert _last(tale.run("apply", *GIVEN).out) == f"To see it: albor-pipeline status {MORE}"
    said = tale.run("plan", *GIVEN, "--state-dir", "elsewhere")
    assert _last(said.out) == f"Nothing was changed. To do this: albor-pipeline apply {MORE} --state-dir elsewhere"


def test_drift_and_why(tale: Project) -> None:
    tale.does("apply", *GIVEN).file("note.txt", "y")
    assert _last(tale.run("drift", *GIVEN).out) == f"To see and do the repair: albor-pipeline plan {MORE}, then apply {MORE}"
    tale.edit("echo", "echo -n", "their own/tale.yaml")
    said = tale.run("why", "say", "-m", GIVEN[0], "--env", "prod")
    assert _last(said.out) == f"To keep what exists: albor-pipeline accept say -m {MORE}"


def test_a_state_that_was_made_again(tale: Project) -> None:
    tale.does("apply", *GIVEN)
    (tale.root / "their own/state").rename(tale.root / "gone")
    assert tale.run("state", "rebuild", *GIVEN).out.endswith(f"To see what is left to do: albor-pipeline plan {MORE}\n")


def test_a_state_that_is_held_and_one_of_another_program(tale: Project) -> None:
    tale.file("their own/state/environments/prod/m/state.lock.yaml", "schema: '1.0'\n")
    assert tale.run("apply", *GIVEN).err.endswith(f"albor-pipeline state import prod-forjar {MORE}\n")


def test_what_is_shown_of_a_conflict(project: Project) -> None:
    project.manifest(SLOW, "params: { word: a }\nenvironments:\n  prod: { params: { word: b } }\n")
    process = project.start("apply", "--env", "prod")
    project.wait_for("begun").edit("word: b", "word: c")
    process.kill()
    project.end(process)
    way_out = "`cancel slow --env prod` or `apply --replace slow --env prod`"
    assert way_out in project.run("plan", "--env", "prod").out
    said = project.run("apply", "--env", "prod")
    assert way_out in said.err
    assert "To see why: albor-pipeline plan --env prod\n" in said.out
    project.does("cancel", "slow", "--env", "prod")


def test_the_command_of_an_interrupted_run(project: Project) -> None:
    project.slow()
    (project.root / "manifests/albor.yaml").rename(project.root / "other.yaml")
    process = project.start("apply", "other.yaml")
    project.wait_for("begun")
    process.send_signal(signal.SIGINT)
    said = project.end(process)
    assert "to watch it: albor-pipeline attach slow -m other.yaml\n" in said.out
    project.does("cancel", "slow", "-m", "other.yaml")


@pytest.mark.parametrize("note", [
    "wait for it, or look at it with `albor-pipeline status`, which needs no lock",
    "`albor-pipeline audit` says what is wrong, and where",
    "else `albor-pipeline state rebuild` makes it anew from what the machines prove",
])  # fmt: skip
def test_the_way_out_of_an_error_is_completed(note: str) -> None:
    hints = Hints("a b.yaml", "prod", "s")
    found = re.findall("`(.*?)`", hints.completed(note))
    assert found == [re.findall("`(.*?)`", note)[0] + " 'a b.yaml' --env prod --state-dir s"]
    assert Hints().completed(note) == note


def test_every_command_that_an_error_names_is_known() -> None:
    """Errors are made where no command line is known, so ui/hints.py has to know which commands they name."""
    rooms = Path(albor_pipeline.__file__).parent.glob("*/*.py")
    lines = [line for path in rooms if path.parent.name not in ("ui", "cli") for line in path.read_text().splitlines()]
    named = [line for line in lines if re.search("[`;] ?albor-pipeline ", line) and '"""' not in line]
    assert len(named) >= 4
    assert [line for line in named if not SHOWN.search(line.replace("{aside}", "aside"))] == []


def test_a_word_that_needs_quotes_gets_them() -> None:
    said = Hints("a b.yaml").again("attach", "x y")
    assert shlex.split(said) == ["albor-pipeline", "attach", "x y", "-m", "a b.yaml"]
    assert all(Hints("m").short(verb) == f"{verb} -m m" for verb in OF_A_TASK)
