"""`ps`: what is alive on the machines, whoever started it. Takes no lock."""

from __future__ import annotations

import argparse
from typing import Any

from albor_pipeline.cli import common
from albor_pipeline.errors import EXIT_OK, UnreachableError
from albor_pipeline.model.attempt import Liveness
from albor_pipeline.model.resource import Key
from albor_pipeline.run.session import Session
from albor_pipeline.ui import documents, status_text

LIVE = (Liveness.ALIVE.value, Liveness.UNSUPERVISED.value, Liveness.UNKNOWN.value)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """MANIFEST, --json."""
    common.add_manifest(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object")


def run(args: argparse.Namespace) -> int:
    """Ask every machine for its live attempts."""
    path = common.find_manifest(args.manifest)
    with Session.open(path, lambda manifest: common.state_dir(args, manifest), write=False, environment=args.env) as session:
        session.connect(Key("", machine) for machine in session.manifest.machines)
        rows: list[dict[str, Any]] = []
        for machine, agent in session.fleet.agents.items():
            rows += [{"machine": machine, **raw} for raw in agent.hello["attempts"] if raw["liveness"] in LIVE]
        errors = dict(session.fleet.errors)
    shown = ("machine", "resource", "number", "liveness", "started_utc", "run", "progress", "folder")
    rows = [{name: row[name] for name in shown} for row in rows]
    if args.json:
        common.out([documents.text({**documents.head("ps"), "attempts": rows, "unreachable": errors})])
    else:
        common.out(status_text.ps_lines(rows))
        common.err(f"unknown: {name}: {why}" for name, why in errors.items())
    return UnreachableError.exit_code if errors else EXIT_OK
