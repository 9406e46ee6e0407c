"""The `resources` section: each entry becomes one or more Resources with the typed fields of their kind. Follows no reference."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from albor_pipeline.errors import ManifestError, Span
from albor_pipeline.manifest import expand, later
from albor_pipeline.manifest.conditions import Condition
from albor_pipeline.manifest.context import Context
from albor_pipeline.manifest.files import read_source
from albor_pipeline.manifest.flat import own_part
from albor_pipeline.manifest.machines import check_named, of_architecture, unknown_machine
from albor_pipeline.manifest.nodes import Elsewhere, Node, NodeSpans, Scalar, Table, shorten
from albor_pipeline.manifest.recipes import Recipes
from albor_pipeline.manifest.references import MENTIONS
from albor_pipeline.manifest.schema import Block, Reader
from albor_pipeline.manifest.scope import Scope
from albor_pipeline.manifest.sections import CommonFields
from albor_pipeline.model.resource import Resource
from albor_pipeline.resources.base import Kind
from albor_pipeline.resources.fields import keys_of
from albor_pipeline.resources.registry import KINDS
from albor_pipeline.resources.task import Task

COMMON = tuple(CommonFields.model_fields)
EXPANDING = (*expand.KEYS, "when")
NAME = re.compile(r"[^\W_][\w.+-]*(?:/[\w.+-]+)*")
MAX_NAME = 200
TYPES_NOTE = f"types: {', '.join(KINDS)}"
MAX_RESOURCES = 50_000
MAX_INSTANCES = 2_000
MAX_MISTAKES = 5_000  # five times as many as are shown; the rest of such a manifest is not read
SECRET_FIELDS: Mapping[str, tuple[str, ...]] = {"task": ("env",), "file": ("content",), "model": ("token",)}


class ResourceReader:
    """Collects resources; one that is wrong is kept with fields None, so that what refers to it is still checked.

    `groups` gives for a name that stands for several resources (a recipe, `count`, `for_each`) all of them; a resource
    that is on no machine because of its `when` is a group of none. `gave_up`: not all were read, so nobody knows what is declared.
    """

    def __init__(self, reader: Reader, recipes: Recipes, root: Path) -> None:
        self._reader = reader
        self._recipes = recipes
        self._root = root
        self._order: list[str] = []
        self._instances = 0
        self.resources: dict[str, Resource] = {}
        self.depends_on: dict[str, tuple[str, ...]] = {}
        self.mentions: dict[str, dict[str, tuple[str, ...]]] = {}
        self.groups: dict[str, tuple[str, ...]] = {}
        self.contexts: dict[str, Context] = {}
        self.gave_up = False

    def add(self, name: str, key: Scalar, node: Node, context: Context) -> None:
        """Read one entry of a `resources` section; of copies with the same mistake the first one is told."""
        if len(self._order) > MAX_RESOURCES or self.gave_up:
            return
        span = self._reader.text.of(key)
        if self._reader.problems.error_count >= MAX_MISTAKES:
            self.gave_up = True
            message = f"a manifest with {MAX_MISTAKES:,} mistakes is not read any further; here `{shorten(name)}` would come next"
            self._reader.problems.error("too-many", message, span)
            return
        name = context.prefix + name
        if not NAME.fullmatch(name) or len(name) > MAX_NAME:
            note = "a name is made of letters, digits, `-`, `_`, `.` and `+`"
            self._reader.problems.error("bad-name", f"`{shorten(name)}` cannot name a resource", span, "", (note,))
            self._keep(Resource(name, "", (), None, span=span), context)
            return
        if not isinstance(node, Table) or not any(word in node.items for word in EXPANDING):
            self._put(name, span, node, context)
            return
        before, wrong = len(self._order), self._reader.problems.error_count
        found = expand.copies(self._reader, name, span, node, context.scope)
        for copy in found:
            if len(self._order) > MAX_RESOURCES:
                break
            inner = context if copy.scope is context.scope else replace(context, scope=copy.scope)
            when = node.get("when")
            if when is not None and not (isinstance(when, Scalar) and when.is_null):
                condition = Condition(when, copy.scope)
                inner = replace(inner, conditions=(*inner.conditions, condition))
            if self._reader.problems.error_count > wrong:
                self._keep(Resource(name + copy.suffix, "", (), None, span=copy.span), inner)
            else:
                self._copy(name, copy, node, inner)
        if not found:
            self._keep(Resource(name, "", (), None, span=span), context)
        elif found[0].suffix:
            self._group(name, span, before)

    def _copy(self, name: str, copy: expand.Copy, node: Node, context: Context) -> None:
        whole = name + copy.suffix
        if not NAME.fullmatch(whole) or len(whole) > MAX_NAME:
            message = f"the item `{shorten(copy.suffix[1:])}` of `{name}` cannot end the name of a resource"
            note = "a name is made of letters, digits, `-`, `_`, `.` and `+`"
            self._reader.problems.error("bad-name", message, copy.span, "", (note,))
        else:
            self._put(whole, copy.span, node, context)

    def _group(self, name: str, span: Span, before: int) -> None:
        if name in self.resources or name in self.groups:
            self._twice(name, span)
        self.groups[name] = tuple(self._order[before:])

    def _put(self, name: str, span: Span, node: Node, context: Context) -> None:
        if name in self.resources or name in self.groups:
            self._twice(name, span)
            return
        if len(self._order) >= MAX_RESOURCES:
            if len(self._order) == MAX_RESOURCES:
                message = f"a manifest has at most {MAX_RESOURCES:,} resources; `{name}` is one more"
                self._reader.problems.error("too-large", message, span)
                self._order.append(name)
            return
        kind = node.get("type") if isinstance(node, Table) else None
        if isinstance(kind, Scalar) and kind.text == "recipe":
            assert isinstance(node, Table)
            before = len(self._order)
            self._instances += 1
            if self._instances > MAX_INSTANCES:
                if self._instances == MAX_INSTANCES + 1:
                    message = f"a manifest has at most {MAX_INSTANCES:,} instances of recipes; `{name}` is one more"
                    self._reader.problems.error("too-large", message, span)
                return
            if self._recipe(name, span, node, context):
                self._group(name, span, before)
            else:
                self._keep(Resource(name, "recipe", (), None, span=span), context)
            return
        resource = self._read(name, span, node, context)
        if resource.fields is not None and (context.conditions or not resource.machines):
            machines = tuple(machine for machine in resource.machines if self._holds(machine, context))
            if not machines:
                self.groups[name] = ()
                self.depends_on.pop(name, None)
                self.mentions.pop(name, None)
                return
            first = resource.fields_by_machine.get(machines[0], resource.fields)
            resource = replace(resource, machines=machines, fields=first)
        self._keep(resource, context)

    def _holds(self, machine: str, context: Context) -> bool:
        known = context.scope.machines[machine]
        return all(condition.holds(known, self._reader) for condition in context.conditions)

    def _keep(self, resource: Resource, context: Context) -> None:
        self._order.append(resource.id)
        self.resources[resource.id] = resource
        if context.prefix:
            self.contexts[resource.id] = context

    def _twice(self, name: str, span: Span) -> None:
        other = self.resources.get(name)
        label = f"first at {other.span}" if other is not None and other.span is not None else ""
        self._reader.problems.error("duplicate-resource", f"two resources are named `{name}`", span, label)

    def _recipe(self, name: str, span: Span, table: Table, context: Context) -> bool:
        """Read what an instance holds; False when the instance itself is wrong, and nothing of it is known."""
        block = Block(
            f"recipe `{name}`", span, "a recipe", CommonFields, extra=("recipe", "inputs"), later=later.RECIPE
        )
        table = own_part(self._reader, table, "recipe", block)
        self._reader.take_not_yet()
        common = self._common(name, span, table, block, context.scope)
        self._reader.problems.extend(self._reader.take_not_yet())
        words = self.depends_on.pop(name, ())
        entry = self._recipes.entry(name, span, table, context, block)
        if common is None or entry is None:
            return False
        if "machine" in table.items:
            entry = replace(entry, machines=common.machine)
        spans = NodeSpans(self._reader.text, table, {})
        outer = [(word, context.prefix, spans.get(f"depends_on.{index}", span)) for index, word in enumerate(words)]
        entry = replace(entry, tags=(*entry.tags, *common.tags), outer=(*entry.outer, *outer))
        entry = replace(entry, group=common.resource_group or entry.group)
        for inner, (key, node) in self._recipes.resources(entry).items():
            self.add(inner, key, node, entry)
        return True

    def _read(self, name: str, span: Span, node: Node, context: Context) -> Resource:
        nothing = Resource(name, "", (), None, span=span)
        self._reader.take_not_yet()
        table = self._reader.table(node, f"resource `{name}`")
        if table is None:
            self._reader.problems.error("missing-key", f"resource `{name}` needs `type`", span)
            return nothing
        kind = self._kind(name, span, table)
        if kind is None:
            return nothing
        scope = context.scope
        spans = NodeSpans(self._reader.text, table, {field: written for written, field in kind.names.items()})
        block = Block(
            f"{kind.noun} `{name}`", span, f"a {kind.noun}", kind.model, kind.shown, (*COMMON, *EXPANDING),
            later.KIND.get(kind.name, later.RESOURCE), kind.names,
            _later_inside(kind),
        )  # fmt: skip
        table = own_part(self._reader, table, kind.name, block)
        common = self._common(name, span, table, block, scope)
        if common is None:
            self._fields(name, table, kind, block, scope, None)
            return replace(nothing, spans=spans)
        self._check_ignored(name, kind, common, spans)
        machines = of_architecture(context.machines or common.machine, common.arch, scope.machines)
        first, *others = machines or context.machines or common.machine
        scope.asked_current = False
        fields = self._fields(name, table, kind, block, scope, first)
        check_named(self._reader, scope.machines, name, fields, spans)
        if isinstance(fields, Task):
            self._mode(name, fields, spans)
        per_machine: Mapping[str, Any] = {}
        if scope.asked_current and fields is not None:
            per_machine = {machine: self._fields(name, table, kind, block, scope, machine) for machine in others}
        tags = (*context.tags, *common.tags) if context.tags else common.tags
        return Resource(
            name, kind.name, machines, fields, (), (), tags, span, _spans(spans, fields), per_machine,
            common.resource_group or context.group, common.sudo, common.store, _hooks(common),
            common.lifecycle.prevent_destroy, common.lifecycle.ignore_drift, self._reader.take_not_yet(),
        )  # fmt: skip

    def _kind(self, name: str, span: Span, table: Table) -> Kind | None:
        node = table.get("type")
        problems, note = self._reader.problems, TYPES_NOTE
        if not isinstance(node, Scalar) or node.is_null:
            place = span if node is None else self._reader.text.of(node)
            problems.error("missing-key", f"resource `{name}` needs `type`", place, "", (note,))
            return None
        kind = KINDS.get(node.text)
        if kind is None:
            label, place = self._reader.suggest.label(node.text, tuple(KINDS)), self._reader.text.of(node)
            problems.error("unknown-type", f"there is no type `{shorten(node.text)}`", place, label, (note,))
        elif node.text in later.TYPES:
            self._reader.note_not_yet(f"type `{node.text}`", self._reader.text.of(node), instead=later.INSTEAD.get(node.text, ""))
        return kind

    def _common(self, name: str, span: Span, table: Table, block: Block, scope: Scope) -> CommonFields | None:
        items = table.items
        values = {key: self._reader.raw(items[key][1], scope) for key in COMMON if key in items}
        extra = (*block.extra, *keys_of(block.model))
        block = Block(block.owner, block.span, block.noun, CommonFields, block.shown, extra, block.later, block.names, block.later_inside)
        common = self._reader.model(CommonFields, table, values, block)
        if common is None:
            return None
        self.depends_on[name] = common.depends_on
        mentions = {field: words for field in MENTIONS if (words := getattr(common, field))}
        if mentions:
            self.mentions[name] = mentions
        spans = NodeSpans(self._reader.text, table, {})
        for index, machine in enumerate(common.machine):
            if "{{" in machine:
                return None  # a template without a value, which is noted or not known yet
            if machine not in scope.machines:
                place = spans.get(f"machine.{index}") or spans.get("machine", span)
                unknown_machine(self._reader, scope.machines, f"`{name}` is on", machine, place)
                return None
        if not common.machine or len(set(common.machine)) < len(common.machine):
            message = f"`machine` of {block.owner} must name each machine once, and at least one"
            self._reader.problems.error("wrong-value", message, spans.get("machine", span))
            return None
        return common

    def _fields(self, name: str, table: Table, kind: Kind, block: Block, scope: Scope, machine: str | None) -> Any:
        scope.current = scope.machines[machine] if machine is not None else next(iter(scope.machines.values()))
        raw, secret = self._reader.raw, SECRET_FIELDS.get(kind.name, ())
        values: dict[str, Any] = {}
        for key, (_, node) in table.items.items():
            if key not in COMMON and key not in EXPANDING:
                scope.secrets_allowed = key in secret
                values[key] = raw(node, None if key in block.later and key not in kind.model.model_fields else scope)
        named = table.get("template")
        if isinstance(named, Scalar) and values["template"] is not None and values.get("content") is None:
            scope.secrets_allowed = "content" in secret
            values["content"] = self._filled(named, str(values["template"]), scope)
        scope.secrets_allowed = False
        for field, value in kind.defaults(name).items():
            values[field] = value if values.get(field) is None else values[field]
        fields = self._reader.model(kind.model, table, values, block)
        scope.current = None
        return fields


    def _mode(self, name: str, task: Task, spans: Mapping[str, Span]) -> None:
        """Note a mode that nothing is run in here, with what to declare instead."""
        if task.task_mode in later.MODES:
            what, instead = f"`task_mode: {task.task_mode}`", later.MODES[task.task_mode]
            self._reader.note_not_yet(what, spans["task_mode"], f"in task `{name}`", instead)

    def _check_ignored(self, name: str, kind: Kind, common: CommonFields, spans: Mapping[str, Span]) -> None:
        """Note a field whose drift is to be ignored and that the type does not have."""
        for index, word in enumerate(common.lifecycle.ignore_drift):
            known = keys_of(kind.model)
            if word != "*" and word.partition(".")[0] not in known:
                message = f"`ignore_drift` of `{name}` names `{word}`, which is no field of a {kind.noun}"
                place = spans.get(f"lifecycle.ignore_drift.{index}") or spans.get("lifecycle")
                self._reader.problems.error("unknown-field", message, place, self._reader.suggest.label(word, known))

    def _filled(self, node: Scalar, path: str, scope: Scope) -> str | None:
        """The text of a project file with its templates filled in; what is wrong with it is noted at the node that names it."""
        try:
            source = read_source(self._root / path)
        except ManifestError as error:
            self._reader.problems.extend(replace(item, span=self._reader.text.of(node)) for item in error.diagnostics)
            return None
        return self._reader.resolved(node, source.text, scope)


def _later_inside(kind: Kind) -> dict[str, str]:
    """What has no effect on a resource of this kind inside its common blocks, each with what to do instead."""
    found = dict.fromkeys(later.TASK_INSIDE, "") if kind.name == "task" else {}
    return {**found, later.NEW_FIRST: later.OLD_FIRST[kind.name]} if kind.name in later.OLD_FIRST else found


def _spans(spans: NodeSpans, fields: Any) -> Mapping[str, Span]:
    """The places of a resource's values; what a task has from its stages stands at those."""
    origins = fields.origins if isinstance(fields, Task) else {}
    return Elsewhere(spans, origins) if origins else spans


def _hooks(common: CommonFields) -> dict[str, str]:
    given = {"pre_apply": common.pre_apply, "post_apply": common.post_apply}
    return {key: command for key, command in given.items() if command is not None}
