"""The command itself: help, version, wrong usage, a closed pipe; the exit codes of a real process."""

from __future__ import annotations

import subprocess
import sys

import pytest

from albor_pipeline.cli import VERBS
from cli.builder import Project

OTHER = """version: "1.0"
name: "other tale"  # ours
resources:
  a: {type: file, path: a, content: x}
"""


def _run(project: Project, *argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "albor_pipeline", *argv], cwd=project.root, capture_output=True, text=True, timeout=60)


def test_help_names_every_verb(project: Project) -> None:
    done = _run(project, "--help")
    assert done.returncode == 0
    assert all(f"    {verb} " in done.stdout for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(project: Project, verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        project.run(verb, "--help")
    assert ended.value.code == 0


def test_version(project: Project) -> None:
    assert _run(project, "--version").stdout.startswith("albor-pipeline 0.")


def test_without_a_verb_the_usage_is_shown(project: Project) -> None:
    done = _run(project)
    assert done.returncode == 64
    assert done.stdout.startswith("usage: albor-pipeline")


def test_an_unknown_option_is_wrong_usage(project: Project) -> None:
    project.chain().says("plan", "--frob", exit=64, err="""
        error[usage]: unrecognized arguments: --frob
          = to see what there is: albor-pipeline --help
    """)


def test_an_unknown_verb_names_the_closest(project: Project) -> None:
    project.says("aply", "manifests/albor.yaml", exit=64, err="""
        error[usage]: there is no verb `aply`
          = did you mean `apply`?
          = to see what there is: albor-pipeline --help
    """).says("frob", exit=64, err="""
        error[usage]: there is no verb `frob`
          = to see what there is: albor-pipeline --help
    """)


def test_errors_are_documents_with_json(project: Project) -> None:
    document = project.json("plan", exit=64)
    assert (document["what"], document["exit_code"]) == ("error", 64)
    assert document["diagnostics"][0]["code"] == "no-manifest"


def test_a_reader_that_leaves_early_gets_no_traceback(project: Project) -> None:
    project.chain()
    command = f"{sys.executable} -m albor_pipeline plan --json | head -c 1"
    done = subprocess.run(["sh", "-c", command], cwd=project.root, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("{", "")


def test_of_several_manifests_the_one_whose_state_is_here_is_meant(project: Project) -> None:
    project.chain().file("manifests/b.yaml", OTHER)
    (project.root / "manifests/albor.yaml").rename(project.root / "manifests/a.yaml")
    assert "there are 2 manifests" in project.run("status").err
    project.does("apply", "manifests/b.yaml")
    assert "other tale" in project.run("status").out
    (project.root / "manifests/a.yaml").rename(project.root / "manifests/albor.yaml")
    assert "other tale" in project.run("status").out
