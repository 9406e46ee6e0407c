"""The sections `checks` and `moved`: what is asked after a run, and what had another name before. Reads declarations only."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated

from pydantic import Field

from albor_pipeline.errors import Span
from albor_pipeline.manifest.nodes import Node, Scalar, Sequence, Table
from albor_pipeline.manifest.schema import Block, Reader
from albor_pipeline.manifest.scope import Scope
from albor_pipeline.model.manifest import Check, Moved
from albor_pipeline.resources.fields import Count, Fields, Text


class CheckFields(Fields):
    """A command that must end as expected when everything is converged."""

    command: Annotated[Text, Field(description="the shell command")]
    machine: Annotated[Text, Field(description="where it runs")] = "localhost"
    expect_exit: Annotated[Count, Field(description="the exit code that it must end with")] = 0
    description: Annotated[str, Field(description="a sentence for readers")] = ""


class MovedFields(Fields):
    """A resource or a machine that had another name."""

    before: Text = Field(alias="from", description="its name before")
    to: Annotated[Text, Field(description="its name now")]


def read_checks(reader: Reader, section: Mapping[str, tuple[Scalar, Node]], scope: Scope) -> tuple[Check, ...]:
    """The checks in declared order; their commands may hold templates, of their own machine too."""
    checks = []
    for name, (key, node) in section.items():
        table = reader.table(node, f"check `{name}`") or Table(node.start)
        span = reader.text.of(key)
        machine = table.get("machine")
        scope.current = scope.machines.get(machine.text if isinstance(machine, Scalar) else "localhost")
        block = Block(f"check `{name}`", span, "a check", CheckFields)
        fields = reader.model(CheckFields, table, reader.raw(table, scope), block)
        scope.current = None
        if fields is None:
            continue
        if fields.machine not in scope.machines:
            place = reader.text.of(machine) if machine is not None else span
            label = reader.suggest.label(fields.machine, scope.machines)
            message = f"check `{name}` is on machine `{fields.machine}`, which is not declared"
            note = f"declared machines: {', '.join(scope.machines)}"
            reader.problems.error("unknown-machine", message, place, label, (note,))
            continue
        at = reader.text.of(table.items["command"][1])
        checks.append(Check(name, fields.machine, fields.command, fields.expect_exit, fields.description, span, at))
    return tuple(checks)


def read_moved(
    reader: Reader, root: Table, resources: Collection[str], groups: Mapping[str, tuple[str, ...]], machines: Collection[str]
) -> tuple[Moved, ...]:
    """The renames; that of a group (a recipe, copies) is one of each member."""
    node = root.get("moved")
    if node is None or (isinstance(node, Scalar) and node.is_null):
        return ()
    if not isinstance(node, Sequence):
        reader.problems.error("wrong-type", f"`moved` must be a list, not {node.what}", reader.text.of(node))
        return ()
    found: list[Moved] = []
    taken: dict[tuple[str, str], Span] = {}
    for index, item in enumerate(node.items, start=1):
        table = reader.table(item, f"`moved` {index}") or Table(item.start)
        span = reader.text.span(item.start, item.start + 1)
        block = Block(f"`moved` {index}", span, "a move", MovedFields, names={"from": "before"})
        fields = reader.model(MovedFields, table, reader.raw(table, None), block)
        if fields is not None and _is_new(reader, fields, table, taken):
            found += _moves(reader, fields, table, resources, groups, machines)
    return tuple(found)


def _is_new(reader: Reader, fields: MovedFields, table: Table, taken: dict[tuple[str, str], Span]) -> bool:
    """Whether no other move is from the same name or to the same name: one row of the state cannot be two, nor two rows one."""
    good = True
    for word, name in (("from", fields.before), ("to", fields.to)):
        place = reader.text.of(table.items[word][1])
        first = taken.setdefault((word, name), place)
        if first is not place:
            reader.problems.error("moved-twice", f"two moves are {word} `{name}`", place, f"first at {first}")
            good = False
    if "@" in fields.before:
        message, note = f"`{fields.before}` is no name", "a resource moves on all its machines; a machine moves by its own name"
        reader.problems.error("bad-name", message, reader.text.of(table.items["from"][1]), "", (note,))
        good = False
    return good


def _moves(
    reader: Reader,
    fields: MovedFields,
    table: Table,
    resources: Collection[str],
    groups: Mapping[str, tuple[str, ...]],
    machines: Collection[str],
) -> list[Moved]:
    place = reader.text.of(table.items["from"][1])
    known = [*resources, *groups, *machines]
    if fields.to not in known:
        label = reader.suggest.label(fields.to, known)
        message = f"`{fields.before}` moved to `{fields.to}`, which is neither a resource nor a machine"
        reader.problems.error("unknown-resource", message, reader.text.of(table.items["to"][1]), label)
        return []
    if fields.before in known:
        note = "what still has its name did not move; remove the one or the other"
        reader.problems.error("still-there", f"`{fields.before}` is still declared", place, "", (note,))
        return []
    if fields.to in resources:
        return [Moved(fields.before, fields.to, "resource", place)]
    if fields.to in groups:
        cut = len(fields.to)
        return [Moved(fields.before + member[cut:], member, "resource", place) for member in groups[fields.to]]
    return [Moved(fields.before, fields.to, "machine", place)]
