"""Blocks and fields of the format as lines for a terminal. Knows no registry."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from albor_pipeline.model.about import BlockAbout, FieldAbout
from albor_pipeline.ui import words

CHANGES = {
    "content": "runs or applies it again",
    "policy": "counts the next time; runs nothing again",
    "doc": "means nothing; it is for readers",
}
LATER = "it is read and checked; a plan that needs it is refused"
COMMAND = "albor-pipeline explain"


def index_lines(blocks: Iterable[BlockAbout]) -> Iterator[str]:
    """Every type and every other block, a line each."""
    known = list(blocks)
    yield "types:"
    yield from words.columns([block.name, block.about + (" (not yet)" if block.later else "")] for block in known if block.is_type)
    yield "other blocks:"
    yield from words.columns([block.name, block.about] for block in known if not block.is_type)
    yield f"To see one: {COMMAND} {next((block.name for block in known if block.is_type), 'manifest')}"


def block_lines(block: BlockAbout) -> Iterator[str]:
    """What it is, then its fields, what is required first said."""
    yield f"{block.name}: {block.about}"
    if block.later:
        yield f"  not yet   {LATER}"
    yield ""
    rows = [*_rows(block.fields), *_rows(block.common)]
    lines = words.columns(rows)
    yield from lines[: len(block.fields)]
    if block.common:
        yield ""
        yield "as every resource:"
        yield from lines[len(block.fields) :]
    if block.fields:
        yield ""
        yield f"To see one: {COMMAND} {block.name}.{block.fields[0].name}"


def field_lines(path: str, field: FieldAbout) -> Iterator[str]:
    """What it is for, what it takes, its default, what a change means, and the fields inside it."""
    yield f"{path}: {field.about}" if field.about else path
    rows = [["takes", field.takes]]
    if field.required:
        rows.append(["required", "yes"])
    elif field.default:
        rows.append(["default", field.default])
    else:
        rows.append(["required", "no"])
    if field.change:
        rows.append(["a change", CHANGES[field.change]])
    if field.later:
        rows.append(["not yet", LATER])
    rows += [["also", f"written `{other}`"] for other in field.spellings]
    yield from words.columns(rows)
    if field.fields:
        yield ""
        yield from words.columns(_rows(field.fields))


def _rows(fields: Iterable[FieldAbout]) -> list[list[str]]:
    return [[field.name, f"{field.about or field.takes}{_marks(field)}"] for field in fields]


def _marks(field: FieldAbout) -> str:
    return " (required)" if field.required else " (not yet)" if field.later else ""
