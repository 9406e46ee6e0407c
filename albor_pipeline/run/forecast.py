"""Forecast: what the machines say against a plan before anything is changed. Asks once for everything; changes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from albor_pipeline.errors import Diagnostic
from albor_pipeline.model.plan import Action, Plan, Step
from albor_pipeline.resources.base import Convergent, Instance
from albor_pipeline.resources.registry import convergent
from albor_pipeline.run.session import Session

ASKED = (Action.CREATE, Action.UPDATE, Action.MAY_RUN)


def forecast(session: Session, plan: Plan) -> tuple[list[str], list[Diagnostic]]:
    """A line for each machine that was asked, and what stands against the plan; of one that does not answer the plan itself tells."""
    assert session.observer is not None
    problems: list[Diagnostic] = []
    told: list[str] = []
    for machine in plan.machines:
        agent = session.fleet.agents.get(machine)
        if agent is None:
            continue
        steps = [step for step in plan.steps if step.key.machine == machine and step.kind != "task"]
        asked = [_asked(session, step) for step in steps if step.action in ASKED]
        items = [item for kind, one in asked for item in kind.forecasts(one)]
        results = iter(session.fleet.probe(machine, items) if items else ())
        found: list[Diagnostic] = []
        for kind, one in asked:
            answers = [next(results) for _item in kind.forecasts(one)]
            found += _judged(kind, one, answers)
        problems += found
        free = agent.hello.get("disk_free_bytes")
        space = f", {free / 1e9:,.0f} GB free" if isinstance(free, int) else ""
        told.append(f"{machine}: answers{space}; {len(asked)} to converge, {len(found)} that cannot")
    return told, problems


def _asked(session: Session, step: Step) -> tuple[Convergent, Instance]:
    assert session.observer is not None
    one = session.observer.instance(step.key)
    return convergent(one.resource.kind), one


def _judged(kind: Convergent, one: Instance, answers: Sequence[Mapping[str, Any]]) -> list[Diagnostic]:
    said = kind.forecast(one, answers) if answers else []
    name = f"`{one.resource.id}` on {one.machine.name}"
    return [Diagnostic("error", "cannot-converge", f"{name}: {text}", one.resource.span) for text in said]
