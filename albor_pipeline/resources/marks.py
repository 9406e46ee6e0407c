"""Marks: how a line or a rule that several of us may add to one place says whose it is. Knows no place."""

from __future__ import annotations

from albor_pipeline.resources.base import Instance

PREFIX = "albor-pipeline "
SEPARATOR = ": "


def mark(one: Instance, name: str) -> str:
    """`albor-pipeline RESOURCE: NAME`; without a name only the resource."""
    return f"{PREFIX}{one.resource.id}" + (f"{SEPARATOR}{name}" if name else "")


def parse(text: str) -> tuple[str, str] | None:
    """The resource and the name of a mark; None for what is none."""
    if not text.startswith(PREFIX):
        return None
    resource, _separator, name = text.removeprefix(PREFIX).partition(SEPARATOR)
    return resource, name
