"""`history`: what happened, from the journal. Takes no lock."""

from __future__ import annotations

import argparse

from albor_pipeline.cli import common
from albor_pipeline.errors import EXIT_OK
from albor_pipeline.manifest.load import load
from albor_pipeline.state.folder import StateFolder
from albor_pipeline.ui import documents, status_text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """MANIFEST, --task, --json."""
    common.add_manifest(parser)
    parser.add_argument("--task", help="only this resource")
    parser.add_argument("--json", action="store_true", help="one JSON object")


def run(args: argparse.Namespace) -> int:
    """Every journal record, oldest first."""
    manifest = load(common.find_manifest(args.manifest), environment=args.env)
    folder = StateFolder.open(common.state_dir(args, manifest), manifest.pipeline, write=False)
    try:
        events = [item for item in folder.history() if args.task in (None, item.get("resource"))]
    finally:
        folder.close()
    if args.json:
        common.out([documents.text({**documents.head("history"), "events": events})])
    else:
        common.out(status_text.history_lines(events))
    return EXIT_OK
