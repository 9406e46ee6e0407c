"""`explain`: what a type or a field means and takes, from the same declarations that check a manifest. Reads no file."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence

from albor_pipeline.cli import common
from albor_pipeline.errors import EXIT_OK, UsageError
from albor_pipeline.manifest.describe import blocks
from albor_pipeline.manifest.names import closest
from albor_pipeline.model.about import BlockAbout, FieldAbout
from albor_pipeline.ui import explain_text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """TYPE or TYPE.FIELD."""
    parser.add_argument("what", nargs="?", metavar="TYPE[.FIELD]", help="such as task, task.retry.on or machine.slots (default: list them)")


def run(args: argparse.Namespace) -> int:
    """Show it; raises UsageError with the closest name for an unknown one."""
    known = {block.name: block for block in blocks()}
    if args.what is None:
        common.out(explain_text.index_lines(known.values()))
        return EXIT_OK
    name, *path = args.what.split(".")
    if name not in known:
        raise _unknown(f"there is no type `{name}`", name, known, f"there are: {', '.join(known)}")
    if not path:
        common.out(explain_text.block_lines(known[name]))
    else:
        common.out(explain_text.field_lines(args.what, _find(known[name], path)))
    return EXIT_OK


def _find(block: BlockAbout, path: Sequence[str]) -> FieldAbout:
    fields: Iterable[FieldAbout] = (*block.fields, *block.common)
    owner = block.name
    for word in path:
        found = {name: field for field in fields for name in (field.name, *field.spellings)}
        if word not in found:
            takes = f"it takes: {', '.join(found)}" if found else "it has no fields"
            raise _unknown(f"`{owner}` has no field `{word}`", word, found, takes)
        fields, owner = found[word].fields, f"{owner}.{word}"
    return found[word]


def _unknown(message: str, word: str, known: Iterable[str], allowed: str) -> Exception:
    near = closest(word, known)
    return UsageError.of("unknown-name", message, *([f"did you mean `{near}`?"] if near else []), allowed)
