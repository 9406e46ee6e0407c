"""`schema`: the JSON Schema of a manifest or a recipe file, or the pages that say the same to readers. Reads no file."""

from __future__ import annotations

import argparse

from albor_pipeline.cli import common
from albor_pipeline.errors import EXIT_OK
from albor_pipeline.ui import manifest_page


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--recipe, or --markdown [PAGE]."""
    pages = ("manifest", "types")
    either = parser.add_mutually_exclusive_group()
    either.add_argument("--recipe", action="store_true", help="that of a recipe file")
    either.add_argument("--markdown", nargs="?", const=pages[0], choices=pages, help="a page of the docs: every field as tables")


def run(args: argparse.Namespace) -> int:
    """Print it."""
    if args.markdown:
        from albor_pipeline.manifest.describe import blocks

        common.out(manifest_page.lines(blocks(), types=args.markdown == "types"))
    else:
        from albor_pipeline.manifest.jsonschema import recipe_schema, schema

        common.out(manifest_page.schema_lines(recipe_schema() if args.recipe else schema()))
    return EXIT_OK
