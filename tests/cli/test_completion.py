"""`completion`: what a shell offers at every key, asked as the scripts ask it, and through bash itself."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from albor_pipeline.cli import VERBS
from cli.builder import Project

HEAD = """
machines:
  lambda: {addr: localhost}
  intel: {addr: localhost}
"""
RESOURCES = """
words: {type: task, command: "true", machine: lambda, tags: [small, slow]}
wires: {type: task, command: "true", machine: intel}
count: {type: task, command: "true"}
"""
OFFERED = [
    (["a"], ["accept", "apply", "attach", "audit"]),
    (["--v"], ["--version"]),
    (["frob", ""], []),
    (["apply", "--m"], ["--machine", "--max-parallel"]),
    (["apply", "--target", "w"], ["wires", "words"]),
    (["apply", "--target", "words", "--machine", ""], ["intel", "lambda", "localhost"]),
    (["plan", "--tag", "s"], ["slow", "small"]),
    (["logs", ""], ["count", "wires", "words"]),
    (["logs", "-f", "c"], ["count"]),
    (["logs", "words", ""], []),
    (["template", "wo"], ["words"]),
    (["logs", "-m", "other.yaml", ""], ["else"]),
    (["apply", "other.yaml", "--target", ""], ["else"]),
    (["apply", "broken.yaml", "--target", ""], []),
    (["apply", ""], []),
    (["fmt", "a.yaml", "--"], ["--check", "--help"]),
    (["graph", "--format", ""], ["dot", "json", "mermaid", "svg", "text"]),
    (["completion", ""], ["bash", "candidates", "fish", "zsh"]),
    (["explain", "tas"], ["task"]),
    (["explain", "task.retry."], ["task.retry.attempts", "task.retry.backoff", "task.retry.on"]),
]


@pytest.fixture
def tale(project: Project) -> Project:
    """A manifest with three resources, beside it another one and a broken one."""
    project.file("other.yaml", 'version: "1.0"\nname: other\nresources:\n  else: {type: task, command: "true"}\n')
    return project.manifest(RESOURCES, HEAD).file("broken.yaml", "name: [")


@pytest.mark.parametrize(("words", "offered"), OFFERED, ids=lambda words: " ".join(words) or "nothing")
def test_what_is_offered(tale: Project, words: list[str], offered: list[str]) -> None:
    said = tale.run("completion", "candidates", *words)
    assert (said.out.split("\n")[:-1], said.err, said.exit) == (offered, "", 0)


def test_every_verb_is_offered(tale: Project) -> None:
    assert tale.run("completion", "candidates", "").out.split() == sorted(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_the_options_of_every_verb_are_offered(tale: Project, verb: str) -> None:
    assert "--help" in tale.run("completion", "candidates", verb, "--").out.split()


def test_a_question_writes_nothing(tale: Project) -> None:
    tale.run("completion", "candidates", "apply", "--target", "")
    tale.holds("state", None).holds(".albor", None)


def _program(folder: Path) -> dict[str, str]:
    """An environment in which `albor-pipeline` is this project's."""
    program = folder / "bin" / "albor-pipeline"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m albor_pipeline "$@"\n')
    program.chmod(0o755)
    return {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}"}


def test_bash_completes_verbs_options_and_names(tale: Project) -> None:
    asked = """
        eval "$(albor-pipeline completion bash)"
        COMP_WORDS=(albor-pipeline apply --target w) COMP_CWORD=3; _albor_pipeline; echo "${COMPREPLY[*]}"
        COMP_WORDS=(albor-pipeline gr) COMP_CWORD=1; _albor_pipeline; echo "${COMPREPLY[*]}"
        COMP_WORDS=(albor-pipeline fmt --c) COMP_CWORD=2; _albor_pipeline; echo "${COMPREPLY[*]}"
        complete -p albor-pipeline
    """
    done = subprocess.run(["bash", "-c", asked], cwd=tale.root, env=_program(tale.root), capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == (
        "wires words\ngraph\n--check\ncomplete -o default -F _albor_pipeline albor-pipeline\n", ""
    )


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_script_is_understood_by_its_shell(tale: Project, shell: str) -> None:
    script = tale.run("completion", shell).out
    assert " completion candidates " in script
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed here")
    done = subprocess.run([shell, "-n", "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_another_shell_is_wrong_usage(project: Project) -> None:
    said = project.run("completion", "tcsh")
    assert said.exit == 64 and "invalid choice: 'tcsh'" in said.err
