"""Forecast: what the machines say against a plan before anything is changed. Asks for everything at once, then for room."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from albor_pipeline.errors import Diagnostic
from albor_pipeline.model.observed import Observation
from albor_pipeline.model.plan import Action, Plan, Step
from albor_pipeline.model.resource import Key
from albor_pipeline.plan.space import megabytes, short
from albor_pipeline.resources.base import Brought, Instance, Lack
from albor_pipeline.resources.registry import convergent
from albor_pipeline.run.observe import rightful
from albor_pipeline.run.session import Session

ASKED = (Action.CREATE, Action.UPDATE, Action.MAY_RUN)
FREE_SOME = "free some there, or declare another place; of the store, `store gc --dry-run` says what may go"


def forecast(session: Session, plan: Plan) -> tuple[list[str], list[Diagnostic]]:
    """A line for each machine that was asked, and what stands against the plan; of one that does not answer the plan itself tells."""
    problems: list[Diagnostic] = []
    told: list[str] = []
    for machine in plan.machines:
        agent = session.fleet.agents.get(machine)
        if agent is None:
            continue
        steps = [step for step in plan.steps if step.key.machine == machine and step.kind != "task" and step.action in ASKED]
        cannot, brought = _asked(session, machine, steps, _waiting(plan, steps))
        room, of_space = _room(session, machine, steps, brought)
        problems += cannot + of_space
        free = agent.hello.get("disk_free_bytes")
        space = f", {free / 1e9:,.0f} GB free" if isinstance(free, int) else ""
        told.append(f"{machine}: answers{space}; {len(steps)} to converge, {len(cannot)} that cannot{room}")
    return told, problems


def _waiting(plan: Plan, steps: Sequence[Step]) -> set[Key]:
    """What comes after packages that are among these steps, which may bring what it needs."""
    packages = {step.key for step in steps if step.kind == "package"}
    waiting: set[Key] = set()
    while more := {step.key for step in plan.steps if step.key not in waiting and not (packages | waiting).isdisjoint(step.after)}:
        waiting |= more
    return waiting


def _asked(
    session: Session, machine: str, steps: Sequence[Step], waiting: Collection[Key]
) -> tuple[list[Diagnostic], list[list[Brought]]]:
    """What stands against the steps, and what each of them would bring; what packages may yet bring is no fault of what waits for them."""
    assert session.observer is not None
    seen = session.observer.found.infra
    asked = []
    for step in steps:
        one = session.observer.instance(step.key)
        kind = convergent(one.resource.kind)
        observed = seen.get(step.key, Observation(False))
        forecasts, weighs = (rightful(one, items) for items in (kind.forecasts(one, observed), kind.weighs(one, observed)))
        asked.append((step.key, kind, one, observed, forecasts, weighs))
    items = [item for *_of, forecasts, weighs in asked for item in (*forecasts, *weighs)]
    results = iter(session.fleet.probe(machine, items) if items else ())
    problems: list[Diagnostic] = []
    brought = []
    for key, kind, one, observed, forecasts, weighs in asked:
        answers = [next(results) for _item in forecasts]
        said = kind.forecast(one, observed, answers) if answers else []
        problems += [_problem(one, text) for text in said if not isinstance(text, Lack) or key not in waiting]
        brought.append(kind.brings(one, observed, [next(results) for _item in weighs]))
    return problems, brought


def _problem(one: Instance, text: str) -> Diagnostic:
    return Diagnostic("error", "cannot-converge", f"`{one.resource.id}` on {one.machine.name}: {text}", one.resource.span)


def _room(
    session: Session, machine: str, steps: Sequence[Step], brought: Sequence[Sequence[Brought]]
) -> tuple[str, list[Diagnostic]]:
    """How much comes to a machine, in words, and where there is too little room for it."""
    items = list(_once(steps, brought))
    unknown = list(dict.fromkeys(step.key.resource for step, each in items if each.size_bytes is None))
    paths = list(dict.fromkeys(each.path for _step, each in items if each.size_bytes))
    answers = session.fleet.probe(machine, [{"op": "space", "path": path} for path in paths]) if paths else ()
    where = dict(zip(paths, answers, strict=True))
    disks: dict[Any, list[tuple[Step, Brought]]] = {}
    for step, each in items:
        if each.size_bytes:
            disks.setdefault(where[each.path].get("device"), []).append((step, each))
    unknown += [] if None not in disks else [f"the room at {', '.join(each.path for _step, each in disks.pop(None))}"]
    found = (_short(machine, rows, where) for rows in disks.values())
    whole = sum(each.size_bytes for rows in disks.values() for _step, each in rows if each.size_bytes)
    said = (f"{megabytes(whole)} to be brought" if whole else "", f"size unknown: {', '.join(unknown)}" if unknown else "")
    return "".join(f"; {words}" for words in said if words), [item for item in found if item is not None]


def _once(steps: Sequence[Step], brought: Sequence[Sequence[Brought]]) -> Iterable[tuple[Step, Brought]]:
    """What each step brings; what several of them would bring comes with the first."""
    names: set[str] = set()
    for step, items in zip(steps, brought, strict=True):
        for each in items:
            if not each.name or each.name not in names:
                names.add(each.name)
                yield step, each


def _short(machine: str, rows: Sequence[tuple[Step, Brought]], where: Mapping[str, Mapping[str, Any]]) -> Diagnostic | None:
    sizes: dict[str, float] = {}
    for step, each in rows:
        sizes[step.key.resource] = sizes.get(step.key.resource, 0) + (each.size_bytes or 0)
    path = max(rows, key=lambda row: row[1].size_bytes or 0)[1].path
    return short(f"{machine}, where {path} is,", int(where[path]["free_bytes"]), sizes, sizes, FREE_SOME)
