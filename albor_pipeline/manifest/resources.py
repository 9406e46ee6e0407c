"""The `resources` section: each entry becomes a Resource with the typed fields of its kind. References are not followed here."""

from __future__ import annotations

import re
from collections.abc import Mapping, Set
from dataclasses import replace
from typing import Any

from albor_pipeline.errors import Span
from albor_pipeline.manifest import later
from albor_pipeline.manifest.flat import ANYWHERE, asks_nothing
from albor_pipeline.manifest.nodes import Node, NodeSpans, Scalar, Table, shorten
from albor_pipeline.manifest.references import MENTIONS
from albor_pipeline.manifest.schema import Block, Reader
from albor_pipeline.manifest.sections import CommonFields
from albor_pipeline.manifest.template import Scope
from albor_pipeline.model.resource import Resource
from albor_pipeline.resources.base import Kind
from albor_pipeline.resources.build import Build
from albor_pipeline.resources.fields import keys_of
from albor_pipeline.resources.registry import KINDS
from albor_pipeline.resources.task import Task

COMMON = tuple(CommonFields.model_fields)
FLAT = frozenset(("file", "task")) | later.TYPES
NAME = re.compile(r"[^\W_][\w.+-]*(?:/[\w.+-]+)*")
MAX_NAME = 200


class ResourceReader:
    """Collects resources; one that is wrong is kept with fields None, so that what refers to it is still checked."""

    def __init__(self, reader: Reader, scope: Scope) -> None:
        self._reader = reader
        self._scope = scope
        self._reverse = {
            name: {field: written for written, field in kind.names.items()} for name, kind in KINDS.items()
        }
        self._foreign = {
            name: ANYWHERE - {*keys_of(kind.model), *kind.names, *COMMON}
            for name, kind in KINDS.items()
            if name in FLAT
        }
        self.resources: dict[str, Resource] = {}
        self.depends_on: dict[str, tuple[str, ...]] = {}
        self.mentions: dict[str, dict[str, tuple[str, ...]]] = {}

    def add(self, name: str, key: Scalar, node: Node) -> None:
        """Read one entry."""
        span = self._reader.text.of(key)
        self.resources[name] = self._read(name, span, node)

    def _read(self, name: str, span: Span, node: Node) -> Resource:
        nothing = Resource(name, "", (), None, span=span)
        self._reader.take_not_yet()
        if not NAME.fullmatch(name) or len(name) > MAX_NAME:
            note = "a name is made of letters, digits, `-`, `_`, `.` and `+`"
            self._reader.problems.error("bad-name", f"`{shorten(name)}` cannot name a resource", span, "", (note,))
            return nothing
        table = self._reader.table(node, f"resource `{name}`")
        if table is None:
            self._reader.problems.error("missing-key", f"resource `{name}` needs `type`", span)
            return nothing
        kind = self._kind(name, span, table)
        if kind is None:
            return nothing
        spans = NodeSpans(self._reader.text, table, self._reverse[kind.name])
        table = self._without_foreign(table, self._block(name, span, kind), self._foreign.get(kind.name, frozenset()))
        common = self._common(name, span, table, kind)
        if common is None:
            self._fields(name, span, table, kind, None)
            return replace(nothing, spans=spans)
        machines = self._fitting(common)
        first, *others = machines or common.machine
        self._scope.asked_current = False
        fields = self._fields(name, span, table, kind, first)
        self._check_machines(name, spans, fields)
        per_machine: Mapping[str, Any] = {}
        if self._scope.asked_current and fields is not None:
            per_machine = {machine: self._fields(name, span, table, kind, machine) for machine in others}
        return Resource(
            name, kind.name, machines, fields, (), common.tags, span, spans, per_machine,
            common.resource_group, common.sudo, self._reader.take_not_yet(),
        )  # fmt: skip

    def _without_foreign(self, table: Table, block: Block, foreign: Set[str]) -> Table:
        """The table without the keys that only other types take; forjar ignores those, we say so where one asks for something."""
        found = [key for key in table.items if key in foreign]
        if not found:
            return table
        rest = Table(table.start)
        rest.end, rest.items = table.end, {key: pair for key, pair in table.items.items() if key not in foreign}
        for key in found:
            written, node = table.items[key]
            if not asks_nothing(self._reader.raw(node, None)):
                message, place = f"`{key}` has no effect on {block.owner}", self._reader.text.of(written)
                self._reader.problems.warning("no-effect", message, place, "", (block.takes,))
        return rest

    def _fitting(self, common: CommonFields) -> tuple[str, ...]:
        """The machines of an architecture that the resource is for; one without `arch` is for all of them."""
        if not common.arch:
            return common.machine
        known = self._scope.machines
        return tuple(machine for machine in common.machine if known[machine].arch in common.arch)

    def _kind(self, name: str, span: Span, table: Table) -> Kind | None:
        node = table.get("type")
        problems = self._reader.problems
        note = f"types: {', '.join(KINDS)}"
        if not isinstance(node, Scalar) or node.is_null:
            place = span if node is None else self._reader.text.of(node)
            problems.error("missing-key", f"resource `{name}` needs `type`", place, "", (note,))
            return None
        kind = KINDS.get(node.text)
        place = self._reader.text.of(node)
        if kind is None:
            label = self._reader.suggest.label(node.text, KINDS)
            problems.error("unknown-type", f"there is no type `{shorten(node.text)}`", place, label, (note,))
        elif node.text in later.TYPES:
            self._reader.note_not_yet(f"type `{node.text}`", place)
        return kind

    def _block(self, name: str, span: Span, kind: Kind) -> Block:
        return Block(
            f"{kind.noun} `{name}`", span, f"a {kind.noun}", kind.model, kind.shown, COMMON,
            later.KIND.get(kind.name, later.RESOURCE), kind.names,
        )  # fmt: skip

    def _common(self, name: str, span: Span, table: Table, kind: Kind) -> CommonFields | None:
        items = table.items
        values = {key: self._reader.raw(items[key][1], self._scope) for key in COMMON if key in items}
        common = self._reader.model(CommonFields, table, values, self._block(name, span, kind))
        if common is None:
            return None
        self.depends_on[name] = common.depends_on
        mentions = {field: words for field in MENTIONS if (words := getattr(common, field))}
        if mentions:
            self.mentions[name] = mentions
        spans = NodeSpans(self._reader.text, table, {})
        for index, machine in enumerate(common.machine):
            if machine not in self._scope.machines:
                place = spans.get(f"machine.{index}") or spans.get("machine", span)
                self._unknown_machine(f"`{name}` is on", machine, place)
                return None
        if not common.machine or len(set(common.machine)) < len(common.machine):
            message = f"`machine` of {kind.noun} `{name}` must name each machine once, and at least one"
            self._reader.problems.error("wrong-value", message, spans.get("machine", span))
            return None
        return common

    def _unknown_machine(self, who: str, machine: str, place: Span) -> None:
        known = self._scope.machines
        label, note = self._reader.suggest.label(machine, known), f"declared machines: {', '.join(known)}"
        message = f"{who} machine `{machine}`, which is not declared"
        self._reader.problems.error("unknown-machine", message, place, label, (note,))

    def _check_machines(self, name: str, spans: NodeSpans, fields: Any) -> None:
        """Note each machine that a field names and nobody declares."""
        named: dict[str, str] = {}
        if isinstance(fields, Build):
            named = {"build_machine": fields.build_machine}
        elif isinstance(fields, Task):
            named = {f"ranks_on.{index}": machine for index, machine in enumerate(fields.ranks_on)}
            for field, moves in (("scatter", fields.scatter), ("gather", fields.gather)):
                named |= {f"{field}.{index}.from": move.from_ for index, move in enumerate(moves) if move.from_}
        for path, machine in named.items():
            if machine not in self._scope.machines:
                self._unknown_machine(f"`{path.partition('.')[0]}` of `{name}` names", machine, spans[path])

    def _fields(self, name: str, span: Span, table: Table, kind: Kind, machine: str | None) -> Any:
        scope = self._scope
        scope.current = scope.machines[machine] if machine is not None else next(iter(scope.machines.values()))
        block, raw = self._block(name, span, kind), self._reader.raw
        values = {
            key: raw(pair[1], None if key in block.later and key not in kind.model.model_fields else scope)
            for key, pair in table.items.items()
            if key not in COMMON
        }
        for field, value in kind.defaults(name).items():
            values[field] = value if values.get(field) is None else values[field]
        fields = self._reader.model(kind.model, table, values, block)
        scope.current = None
        return fields
