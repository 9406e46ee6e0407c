"""`status`: what is recorded of every resource, and how far the running ones are. Takes no lock."""

from __future__ import annotations

import argparse

from albor_pipeline.cli import common
from albor_pipeline.errors import EXIT_OK
from albor_pipeline.model.attempt import Liveness
from albor_pipeline.model.resource import Key
from albor_pipeline.model.state import Status
from albor_pipeline.run.attempts import attempt_of
from albor_pipeline.run.session import Session
from albor_pipeline.ui import documents, status_text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """MANIFEST, --machine, --json."""
    common.add_manifest(parser)
    parser.add_argument("--machine", action="append", default=[], help="only this machine")
    parser.add_argument("--json", action="store_true", help="one JSON object")


def run(args: argparse.Namespace) -> int:
    """Show every row; only machines with running attempts are asked."""
    path = common.find_manifest(args.manifest)
    with Session.open(path, lambda manifest: common.state_dir(args, manifest), write=False, environment=args.env) as session:
        rows = [row for row in rows_of(session) if not args.machine or row["machine"] in args.machine]
        state = session.state
        document = documents.of_status(session.manifest.name, state, rows)
    common.out([documents.text(document)] if args.json else status_text.status_lines(document, state.last_run_utc))
    return EXIT_OK


def rows_of(session: Session) -> list[documents.Document]:
    """A row for every declared or recorded resource; a running one is looked up on its machine."""
    entries = session.state.entries
    running = [key for key, entry in entries.items() if entry.status is Status.RUNNING]
    session.connect(running)
    live = {}
    for machine, agent in session.fleet.agents.items():
        for raw in agent.hello["attempts"]:
            attempt = attempt_of(raw)
            live[Key(attempt.resource, machine), attempt.number] = attempt
    rows = []
    for key in [*session.graph.order, *sorted(set(entries) - set(session.graph.before))]:
        entry = entries.get(key)
        resource = session.manifest.resources.get(key.resource)
        kind = resource.kind if resource else entry.kind if entry else "task"
        attempt_now = live.get((key, entry.current.attempt)) if entry and entry.current else None
        row = documents.of_entry(key, kind, entry, attempt_now.progress if attempt_now else None)
        if attempt_now is not None and attempt_now.liveness is Liveness.DEAD:
            row["status"] = Status.INTERRUPTED.value
        elif attempt_now is not None and attempt_now.liveness is Liveness.UNSUPERVISED:
            row["progress"] = {**attempt_now.progress, "note": "unsupervised: its supervisor was killed"}
        elif attempt_now is not None and attempt_now.liveness is Liveness.ENDED:
            row["progress"] = {"note": "has ended; the next apply records it"}
        if row["status"] == Status.PENDING.value:
            ups = session.graph.before.get(key, ())
            row["waits_for"] = [up.resource for up in ups if up not in entries or entries[up].in_force is None]
        rows.append(row)
    return rows
