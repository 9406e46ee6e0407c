"""`why`: every part of one resource's fingerprint, and what would happen to it. Changes nothing."""

from __future__ import annotations

import argparse
from typing import Any

from albor_pipeline.cli import common
from albor_pipeline.errors import EXIT_OK
from albor_pipeline.model.fingerprint import Fingerprint
from albor_pipeline.model.plan import Action, Step
from albor_pipeline.model.resource import Key
from albor_pipeline.plan import reasons
from albor_pipeline.run.session import Session, Wish
from albor_pipeline.run.stored import kept_of
from albor_pipeline.ui import documents, why_text
from albor_pipeline.ui.hints import Hints


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """TASK, --json."""
    common.add_task(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object")


def run(args: argparse.Namespace) -> int:
    """Plan, then show what the plan knows of the resource."""
    path = common.find_manifest(args.manifest)
    with Session.open(path, lambda manifest: common.state_dir(args, manifest), write=False, environment=args.env) as session:
        keys = common.keys_of(args.task, session.manifest)
        plan = session.plan(Wish(keys))
        documented = [{**_document(session, step), "kept": _kept(session, step)} for step in plan.steps if step.key in keys]
    if args.json:
        common.out([documents.text({**documents.head("why"), "resources": documented})])
    else:
        for document in documented:
            common.out(why_text.why_lines(document, Hints.of(args)))
    return EXIT_OK


def _kept(session: Session, step: Step) -> list[dict[str, Any]]:
    """The results of the wanted fingerprint that its machine keeps, last in force last."""
    if step.kind != "task" or step.fingerprint is None or step.key.machine not in session.fleet.agents:
        return []
    entry = session.state.entries.get(step.key)
    mine = (entry.in_force.run, entry.in_force.outputs) if entry and entry.in_force else None
    found = [one for one in kept_of(session.fleet, step.key) if not step.fingerprint.changes(one.result.fingerprint)]
    return [{"id": one.id, "run": one.result.run, "in_force": (one.result.run, one.result.outputs) == mine} for one in found]


def _document(session: Session, step: Step) -> dict[str, Any]:
    entry = session.state.entries.get(step.key)
    result = entry.in_force if entry else None
    wanted = step.fingerprint or Fingerprint({})
    changes = wanted.changes(result.fingerprint) if result else ()
    groups = sorted({*wanted.parts, *(change.group for change in changes)}, key=reasons.GROUP_ORDER.index)
    parts = []
    for group in groups:
        told = [reasons.of_change(change) for change in changes if change.group == group]
        state = "changed" if told else "unchanged" if result else "new"
        parts.append({"group": group, "state": state, "text": why_text.group_text(group, wanted.parts.get(group, {}), told)})
    unknown = [f"not known until {path} is made" for path in wanted.unknown]
    parts += [{"group": "inputs", "state": "unknown", "text": text} for text in unknown]
    downs = sorted({down.resource for down in session.graph.after.get(step.key, ())})
    return {
        "resource": step.key.resource,
        "machine": step.key.machine,
        "run": result.run if result else None,
        "origin": result.origin.value if result else None,
        "action": step.action.name.lower(),
        "verdict": _verdict(step),
        "parts": parts,
        "changed": bool(changes),
        "then": downs,
        "key": str(Key(*step.key)),
    }


def _verdict(step: Step) -> str:
    if step.action is Action.SKIP:
        return "nothing to do"
    if step.action is Action.MAY_RUN:
        return f"may run {step.reason.text}"
    if step.action.executes:
        return f"will run: {step.reason.text}"
    return f"{step.action.word}: {step.reason.text}"
