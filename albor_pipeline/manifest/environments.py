"""Environments: params and machine addresses that `--env NAME` puts in the place of the declared ones. Works on nodes, before templates."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from albor_pipeline.errors import Problems
from albor_pipeline.manifest.machines import unknown_machine
from albor_pipeline.manifest.nodes import Node, Scalar, Table, Text, shorten
from albor_pipeline.manifest.schema import Block, Reader
from albor_pipeline.manifest.sections import host_address
from albor_pipeline.resources.fields import Fields

LATER = frozenset(("promotion",))
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


def _address(value: Any) -> Any:
    """An address, or a template of one, which is resolved where the environment is chosen."""
    return value if isinstance(value, str) and "{{" in value else host_address(value)


class MachineOverride(Fields):
    """What an environment says of a machine."""

    addr: Annotated[
        str, BeforeValidator(_address), Field(description="its address in this environment")
    ]


class EnvironmentFields(Fields):
    """One environment as declared."""

    description: Annotated[str, Field(description="a sentence for readers")] = ""
    params: Annotated[Mapping[str, Any], Field(description="the params that differ")] = Field(default_factory=dict)
    machines: Annotated[Mapping[str, MachineOverride], Field(description="the machines that are elsewhere")] = Field(default_factory=dict)


class Environments:
    """The `environments` section; every environment is checked, whichever is used."""

    def __init__(self, reader: Reader, root: Table) -> None:
        self._reader = reader
        self._root = root
        self._tables: dict[str, Table] = {}
        section = reader.table(root.get("environments"), "`environments`")
        for name, (key, node) in ({} if section is None else section.items).items():
            self._check(name, key, node)

    def _check(self, name: str, key: Scalar, node: Node) -> None:
        if not NAME.fullmatch(name):
            note = "a name is made of letters, digits, `-`, `_` and `.`, it starts with a letter or a digit"
            self._problems.error(
                "bad-name", f"`{shorten(name)}` cannot name an environment", self._text.of(key), "", (note,)
            )
            return
        table = self._reader.table(node, f"environment `{name}`") or Table(node.start)
        block = Block(f"environment `{name}`", self._text.of(key), "an environment", EnvironmentFields, later=LATER)
        fields = self._reader.model(EnvironmentFields, table, self._reader.raw(table, None), block)
        self._tables[name] = table
        if fields is None:
            return
        machines = self._reader.table(self._root.get("machines"), "`machines`")
        known = list(machines.items) if machines is not None else []
        for machine in fields.machines:
            if machine not in known:
                place = self._text.of(_table(table, "machines").items[machine][0])
                unknown_machine(self._reader, known, f"environment `{name}` moves the", machine, place)
        params = self._reader.table(self._root.get("params"), "`params`")
        declared = list(params.items) if params is not None else []
        for param in fields.params:
            if param not in declared:
                place = self._text.of(_table(table, "params").items[param][0])
                message = f"environment `{name}` sets the param `{param}`, which only exists there"
                self._problems.warning("param-in-one", message, place, self._reader.suggest.label(param, declared))

    def chosen(self, name: str | None) -> Table:
        """The manifest as the environment `name` has it; the manifest itself for None."""
        if name is None:
            return self._root
        table = self._tables.get(name)
        if table is None:
            section = self._root.items.get("environments")
            note = f"declared environments: {', '.join(self._tables) or 'none'}"
            label = self._reader.suggest.label(name, self._tables)
            place = self._text.of(section[0]) if section is not None else None
            notes = (note,) if place is not None or not label else (label, note)
            self._problems.error("unknown-environment", f"there is no environment `{name}`", place, label, notes)
            return self._root
        root = _copy(self._root)
        if isinstance(table.get("params"), Table):
            self._put(root, "params", _table(table, "params"))
        for machine, (_, node) in _table(table, "machines").items.items():
            machines = _copy(_table(root, "machines"))
            pair = machines.items.get(machine)
            if pair is not None and isinstance(pair[1], Table) and isinstance(node, Table) and "addr" in node.items:
                moved = _copy(pair[1])
                moved.items["addr"] = node.items["addr"]
                machines.items[machine] = (pair[0], moved)
                root.items["machines"] = (root.items["machines"][0], machines)
        return root

    def _put(self, root: Table, key: str, other: Table) -> None:
        mine = _copy(_table(root, key))
        mine.items.update(other.items)
        root.items[key] = (
            root.items[key][0] if key in root.items else Scalar(key, False, other.start, other.start),
            mine,
        )

    @property
    def _text(self) -> Text:
        return self._reader.text

    @property
    def _problems(self) -> Problems:
        return self._reader.problems


def _table(table: Table, key: str) -> Table:
    node = table.get(key)
    return node if isinstance(node, Table) else Table(table.start)


def _copy(table: Table) -> Table:
    copy = Table(table.start)
    copy.end, copy.items = table.end, dict(table.items)
    return copy
