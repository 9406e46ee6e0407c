"""Laws of the plan: the order and form of a manifest count for nothing, a content field always does and is named, others never do."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from albor_pipeline.manifest import later
from albor_pipeline.manifest.load import load
from albor_pipeline.model.fingerprint import Fingerprint
from albor_pipeline.model.observed import MachineView, Observed, Tree
from albor_pipeline.model.state import State
from albor_pipeline.plan.graph import build
from albor_pipeline.plan.judge import Options, make_plan
from albor_pipeline.resources.fields import CONTENT, class_of
from albor_pipeline.resources.task import Task
from albor_pipeline.run.session import Session, Wish
from albor_pipeline.ui import documents

ANSWERS_ALL = """\
import json, sys
for line in sys.stdin:
    print(json.dumps({"id": json.loads(line)["id"], "plan": {}}))
"""
COMMAND = {"command": "make it", "outputs": ["out.txt"]}
STAGE = {"stage": "one", "config": {"optimizer": {"lr": 0.001}, "steps": 10}, "outputs": ["out.txt"]}
STAGES = {"stages": [{"name": "one", "command": "make it"}, {"name": "two"}], "outputs": ["out.txt"]}
CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "command": (COMMAND, {"command": "make that"}, "command"),
    "stages": (STAGES, {"stages": [{"name": "one", "command": "make that"}, {"name": "two"}]}, "command stages.one"),
    "stage": (STAGE, {"stage": "two"}, "command stage"),
    "config": (STAGE, {"config": {"optimizer": {"lr": 0.0005}, "steps": 10}}, "config.optimizer.lr"),
    "set": (STAGE, {"set": {"optimizer.lr": 0.0005}}, "config.optimizer.lr"),
    "inputs": (COMMAND, {"inputs": ["a.txt"]}, "input a.txt"),
    "outputs": (COMMAND, {"outputs": ["out.txt", "more.txt"]}, "outputs more.txt"),
    "env": (COMMAND, {"env": {"SEED": "43"}}, "env SEED"),
    "python": (COMMAND, {"python": "/opt/python/bin/python3"}, "python interpreter"),
    "working_dir": (COMMAND, {"working_dir": "sub"}, "command working_dir"),
}
SILENT: dict[str, Any] = {
    "completion_check": "test -e out.txt",
    "needs": {"cpu": 2, "memory": "1GB"},
    "retry": {"attempts": 3, "backoff": "1s", "on": ["oom"]},
    "resume_command": "make it again",
    "timeout": "2h",
    "heartbeat": "5m",
    "grace": "1m",
    "cache": False,
    "task_mode": "batch",
    "quality_gate": {"min": 1},
    "gpu_device": 0,
    "state": "present",
    "description": "what it is for",
    "name": "nightly",
    "tags": ["slow"],
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("laws")
    (root / "stages" / "lib").mkdir(parents=True)
    for name, text in {"lib/cli.py": ANSWERS_ALL, "one.py": "x = 1\n", "two.py": "x = 1\n"}.items():
        (root / "stages" / name).write_text(text)
    (root / "a.txt").write_text("a")
    (root / "sub").mkdir()
    return root


@pytest.fixture(scope="module")
def plain(root: Path) -> Fingerprint:
    return wanted(root, COMMAND)


def wanted(root: Path, task: dict[str, Any], machine: str = "here", **top: Any) -> Fingerprint:
    """The fingerprint that the real plan makes of one task."""
    text = {"version": "1.0", "name": "laws", **top, "machines": {machine: {"addr": "localhost", "slots": {"gpu": 1}}}}
    text["resources"] = {"it": {"type": "task", "machine": machine, **task}}
    path = root / "laws.yaml"
    path.write_text(yaml.safe_dump(text).replace("version: '1.0'", 'version: "1.0"'))
    with Session.open(path, lambda manifest: root / "state", write=False) as session:
        found = session.plan(Wish()).steps[0].fingerprint
    assert found is not None
    return found


def test_every_field_of_a_task_stands_under_a_law() -> None:
    fields = set(Task.model_fields) - set(later.TASK)
    content = {name for name in fields if class_of(Task, name) is CONTENT}
    assert content == set(CHANGES)
    assert fields - content == set(SILENT) - {"tags"}


@pytest.mark.parametrize("field", CHANGES)
def test_a_changed_content_field_changes_the_fingerprint_and_is_named(root: Path, plain: Fingerprint, field: str) -> None:
    base, change, label = CHANGES[field]
    before, after = plain if base is COMMAND else wanted(root, base), wanted(root, {**base, **change})
    assert before.canonical != after.canonical
    assert label in [item.label for item in after.changes(before)]


@pytest.mark.parametrize("field", SILENT)
def test_a_changed_policy_or_doc_field_changes_no_fingerprint(root: Path, plain: Fingerprint, field: str) -> None:
    assert wanted(root, {**COMMAND, field: SILENT[field]}) == plain


def test_names_of_machines_and_params_that_resolve_to_the_same_text_are_no_part(root: Path, plain: Fingerprint) -> None:
    assert wanted(root, COMMAND, machine="other") == plain
    assert wanted(root, {**COMMAND, "command": "make {{params.what}}"}, params={"what": "it", "unused": "1"}) == plain
    assert wanted(root, {**COMMAND, "command": "make {{params.what}}"}, params={"what": "that"}) != plain


def test_the_same_number_written_otherwise_is_no_change(root: Path) -> None:
    (root / "config.yaml").write_text("# why\nsteps: 10\noptimizer:\n  lr: 1.0e-3\n")
    assert wanted(root, {**STAGE, "config": "config.yaml"}) == wanted(root, STAGE)


@st.composite
def ladders(draw: st.DrawFn) -> dict[str, dict[str, Any]]:
    names = draw(st.permutations([f"t{i}" for i in range(draw(st.integers(1, 8)))]))
    tasks: dict[str, dict[str, Any]] = {}
    for i, name in enumerate(names):
        ups = sorted(draw(st.sets(st.sampled_from(names[:i]), max_size=3))) if i else []
        where = draw(st.sampled_from([["m1"], ["m2"], ["m1", "m2"]]))
        field = draw(st.sampled_from(["inputs", "depends_on"]))
        tasks[name] = {"type": "task", "machine": where, "command": f"run {name}", field: ups, "outputs": [f"out/{name}"]}
    return tasks


MACHINES = {"m1": {"addr": "localhost"}, "m2": {"addr": "127.0.0.1", "workdir": "two"}}


def plan_of(path: Path, tasks: dict[str, dict[str, Any]], machines: dict[str, Any]) -> str:
    text = {"version": "1.0", "name": "laws", "machines": machines, "resources": tasks}
    path.write_text(yaml.safe_dump(text, sort_keys=False).replace("version: '1.0'", 'version: "1.0"'))
    manifest = load(path)
    observed = Observed({name: MachineView(name, machine_id=name) for name in machines}, {("m1", "out/t0"): Tree("aa")})
    plan = make_plan(manifest, build(manifest), State("lineage", 0, "laws"), observed, Options())
    return documents.text(documents.of_plan(replace(plan, diagnostics=())))  # these name lines, which move


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ladders(), st.randoms(use_true_random=False))
def test_reordering_a_manifest_changes_nothing(tmp_path: Path, tasks: dict[str, dict[str, Any]], shuffler: random.Random) -> None:
    def mixed(values: dict[str, Any]) -> dict[str, Any]:
        items = list(values.items())
        shuffler.shuffle(items)
        return dict(items)

    path = tmp_path / "laws.yaml"
    straight = plan_of(path, tasks, MACHINES)
    assert plan_of(path, mixed({name: mixed(task) for name, task in tasks.items()}), mixed(MACHINES)) == straight
