"""A manifest written as text in a test, loaded and planned with nothing but what the test says was found. Tests nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from albor_pipeline.manifest.load import load
from albor_pipeline.model.manifest import Manifest
from albor_pipeline.model.observed import MachineView, Observed
from albor_pipeline.model.plan import Plan, Step
from albor_pipeline.model.resource import Key
from albor_pipeline.model.state import Entry, State
from albor_pipeline.plan.graph import build
from albor_pipeline.plan.inputs import Inputs
from albor_pipeline.plan.judge import Options, make_plan

TWO = "machines: { m1: { addr: localhost }, m2: { addr: 127.0.0.1, workdir: two } }\n"


def manifest_of(root: Path, resources: str, top: str = TWO) -> Manifest:
    path = root / "p.yaml"
    path.write_text(f'version: "1.0"\nname: p\n{top}resources:\n{resources}')
    return load(path)


def inputs_of(manifest: Manifest, resource: str, machine: str = "m1") -> list[tuple[str, str, str | None]]:
    """What counts for one task: path, who makes it, and the declared output that it is as a whole."""
    found = Inputs(manifest, build(manifest)).of(Key(resource, machine))
    return [(item.path, ", ".join(map(str, item.makers)), item.output) for item in found]


def plan_of(manifest: Manifest, *entries: Entry, options: Options | None = None, facts: dict[str, Any] | None = None, **found: Any) -> Plan:
    """The plan with every machine reachable."""
    machines = {name: MachineView(name, machine_id=name, facts=facts or {}) for name in manifest.machines}
    state = State("lineage", 0, manifest.name, {entry.key: entry for entry in entries})
    return make_plan(manifest, build(manifest), state, Observed(machines=machines, **found), options or Options())


def step_of(plan: Plan, resource: str, machine: str = "m1") -> Step:
    return next(step for step in plan.steps if step.key == Key(resource, machine))
