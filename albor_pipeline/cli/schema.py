"""`schema`: the JSON Schema of a manifest, or the page that says the same to readers. Reads no file."""

from __future__ import annotations

import argparse

from albor_pipeline.cli import common
from albor_pipeline.errors import EXIT_OK
from albor_pipeline.ui import documents, manifest_page


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--markdown."""
    parser.add_argument("--markdown", action="store_true", help="docs/manifest.md: every type and field as tables")


def run(args: argparse.Namespace) -> int:
    """Print it."""
    if args.markdown:
        from albor_pipeline.manifest.describe import blocks

        common.out(manifest_page.lines(blocks()))
    else:
        from albor_pipeline.manifest.jsonschema import schema

        common.out([documents.text(schema())])
    return EXIT_OK
