"""Policy rules (`policies`): what every resource must, must not, or should hold. Judges declarations only; looks at no machine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import Field

from albor_pipeline.errors import Problems, Span
from albor_pipeline.manifest.nodes import Sequence, Table
from albor_pipeline.manifest.schema import Block, Reader
from albor_pipeline.model.resource import Resource
from albor_pipeline.resources.fields import Count, Fields, Text, parse_bytes, parse_seconds
from albor_pipeline.resources.registry import KINDS
from albor_pipeline.resources.task import Output as TaskOutput

BLOCKING = ("require", "deny", "assert")
CONDITION = ("condition_field", "condition_value")
BOUNDS = ("max_count", "min_count")
IDLE = {  # what a type does not look at
    "require": (*CONDITION, *BOUNDS), "deny": BOUNDS, "warn": BOUNDS, "assert": ("field", *BOUNDS), "limit": CONDITION,
}  # fmt: skip
OWN = ("id", "type", "machine", "depends_on", "tags")


class ControlFields(Fields):
    """A control of a rule book that the rule serves."""

    framework: Annotated[Text, Field(description="the rule book")]
    control: Annotated[Text, Field(description="the number of the control in it")]


class RuleFields(Fields):
    """One rule as declared."""

    type: Annotated[
        Literal["require", "deny", "warn", "assert", "limit"],
        Field(description="what a finding means: a field that must or must not be there, a value, or a number of resources"),
    ]
    message: Annotated[Text, Field(description="the sentence of a finding")]
    id: Annotated[Text | None, Field(description="the name of the rule")] = None
    resource_type: Annotated[Text | None, Field(description="only resources of this type")] = None
    tag: Annotated[Text | None, Field(description="only resources with this tag")] = None
    field: Annotated[Text | None, Field(description="the field that must, or must not, be given")] = None
    condition_field: Annotated[Text | None, Field(description="the field whose value is looked at")] = None
    condition_value: Annotated[str | None, Field(description="the value that it has")] = None
    max_count: Annotated[Count | None, Field(description="at most so many")] = None
    min_count: Annotated[Count | None, Field(description="at least so many")] = None
    severity: Annotated[Literal["error", "warning", "info"] | None, Field(description="error blocks; the rest is shown")] = None
    remediation: Annotated[Text | None, Field(description="the way out of a finding")] = None
    compliance: Annotated[tuple[ControlFields, ...], Field(description="the controls that it serves")] = ()


@dataclass(frozen=True)
class Rule:
    """A rule with its place."""

    fields: RuleFields
    span: Span

    @property
    def level(self) -> str:
        """The level of its findings: `info` is shown as a warning."""
        default = "error" if self.fields.type in BLOCKING else "warning"
        return "error" if (self.fields.severity or default) == "error" else "warning"


def read_rules(reader: Reader, root: Table) -> list[Rule]:
    """The rules of a manifest; one that cannot be used is noted and left out."""
    node = root.get("policies")
    if node is None or (not isinstance(node, Sequence) and getattr(node, "is_null", False)):
        return []
    if not isinstance(node, Sequence):
        reader.problems.error("wrong-type", f"`policies` must be a list, not {node.what}", reader.text.of(node))
        return []
    rules = []
    for index, item in enumerate(node.items):
        table = reader.table(item, f"policy rule {index + 1}") or Table(item.start)
        span = (
            reader.text.span(item.start, item.start + 1)
            if not table.items
            else reader.text.of(next(iter(table.items.values()))[0])
        )
        block = Block(f"policy rule {index + 1}", span, "a policy rule", RuleFields)
        fields = reader.model(RuleFields, table, reader.raw(table, None), block)
        if fields is not None and _fits(reader, fields, table, block):
            rules.append(Rule(fields, span))
    return rules


def _fits(reader: Reader, rule: RuleFields, table: Table, block: Block) -> bool:
    """Whether a rule says what its type needs, of fields that exist; forjar let an unknown field never match."""
    before = reader.problems.error_count
    needs = {"require": ("field",), "assert": ("condition_field", "condition_value")}.get(rule.type, ())
    for name in needs:
        if getattr(rule, name) is None:
            message = f"{block.owner} needs `{name}`, because it is of type `{rule.type}`"
            reader.problems.error("missing-key", message, block.span)
    if rule.type == "limit" and rule.max_count is None and rule.min_count is None:
        reader.problems.error("missing-key", f"{block.owner} needs `max_count` or `min_count`", block.span)
    if rule.type in ("deny", "warn") and (rule.condition_field is None) != (rule.condition_value is None):
        message = f"{block.owner} takes `condition_field` and `condition_value` together"
        reader.problems.error("missing-key", message, block.span)
    if rule.resource_type is not None and rule.resource_type not in KINDS:
        place = reader.text.of(table.items["resource_type"][1])
        label, note = reader.suggest.label(rule.resource_type, KINDS), f"types: {', '.join(KINDS)}"
        reader.problems.error("unknown-type", f"there is no type `{rule.resource_type}`", place, label, (note,))
    else:
        known = _known_fields(rule.resource_type)
        for name in ("field", "condition_field"):
            word = getattr(rule, name)
            if word is not None and word not in known:
                whose = f"a {rule.resource_type}" if rule.resource_type else "no resource type"
                has = "has no" if rule.resource_type else "has a"
                place = reader.text.of(table.items[name][1])
                label = reader.suggest.label(word, known)
                reader.problems.error("unknown-field", f"{whose} {has} field `{word}`", place, label)
    _warn_of_idle(reader, rule, table, block)
    return reader.problems.error_count == before


def _warn_of_idle(reader: Reader, rule: RuleFields, table: Table, block: Block) -> None:
    """Warn of every key that a rule of this type does not look at."""
    idle = IDLE[rule.type]
    if rule.type in ("deny", "warn") and rule.condition_field is not None:
        idle = ("field", *idle)
    for name in idle:
        if getattr(rule, name) is not None:
            message = f"`{name}` has no effect on {block.owner}, because it is of type `{rule.type}`"
            message += " and has a `condition_field`" if name == "field" and rule.type != "assert" else ""
            reader.problems.warning("no-effect", message, reader.text.of(table.items[name][0]))


def _known_fields(kind: str | None) -> set[str]:
    kinds = KINDS.values() if kind is None else [KINDS[kind]]
    return {*OWN, *(name for item in kinds for name in (*item.model.model_fields, *item.names))}


def check_policies(rules: Iterable[Rule], resources: Mapping[str, Resource], problems: Problems) -> None:
    """Note every resource that breaks a rule, at the field where there is one."""
    for rule in rules:
        matching = [item for item in resources.values() if item.fields is not None and _applies(rule.fields, item)]
        if rule.fields.type == "limit" and rule.fields.field is None:
            if not _within(rule.fields, len(matching)):
                _note(rule, f"{len(matching)} {_what(rule.fields)}, {_bounds(rule.fields)}", rule.span, problems)
            continue
        for resource in matching:
            found = dict.fromkeys(broken for copy in _each_copy(resource) for broken in _broken(rule.fields, copy))
            for text, field in found:
                _note(rule, f"`{resource.id}` {text}", resource.spans.get(field, resource.span), problems)


def _each_copy(resource: Resource) -> Iterator[Resource]:
    """The resource with the fields that it has on each of its machines, once where they are the same."""
    yield resource
    for fields in resource.fields_by_machine.values():
        if fields is not None and fields is not resource.fields:
            yield replace(resource, fields=fields)


def _applies(rule: RuleFields, resource: Resource) -> bool:
    if rule.resource_type not in (None, resource.kind):
        return False
    return rule.tag is None or rule.tag in resource.tags


def _broken(rule: RuleFields, resource: Resource) -> Iterator[tuple[str, str]]:
    """What is wrong with a resource, and in which field."""
    field, condition = rule.field or "", rule.condition_field or ""
    if rule.type == "require":
        if _is_empty(_value(resource, field)):
            yield f"has no `{field}`", field
    elif rule.type == "assert":
        value = _value(resource, condition)
        if not _equals(value, rule.condition_value):
            yield f"has `{condition}: {_shown(value)}`, not `{rule.condition_value}`", condition
    elif rule.type == "limit":
        value = _value(resource, field)
        size = len(value) if isinstance(value, tuple | list | Mapping) else 0 if _is_empty(value) else 1
        if not _within(rule, size):
            yield f"has {size} in `{field}`, {_bounds(rule)}", field
    elif condition:
        if _equals(_value(resource, condition), rule.condition_value):
            yield f"has `{condition}: {rule.condition_value}`", condition
    elif field:
        if not _is_empty(_value(resource, field)):
            yield f"has `{field}`", field
    else:
        yield f"is one of the {_what(rule)}", "type"


def _value(resource: Resource, name: str) -> Any:
    own = {
        "id": resource.id, "type": resource.kind, "machine": resource.machines, "tags": resource.tags,
        "depends_on": tuple(ref.text for ref in resource.depends_on),
    }  # fmt: skip
    if name in own:
        return own[name]
    return getattr(resource.fields, KINDS[resource.kind].names.get(name, name), None)


def _is_empty(value: Any) -> bool:
    return value is None or value in ("", (), [], {})


def _equals(value: Any, wanted: str | None) -> bool:
    if isinstance(value, tuple | list):
        return any(_equals(item, wanted) for item in value)
    if isinstance(value, TaskOutput):
        return value.path == wanted
    return _shown(value) == wanted or (isinstance(value, int | float) and not isinstance(value, bool) and value == _amount(wanted))


def _amount(text: str | None) -> float | None:
    """The number that a rule writes as a time or a size: `10m`, `20GB`."""
    for parse in (parse_seconds, parse_bytes):
        with suppress(ValueError):
            return parse(text)
    return None


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value == int(value):
        return str(int(value))
    return "" if value is None else str(value)


def _within(rule: RuleFields, number: int) -> bool:
    return (rule.min_count or 0) <= number and (rule.max_count is None or number <= rule.max_count)


def _bounds(rule: RuleFields) -> str:
    if rule.max_count is None:
        return f"at least {rule.min_count} wanted"
    return (
        f"at most {rule.max_count} allowed"
        if rule.min_count is None
        else f"{rule.min_count} to {rule.max_count} allowed"
    )


def _what(rule: RuleFields) -> str:
    kind = f"resources of type {rule.resource_type}" if rule.resource_type else "resources"
    return f"{kind} with the tag {rule.tag}" if rule.tag else kind


def _note(rule: Rule, text: str, span: Span | None, problems: Problems) -> None:
    notes = [f"the rule{f' {rule.fields.id}' if rule.fields.id else ''} is at {rule.span}"]
    if rule.fields.remediation is not None:
        notes.append(rule.fields.remediation)
    notes += [f"{control.framework} {control.control}" for control in rule.fields.compliance]
    add = problems.error if rule.level == "error" else problems.warning
    add(f"policy-{rule.fields.type}", f"{rule.fields.message}: {text}", span, "", notes)
