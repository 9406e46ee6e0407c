"""Whole plans as text and JSON, one folder a behaviour: reviewed by reading, rewritten by `pytest --update-golden` only.

A case is manifest.yaml with what is recorded (state.json: rows as in a lock file, by `resource@machine`) and what is found
(observed.json: probe results and attempts as the agent sends them); options.json holds what the command line asks for.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from albor_pipeline.errors import Diagnostic, ManifestError
from albor_pipeline.manifest.load import load
from albor_pipeline.model.manifest import Manifest
from albor_pipeline.model.observed import MachineView, Observation, Observed, StageAnswer
from albor_pipeline.model.plan import Plan
from albor_pipeline.model.resource import Key
from albor_pipeline.model.state import State
from albor_pipeline.plan.graph import build
from albor_pipeline.plan.judge import Options, make_plan
from albor_pipeline.run.attempts import attempt_of, tree_of, verified_of
from albor_pipeline.state.codec import entry_from_json
from albor_pipeline.ui import diagnostics, documents, plan_text
from albor_pipeline.ui.hints import Hints

HERE = Path(__file__).parent
CASES = sorted(path.parent.name for path in HERE.glob("*/observed.json"))
EXPECTED = ("plan.txt", "plan.json", "diagnostics.txt")


def key(text: str) -> Key:
    resource, _, machine = text.rpartition("@")
    return Key(resource, machine)


def read(case: Path, name: str) -> dict[str, Any]:
    path = case / name
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return found


def state_of(case: Path, manifest: Manifest) -> State:
    raw = read(case, "state.json")
    rows = {key(name): row for name, row in raw.get("entries", {}).items()}
    entries = {name: entry_from_json({"resource": name.resource, **row}, name.machine) for name, row in rows.items()}
    return State(
        lineage="lineage-1",
        serial=len(entries),
        pipeline=manifest.name,
        entries=entries,
        machine_ids=raw.get("machine_ids", {}),
        last_run=raw.get("last_run"),
        last_run_utc=raw.get("last_run_utc"),
    )


def machine_of(name: str, raw: dict[str, Any]) -> MachineView:
    attempts = tuple(attempt_of(item) for item in raw.get("attempts", ()))
    return MachineView(name, raw.get("error"), raw.get("machine_id", f"id-of-{name}"), "boot-1", attempts, raw.get("facts", {}))


def observed_of(case: Path, manifest: Manifest) -> Observed:
    raw = read(case, "observed.json")

    def by_key(section: str) -> dict[Key, Any]:
        return {key(name): value for name, value in raw.get(section, {}).items()}

    machines = {name: {} for name in manifest.machines} | raw.get("machines", {})
    return Observed(
        machines={name: machine_of(name, view) for name, view in machines.items()},
        inputs={(name, path): tree_of(tree) for name, trees in raw.get("inputs", {}).items() for path, tree in trees.items()},
        outputs={(name, path): verified_of(seen) for name, paths in by_key("outputs").items() for path, seen in paths.items()},
        wanted=by_key("wanted"),
        infra={name: Observation(**seen) for name, seen in by_key("infra").items()},
        completed=by_key("completed"),
        code=by_key("code"),
        configs=by_key("configs"),
        python=by_key("python"),
        stages={name: answer_of(answer) for name, answer in by_key("stages").items()},
    )


def answer_of(raw: dict[str, list[str]]) -> StageAnswer:
    told = {level: tuple(Diagnostic(level, "stage-plan", text) for text in raw.get(f"{level}s", ())) for level in ("error", "warning")}
    return StageAnswer(told["error"], told["warning"], tuple(raw.get("reads", ())), tuple(raw.get("writes", ())))


def options_of(case: Path) -> Options:
    raw = read(case, "options.json")
    targets = frozenset(map(key, raw["targets"])) if "targets" in raw else None
    estimates = {key(name): seconds for name, seconds in raw.get("estimates", {}).items()}
    force, replaced = frozenset(map(key, raw.get("force", ()))), frozenset(map(key, raw.get("replace", ())))
    return Options(targets=targets, force=force, replace=replaced, estimates=estimates)


def planned(case: Path) -> Plan:
    manifest = replace(load(Path("manifest.yaml")), path="manifest.yaml")
    return make_plan(manifest, build(manifest), state_of(case, manifest), observed_of(case, manifest), options_of(case))


def shown(case: Path) -> dict[str, str]:
    """The files that a person would read: the plan in both forms, or only what stands in its way."""
    try:
        plan = planned(case)
        if any(item.level == "error" for item in plan.diagnostics):
            raise ManifestError(plan.diagnostics)
    except ManifestError as error:
        return {"diagnostics.txt": diagnostics.render_all(error.diagnostics)}
    files = {
        "plan.txt": "".join(f"{line}\n" for line in plan_text.plan_lines(plan, Hints())),
        "plan.json": documents.text(documents.of_plan(plan)) + "\n",
    }
    return files | ({"diagnostics.txt": diagnostics.render_all(plan.diagnostics)} if plan.diagnostics else {})


@pytest.mark.parametrize("name", CASES)
def test_the_plan_reads_as_reviewed(name: str, monkeypatch: pytest.MonkeyPatch, update_golden: bool) -> None:
    case = HERE / name
    monkeypatch.chdir(case)
    found = shown(case)
    if update_golden:
        for file in EXPECTED:
            (case / file).unlink(missing_ok=True)
        for file, text in found.items():
            (case / file).write_text(text)
    assert {file: (case / file).read_text() for file in EXPECTED if (case / file).exists()} == found


@pytest.mark.slow
def test_continuous_integration_never_rewrites_a_golden() -> None:
    command = [sys.executable, "-m", "pytest", "--update-golden", "--collect-only", "-p", "no:cacheprovider", str(HERE)]
    done = subprocess.run(command, env={**os.environ, "CI": "true"}, capture_output=True, text=True, check=False)
    assert done.returncode == 4
    assert "never writes them" in done.stderr
