"""`doctor`: every machine looked at for what would spoil a run. Takes no lock."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from albor_pipeline.cli import common
from albor_pipeline.errors import EXIT_OK, AlborError, UnreachableError
from albor_pipeline.run.doctor import WRONG, Finding, examine
from albor_pipeline.run.session import Session
from albor_pipeline.ui import doctor_text, documents


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """MANIFEST, --machine, --json."""
    common.add_manifest(parser)
    parser.add_argument("--machine", action="append", default=[], help="only this machine")
    parser.add_argument("--json", action="store_true", help="one JSON object")


def run(args: argparse.Namespace) -> int:
    """Examine all machines; exit 6 when one does not answer, 1 when something is wrong with one, 0 with warnings only."""
    path = common.find_manifest(args.manifest)
    with Session.open(path, lambda manifest: common.state_dir(args, manifest), write=False, environment=args.env) as session:
        session.open_machines(args.machine)
        found: dict[str, list[Finding]] = {}
        for name in sorted({*session.fleet.agents, *session.fleet.errors, *session.fleet.unmade}):
            try:
                found[name] = examine(session.manifest, session.fleet, name)
            except UnreachableError as error:
                session.fleet.lose(name, error)
                found[name] = examine(session.manifest, session.fleet, name)
        silent = bool(session.fleet.errors)
    machines = [{"machine": name, "findings": [asdict(one) for one in findings]} for name, findings in found.items()]
    document = {**documents.head("doctor"), "machines": machines}
    common.out([documents.text(document)] if args.json else doctor_text.lines(document))
    if silent:
        return UnreachableError.exit_code
    return AlborError.exit_code if any(one.level == WRONG for findings in found.values() for one in findings) else EXIT_OK
