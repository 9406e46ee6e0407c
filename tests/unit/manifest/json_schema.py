"""A small checker of JSON Schema draft 7, as far as our schema uses it: the problems of a value, each with its place."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

KINDS = {"string": str, "boolean": bool, "array": list, "object": dict, "null": type(None)}
KNOWN = {
    "$ref", "$schema", "additionalProperties", "allOf", "anyOf", "const", "default", "definitions", "description", "enum",
    "exclusiveMinimum", "if", "items", "minimum", "pattern", "patternProperties", "properties", "required", "then", "title", "type",
}  # fmt: skip


def problems(value: Any, schema: Any, whole: Mapping[str, Any], at: str = "") -> Iterator[str]:
    """Every place where the value is not what the schema says."""
    assert set(schema) <= KNOWN, set(schema) - KNOWN
    if "$ref" in schema:
        yield from problems(value, whole["definitions"][schema["$ref"].removeprefix("#/definitions/")], whole, at)
    for part in schema.get("allOf", ()):
        yield from problems(value, part, whole, at)
    if "anyOf" in schema and all(list(problems(value, part, whole, at)) for part in schema["anyOf"]):
        yield f"{at}: none of the forms"
    if "if" in schema and not list(problems(value, schema["if"], whole, at)):
        yield from problems(value, schema["then"], whole, at)
    if "enum" in schema and value not in schema["enum"]:
        yield f"{at}: not one of the values"
    if "const" in schema and value != schema["const"]:
        yield f"{at}: not the value"
    if "type" in schema and not any(_is(value, name) for name in _listed(schema["type"])):
        yield f"{at}: wrong type"
    if isinstance(value, str) and not re.search(schema.get("pattern", ""), value):
        yield f"{at}: wrong pattern"
    if _is(value, "number") and (value < schema.get("minimum", value) or value <= schema.get("exclusiveMinimum", value - 1)):
        yield f"{at}: too small"
    yield from _inside(value, schema, whole, at)


def _inside(value: Any, schema: Mapping[str, Any], whole: Mapping[str, Any], at: str) -> Iterator[str]:
    if isinstance(value, list) and "items" in schema:
        for number, item in enumerate(value):
            yield from problems(item, schema["items"], whole, f"{at}.{number}")
    if isinstance(value, dict):
        yield from (f"{at}.{name}: missing" for name in schema.get("required", ()) if name not in value)
        declared, rest = schema.get("properties", {}), schema.get("additionalProperties", True)
        for name, item in value.items():
            forms = [declared[name]] if name in declared else []
            forms += [form for pattern, form in schema.get("patternProperties", {}).items() if re.search(pattern, name)]
            for form in forms:
                yield from problems(item, form, whole, f"{at}.{name}")
            if forms:
                continue
            if rest is False:
                yield f"{at}.{name}: unknown"
            if isinstance(rest, dict):
                yield from problems(item, rest, whole, f"{at}.{name}")


def _listed(names: str | list[str]) -> list[str]:
    return [names] if isinstance(names, str) else names


def _is(value: Any, name: str) -> bool:
    if name in ("number", "integer"):
        allowed = (int, float) if name == "number" else (int,)
        return isinstance(value, allowed) and not isinstance(value, bool)
    return isinstance(value, KINDS[name])
