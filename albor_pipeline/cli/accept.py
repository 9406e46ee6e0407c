"""`accept`: take a task's outputs as they are for its present declaration; journaled, shown by `why`. Runs nothing."""

from __future__ import annotations

import argparse
from dataclasses import replace

from albor_pipeline.cli import common
from albor_pipeline.errors import EXIT_OK, ManifestError
from albor_pipeline.model.plan import Step
from albor_pipeline.model.state import Entry, Origin, OutputProof, Result
from albor_pipeline.resources.task import Task
from albor_pipeline.run.attempts import tree_of
from albor_pipeline.run.session import Session, Wish
from albor_pipeline.state.folder import Transition, utc_now


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """TASK."""
    common.add_task(parser)


def run(args: argparse.Namespace) -> int:
    """Record the wanted fingerprint for the outputs that exist; refuses when one is missing or an input is not known yet."""
    path = common.find_manifest(args.manifest)
    with Session.open(path, lambda manifest: common.state_dir(args, manifest), write=True, environment=args.env) as session:
        keys = common.keys_of(args.task, session.manifest)
        plan = session.plan(Wish(keys))
        for step in plan.steps:
            if step.key in keys:
                session.folder.record([_transition(session, step)])
                common.out([f"{step.key}: accepted as it is; it will not run for this change."])
    return EXIT_OK


def _transition(session: Session, step: Step) -> Transition:
    key, wanted = step.key, step.fingerprint
    fields = session.manifest.resources[key.resource].fields
    if not isinstance(fields, Task) or not fields.outputs:
        raise ManifestError.of("accept", f"`{key.resource}` has no outputs that could be accepted")
    if wanted is None or wanted.unknown:
        raise ManifestError.of("accept", f"an input of `{key.resource}` is not known yet", "apply what it needs first")
    items = [{"op": "tree", "path": output.path, "deep": False} for output in fields.outputs]
    trees = [tree_of(raw) for raw in session.fleet.probe(key.machine, items)]
    missing = [output.path for output, tree in zip(fields.outputs, trees, strict=True) if not tree.found]
    if missing:
        raise ManifestError.of("accept", f"the output {missing[0]} of `{key.resource}` does not exist")
    proofs = {
        output.path: OutputProof(None if output.volatile else tree.root, tree.files, tree.size_bytes)
        for output, tree in zip(fields.outputs, trees, strict=True)
    }
    entry = session.folder.state.entries.get(key) or Entry(key, "task")
    old = entry.in_force
    now = utc_now()
    result = replace(old, fingerprint=wanted, outputs=proofs, at_utc=now, origin=Origin.ACCEPTED) if old else None
    run = session.folder.state.last_run or ""
    in_force = result or Result(wanted, proofs, run, now, origin=Origin.ACCEPTED)
    return Transition("accepted", key, replace(entry, in_force=in_force, current=None), f"was: {step.reason.text}")
