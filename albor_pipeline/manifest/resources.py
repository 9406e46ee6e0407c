"""The `resources` section: each entry becomes a Resource with the typed fields of its kind. References are not followed here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from albor_pipeline.errors import Span
from albor_pipeline.manifest import later
from albor_pipeline.manifest.nodes import Node, NodeSpans, Scalar, Table, shorten
from albor_pipeline.manifest.schema import Block, Reader
from albor_pipeline.manifest.scope import Scope
from albor_pipeline.manifest.sections import CommonFields
from albor_pipeline.model.resource import Resource
from albor_pipeline.resources.base import Kind
from albor_pipeline.resources.registry import KINDS

COMMON = tuple(CommonFields.model_fields)
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
        self.resources: dict[str, Resource] = {}
        self.depends_on: dict[str, tuple[str, ...]] = {}

    def add(self, name: str, key: Scalar, node: Node) -> None:
        """Read one entry."""
        span = self._reader.text.of(key)
        self.resources[name] = self._read(name, span, node)

    def _read(self, name: str, span: Span, node: Node) -> Resource:
        nothing = Resource(name, "", (), None, span=span)
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
        common = self._common(name, span, table, kind)
        if common is None:
            self._fields(name, span, table, kind, None)
            return replace(nothing, spans=spans)
        first, *others = common.machine
        self._scope.asked_current = False
        fields = self._fields(name, span, table, kind, first)
        per_machine: Mapping[str, Any] = {}
        if self._scope.asked_current and fields is not None:
            per_machine = {machine: self._fields(name, span, table, kind, machine) for machine in others}
        return Resource(name, kind.name, common.machine, fields, (), common.tags, span, spans, per_machine)

    def _kind(self, name: str, span: Span, table: Table) -> Kind | None:
        node = table.get("type")
        problems = self._reader.problems
        note = f"types: {', '.join(KINDS)}"
        if not isinstance(node, Scalar) or node.is_null:
            place = span if node is None else self._reader.text.of(node)
            problems.error("missing-key", f"resource `{name}` needs `type`", place, "", (note,))
            return None
        kind = KINDS.get(node.text)
        if kind is None:
            place = self._reader.text.of(node)
            if node.text in later.TYPES:
                problems.error("not-supported", f"type `{node.text}` is not supported yet", place, "", (note,))
            else:
                message, label = (
                    f"there is no type `{shorten(node.text)}`",
                    self._reader.suggest.label(node.text, KINDS),
                )
                problems.error("unknown-type", message, place, label, (note,))
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
        known = self._scope.machines
        for index, machine in enumerate(common.machine):
            if machine not in known:
                spans = NodeSpans(self._reader.text, table, {})
                place = spans.get(f"machine.{index}") or spans.get("machine", span)
                message = f"`{name}` is on machine `{machine}`, which is not declared"
                label, note = self._reader.suggest.label(machine, known), f"declared machines: {', '.join(known)}"
                self._reader.problems.error("unknown-machine", message, place, label, (note,))
                return None
        if not common.machine or len(set(common.machine)) < len(common.machine):
            message = f"`machine` of {kind.noun} `{name}` must name each machine once, and at least one"
            self._reader.problems.error(
                "wrong-value", message, NodeSpans(self._reader.text, table, {}).get("machine", span)
            )
            return None
        return common

    def _fields(self, name: str, span: Span, table: Table, kind: Kind, machine: str | None) -> Any:
        scope = self._scope
        scope.current = scope.machines[machine] if machine is not None else next(iter(scope.machines.values()))
        block, raw = self._block(name, span, kind), self._reader.raw
        values = {
            key: raw(pair[1], None if key in block.later else scope)
            for key, pair in table.items.items()
            if key not in COMMON
        }
        for field, value in kind.defaults(name).items():
            values[field] = value if values.get(field) is None else values[field]
        fields = self._reader.model(kind.model, table, values, block)
        scope.current = None
        return fields
