"""The text of a plan. Decides nothing; the same values go to JSON in ui/documents.py."""

from __future__ import annotations

from collections import Counter

from albor_pipeline.model.plan import Action, Plan, Step
from albor_pipeline.ui import words
from albor_pipeline.ui.hints import Hints

GOES = {
    Action.CREATE: "to create", Action.RUN: "to run", Action.RERUN: "to re-run", Action.UPDATE: "to update",
    Action.RESTORE: "to restore", Action.FETCH: "to fetch", Action.ADOPT: "to adopt", Action.ATTACH: "to attach",
    Action.RESUME: "to resume", Action.RETRY: "to retry", Action.CONFLICT: "in conflict", Action.HOLD: "on hold",
    Action.FORGET: "to forget", Action.DESTROY: "to destroy", Action.UNKNOWN: "unknown",
}  # fmt: skip


def plan_lines(plan: Plan, hints: Hints, *, every: bool = False) -> list[str]:
    """The whole plan: what changes with its reason, a summary, the longest chain and what to type."""
    lines = [*heading(plan), ""]
    shown = plan.steps if every else plan.changes
    lines += words.columns([row(step, hints) for step in shown])
    unchanged = len(plan.steps) - len(plan.changes)
    if unchanged and not every and plan.changes:
        lines.append(f"    {unchanged} unchanged (--all lists them)")
    if shown:
        lines.append("")
    for name, error in plan.unreachable.items():
        lines.append(f"  unknown: {name} does not answer ({error}). Its resources are not judged.")
    if not plan.changes:
        return [*lines, f"Nothing to do: {unchanged} unchanged."]
    lines.append(summary(plan))
    if plan.longest_chain and plan.longest_chain_s:
        chain = " > ".join(key.resource for key in plan.longest_chain)
        lines.append(f"Longest chain: {chain}, about {words.seconds(plan.longest_chain_s)} by earlier runs or estimates.")
    lines.append(f"Nothing was changed. To do this: {hints.at(plan.manifest).likewise('apply')}")
    return lines


def undo_lines(plan: Plan, hints: Hints) -> list[str]:
    """What would go, in the order in which it goes."""
    return [*heading(plan), "", *words.columns([row(step, hints) for step in plan.steps]), "", summary(plan)]


def heading(plan: Plan) -> list[str]:
    """`NAME: 18 resources on 2 machines, state of run 0007 (2026-03-02 14:10 UTC)`."""
    where = f"{words.count(len(plan.steps), 'resource')} on {words.count(len(plan.machines), 'machine')}"
    since = f" ({words.minute(plan.last_run_utc)} UTC)" if plan.last_run_utc else ""
    state = f"state of run {plan.last_run}{since}" if plan.last_run else "no state yet"
    return [f"{plan.pipeline}: {where}, {state}"]


def row(step: Step, hints: Hints) -> tuple[str, ...]:
    """The cells of one step."""
    reason = hints.reason(step.reason.text) if step.action is Action.CONFLICT else step.reason.text
    reason = "; ".join([reason, *moves(step)])
    return (f"{step.action.glyph} {step.key.resource}", step.kind, step.key.machine, step.action.word, reason)


def moves(step: Step) -> list[str]:
    """`moves 1.2 GB from lambda`; the paths where it is not known yet how much that is."""
    found = []
    for machine in sorted({move.source for move in step.moves}):
        mine = [move for move in step.moves if move.source == machine]
        sizes = [move.size_bytes for move in mine if move.size_bytes is not None]
        what = words.size(sum(sizes)) if len(sizes) == len(mine) else ", ".join(move.path for move in mine)
        found.append(f"moves {what} from {machine}")
    return found


def summary(plan: Plan) -> str:
    """`Plan: 1 to create, 1 to re-run, up to 2 more, 13 unchanged.`"""
    counts = Counter(step.action for step in plan.steps)
    parts = [f"{counts[action]} {text}" for action, text in GOES.items() if counts[action]]
    if counts[Action.MAY_RUN]:
        parts.append(f"up to {counts[Action.MAY_RUN]} more")
    if counts[Action.SKIP]:
        parts.append(f"{counts[Action.SKIP]} unchanged")
    return f"Plan: {', '.join(parts)}."
