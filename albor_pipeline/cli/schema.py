"""`schema`: the JSON Schema of a manifest, or the pages that say the same to readers. Reads no file."""

from __future__ import annotations

import argparse

from albor_pipeline.cli import common
from albor_pipeline.errors import EXIT_OK
from albor_pipeline.ui import manifest_page


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--markdown [PAGE]."""
    pages = ("manifest", "types")
    parser.add_argument("--markdown", nargs="?", const=pages[0], choices=pages, help="a page of the docs: every field as tables")


def run(args: argparse.Namespace) -> int:
    """Print it."""
    if args.markdown:
        from albor_pipeline.manifest.describe import blocks

        common.out(manifest_page.lines(blocks(), types=args.markdown == "types"))
    else:
        from albor_pipeline.manifest.jsonschema import schema

        common.out(manifest_page.schema_lines(schema()))
    return EXIT_OK
