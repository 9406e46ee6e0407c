"""`count` and `for_each`: one declaration as several copies, each with a scope of its own. Knows no kind and reads no field."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from albor_pipeline.errors import Span
from albor_pipeline.manifest.nodes import Sequence, Table
from albor_pipeline.manifest.schema import Block, Reader
from albor_pipeline.manifest.scope import Scope
from albor_pipeline.resources.fields import Count, Fields, Text, parse_count, wrong

KEYS = ("count", "for_each")
MAX_COPIES = 10_000


def _count(value: Any) -> int:
    number = parse_count(value)
    if not 1 <= number <= MAX_COPIES:
        raise wrong(f"a whole number from 1 to {MAX_COPIES:,}")
    return number


def _items(value: Any) -> Any:
    if isinstance(value, list) and not value:
        raise wrong("a list with at least one item")
    return value


class CopyFields(Fields):
    """How often a resource is there; at most one of both."""

    count: Annotated[
        int | None, BeforeValidator(_count, json_schema_input_type=Count),
        Field(description="how many copies there are, told apart by `{{index}}`"),
    ] = None
    for_each: Annotated[
        tuple[Text, ...] | None, BeforeValidator(_items, json_schema_input_type=tuple[Text, ...]),
        Field(description="a copy for each of these, which it knows as `{{item}}`"),
    ] = None


@dataclass(frozen=True)
class Copy:
    """One copy: what is added to the name, the scope in which all its fields are read, and its place."""

    suffix: str
    scope: Scope
    span: Span


def copies(reader: Reader, name: str, span: Span, table: Table, scope: Scope) -> list[Copy]:
    """The copies that `table` declares; none when the declaration is wrong, which is noted."""
    found = {key: table.items[key] for key in KEYS if key in table.items}
    values = {key: reader.raw(node, scope) for key, (_, node) in found.items()}
    fields = reader.model(CopyFields, table, values, Block(f"resource `{name}`", span, "a resource", CopyFields))
    if fields is None:
        return []
    if fields.count is not None and fields.for_each is not None:
        place = reader.text.of(found["count"][0])
        message = f"resource `{name}` has both `count` and `for_each`"
        reader.problems.error("wrong-value", message, place, "", ("a resource takes one of them",))
        return []
    if fields.count is not None:
        return [Copy(f"-{index}", replace(scope, index=str(index), item=None), span) for index in range(fields.count)]
    return list(_for_each(reader, found["for_each"][1] if "for_each" in found else table, fields, scope, span))


def _for_each(reader: Reader, node: Any, fields: CopyFields, scope: Scope, span: Span) -> Iterator[Copy]:
    if fields.for_each is None:
        yield Copy("", scope, span)
        return
    if len(fields.for_each) > MAX_COPIES:
        message = f"`for_each` has {len(fields.for_each):,} items, at most {MAX_COPIES:,} are taken"
        reader.problems.error("too-large", message, reader.text.of(node))
        return
    for index, item in enumerate(fields.for_each):
        place = node.items[index] if isinstance(node, Sequence) else node
        origins = ChainMap({"item": place}, scope.origins)  # type: ignore[arg-type]
        copy = replace(scope, item=str(item), index=str(index), origins=origins)
        yield Copy(f"-{item}", copy, reader.text.of(place))
