"""`drift`: what is not as recorded, on the machines and in the artifacts. Changes nothing."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from albor_pipeline.cli import common
from albor_pipeline.errors import EXIT_DRIFT, EXIT_OK, UnreachableError
from albor_pipeline.run import hooks
from albor_pipeline.run.drift import findings
from albor_pipeline.run.session import Session
from albor_pipeline.ui import documents, status_text
from albor_pipeline.ui.hints import Hints


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """MANIFEST or one target, selection, --deep, --json."""
    common.add_manifest(parser)
    common.add_selection(parser)
    parser.add_argument("--deep", action="store_true", help="read every byte again, instead of trusting stat")
    parser.add_argument("--json", action="store_true", help="one JSON object")


def run(args: argparse.Namespace) -> int:
    """Compare, show, and exit 4 when something drifted."""
    began = time.monotonic()
    if args.manifest is not None and not Path(args.manifest).exists() and "." not in args.manifest:
        args.target, args.manifest = [*args.target, args.manifest], None
    path = common.find_manifest(args.manifest)
    with Session.open(path, lambda manifest: common.state_dir(args, manifest), write=False, environment=args.env) as session:
        checked, found = findings(session, common.selected(args, session.manifest), deep=args.deep)
        drifted = len({(item["resource"], item["machine"]) for item in found if item["what"] == "drifted"})
        if drifted:
            hooks.on_drift(session.manifest, session.vault, drifted)
    document: dict[str, Any] = {
        **documents.head("drift"),
        "machines_checked": len({key.machine for key in checked}),
        "checked": len(checked),
        "drift_count": drifted,
        "findings": found,
        "seconds": round(time.monotonic() - began, 3),
    }
    common.out([documents.text(document)] if args.json else status_text.drift_lines(document, Hints.of(args)))
    if document["drift_count"]:
        return EXIT_DRIFT
    return UnreachableError.exit_code if found else EXIT_OK
