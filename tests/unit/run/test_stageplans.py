"""Stages are asked for their plans once, in one process; what they refuse stops the plan; a stage process that fails is a sentence."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from support_run import Project

from albor_pipeline.run import stageplans
from albor_pipeline.run.observe import Observer

GOOD = {"plan": {"checks": [], "reads": ["data/in"], "writes": ["out"], "estimates": {"seconds": 3600.0}}}
FEW = {"level": "warning", "name": "tokens", "text": "5.1 tokens a parameter, under 10"}
WRONG = {"level": "error", "name": "vocabulary", "text": "vocab_size 4096 is less than 32768"}


@pytest.fixture
def staged(project: Project) -> Project:
    project.stages(GOOD, "one")
    project.file("data/in", "x")
    write(project)
    return project


def write(project: Project, config: str = "{ lr: 1e-3 }") -> None:
    project.manifest(f"  b: {{ type: task, stage: one, config: {config}, inputs: [data/in], outputs: [out] }}\n")


def answers(project: Project, answer: dict[str, object]) -> None:
    project.file("answer.json", json.dumps(answer))


def test_an_estimate_of_a_stage_shows_in_the_longest_chain(staged: Project) -> None:
    assert "Longest chain: b, about 1 h 00 min" in staged.run("plan").out


def test_the_answer_is_kept_until_config_code_or_input_changes(staged: Project) -> None:
    for change in (lambda: None, lambda: staged.file("p.yaml", (staged.root / "p.yaml").read_text() + "# a comment\n")):
        change()
        assert staged.run("plan").code == 0
    assert len(staged.starts("asked.log")) == 1
    write(staged, "{ lr: 1.0e-3 }")
    staged.run("plan")
    assert len(staged.starts("asked.log")) == 1
    write(staged, "{ lr: 5e-4 }")
    staged.run("plan")
    staged.file("stages/one.py", "x = 2\n")
    staged.run("plan")
    staged.file("data/in", "y")
    staged.run("plan")
    assert len(staged.starts("asked.log")) == 4


@pytest.mark.parametrize(("takes", "cards", "told"), [
    ("{ gpu: 1 }", ["NVIDIA GeForce RTX 4090 (UUID: GPU-1)", "other"], "NVIDIA GeForce RTX 4090"), ("{ gpu: 1 }", [], ""),
    ("{ gpu: 0 }", ["NVIDIA L4 (UUID: GPU-1)"], None), ("{ cpu: 1 }", ["NVIDIA L4 (UUID: GPU-1)"], None),
])
def test_a_task_that_takes_a_card_is_planned_for_that_of_its_machine(
    staged: Project, monkeypatch: pytest.MonkeyPatch, takes: str, cards: list[str], told: str | None,
) -> None:
    view = Observer._view
    monkeypatch.setattr(Observer, "_view", lambda *given: replace(found := view(*given), facts={**found.facts, "gpus": cards}))
    staged.manifest(f"  b: {{ type: task, machine: box, stage: one, config: {{}}, inputs: [data/in], outputs: [out], needs: {takes} }}\n",
                    top="machines: { box: { addr: localhost, slots: { gpu: 1, cpu: 1 } } }\n")
    assert staged.run("plan").code == 0
    assert json.loads((staged.root / "questions.log").read_text()).get("gpu") == told


def test_a_warning_is_shown_and_a_refusal_stops_the_plan_until_it_is_gone(staged: Project) -> None:
    answers(staged, {"plan": {"checks": [FEW, WRONG]}})
    for _ in range(2):
        said = staged.run("apply")
        assert said.code == 1
        assert "`b` cannot work: vocab_size 4096 is less than 32768" in said.err
        assert "5.1 tokens a parameter, under 10" in said.err
    answers(staged, {"plan": {"checks": [FEW]}})
    said = staged.run("plan")
    assert said.code == 0 and "warning[" in said.err


def test_an_error_in_a_config_file_stands_at_its_line(staged: Project) -> None:
    staged.file("one.yaml", "# first\nlr: 1e-3\nstep: 10\n")
    write(staged, "one.yaml")
    place = {"file": "one.yaml", "line": 3, "column": 1}
    answers(staged, {"errors": [{"code": "unknown-key", "text": "`step` is not known", "hint": "did you mean `steps`?", **place}]})
    said = staged.run("plan")
    assert said.code == 1
    assert "--> one.yaml:3:1" in said.err and "did you mean `steps`?" in said.err


def test_an_error_without_a_file_stands_at_the_config_of_the_task(staged: Project) -> None:
    answers(staged, {"errors": [{"code": "unknown-key", "text": "`step` is not known", "hint": "did you mean `steps`?"}]})
    said = staged.run("plan")
    assert said.code == 1
    assert "`b` cannot work: `step` is not known" in said.err and "did you mean `steps`?" in said.err


@pytest.mark.parametrize("breaks", ["raise SystemExit('no torch here')", "print('hello')", "import sys; sys.exit(1)"])
def test_a_stage_process_that_fails_is_told_with_its_last_words(staged: Project, breaks: str) -> None:
    staged.file("stages/lib/cli.py", breaks)
    said = staged.run("plan")
    assert said.code == 1
    assert "the stages did not answer for their plans" in said.err
    assert ("no torch here" in said.err) == ("torch" in breaks)


def test_lines_that_a_stage_prints_beside_its_answer_do_no_harm(staged: Project) -> None:
    text = (staged.root / "stages/lib/cli.py").read_text()
    staged.file("stages/lib/cli.py", "print('a library says hello')\nprint('[1, 2]')\n" + text)
    assert staged.run("plan").code == 0


def test_a_stage_that_hangs_ends_the_plan_after_a_limit(staged: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stageplans, "TIMEOUT_S", 0.3)
    staged.file("stages/lib/cli.py", "import time\ntime.sleep(30)\n")
    said = staged.run("plan")
    assert said.code == 1 and "did not answer for their plans within" in said.err


def test_a_broken_cache_only_costs_a_question(staged: Project) -> None:
    staged.file(".albor/cache/stage-plans.json", "{ not json")
    assert staged.run("plan").code == 0
    staged.file(".albor/cache/stage-plans.json", "[]")
    assert staged.run("plan").code == 0
