"""Resources and machines: those that an architecture leaves, and those that a field names. Knows no YAML but its places."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from albor_pipeline.errors import Span
from albor_pipeline.manifest.nodes import NodeSpans
from albor_pipeline.manifest.schema import Reader
from albor_pipeline.model.manifest import Machine
from albor_pipeline.resources.build import Build
from albor_pipeline.resources.task import Task


def of_architecture(names: tuple[str, ...], wanted: tuple[str, ...], known: Mapping[str, Machine]) -> tuple[str, ...]:
    """The machines of a wanted architecture; all of them when none is wanted in particular."""
    return tuple(name for name in names if known[name].arch in wanted) if wanted else names


def unknown_machine(reader: Reader, known: Collection[str], who: str, machine: str, place: Span) -> None:
    """Note that `who` names a machine that nobody declares."""
    label, note = reader.suggest.label(machine, known), f"declared machines: {', '.join(known) or 'none'}"
    reader.problems.error("unknown-machine", f"{who} machine `{machine}`, which is not declared", place, label, (note,))


def check_named(reader: Reader, known: Mapping[str, Machine], name: str, fields: Any, spans: NodeSpans) -> None:
    """Note each machine that a field of the resource `name` names and nobody declares."""
    named: dict[str, str] = {}
    if isinstance(fields, Build):
        named = {"build_machine": fields.build_machine}
    elif isinstance(fields, Task):
        named = {f"ranks_on.{index}": machine for index, machine in enumerate(fields.ranks_on)}
        for field, moves in (("scatter", fields.scatter), ("gather", fields.gather)):
            named |= {f"{field}.{index}.from": move.from_ for index, move in enumerate(moves) if move.from_}
    for path, machine in named.items():
        if machine not in known:
            unknown_machine(reader, known, f"`{path.partition('.')[0]}` of `{name}` names", machine, spans[path])
