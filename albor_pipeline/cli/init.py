"""`init`: writes a small manifest that runs, to start from. Overwrites nothing."""

from __future__ import annotations

import argparse
from pathlib import Path

from albor_pipeline.cli import common
from albor_pipeline.errors import EXIT_OK, UsageError
from albor_pipeline.manifest.jsonschema import schema
from albor_pipeline.ui import manifest_page
from albor_pipeline.ui.hints import Hints

SCHEMA = common.FOLDER / "manifest.schema.json"
MANIFEST = """\
# yaml-language-server: $schema=manifest.schema.json
version: "1.0"
name: {name}

resources:
  greeting:
    type: file
    path: {root}/data/greeting.txt
    content: |
      hello

  count:
    type: task
    command: wc -c < data/greeting.txt > data/count.txt
    inputs: [data/greeting.txt]
    outputs: [data/count.txt]
    depends_on: [greeting]
"""
IGNORE = "/state/\n/.albor/\n"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """FOLDER."""
    parser.add_argument("folder", nargs="?", default=".", help="the project folder (default: here)")


def run(args: argparse.Namespace) -> int:
    """Write manifests/albor.yaml, the schema that editors check it with, and .gitignore where there is none."""
    root = Path(args.folder).resolve()
    path = root / common.DEFAULT
    if path.exists():
        raise UsageError.of("exists", f"{path} exists already; nothing was written")
    path.parent.mkdir(parents=True, exist_ok=True)
    name = "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in root.name) or "pipeline"
    path.write_text(MANIFEST.format(name=name, root=root))
    ignore = root / ".gitignore"
    if not ignore.exists():
        ignore.write_text(IGNORE)
    if not (schema_path := root / SCHEMA).exists():
        schema_path.write_text("".join(f"{line}\n" for line in manifest_page.schema_lines(schema())))
    shown = Path(args.folder) / common.DEFAULT
    common.out([f"Wrote {shown}.", f"To see what it would do: {Hints(str(shown)).again('plan')}"])
    return EXIT_OK
