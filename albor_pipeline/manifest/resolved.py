"""A resource as YAML with everything resolved: templates filled in, units as plain numbers, every dependency named. Reads no file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from albor_pipeline.model.resource import Resource
from albor_pipeline.resources.fields import Fields, typed

WIDTH = 120


def as_yaml(resource: Resource, machines: tuple[str, ...]) -> str:
    """The resource as it is on these machines, under its name, so that it could stand below `resources:`."""
    fields: Fields = resource.fields_on(machines[0])
    body: dict[str, Any] = {"type": resource.kind, "machine": machines[0] if len(machines) == 1 else list(machines)}
    body |= _given(fields)
    needs = [f"{ref.resource}@{ref.machine}" if ref.machine else ref.resource for ref in resource.depends_on]
    if needs:
        body["depends_on"] = list(dict.fromkeys(needs))
    if resource.tags:
        body["tags"] = list(resource.tags)
    text: str = yaml.dump({resource.id: body}, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=WIDTH)
    return text


def _given(fields: Fields) -> dict[str, Any]:
    """What was given a value, in the order of the declaration."""
    declared, given = type(fields).model_fields, fields.model_fields_set
    return {field.alias or name: _plain(getattr(fields, name)) for name, field in declared.items() if name in given}


def _plain(value: Any) -> Any:
    if isinstance(value, Fields):
        return _given(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int | float) or value is None else str(value)


class _Dumper(yaml.SafeDumper):
    """Text of several lines as a block; text that the format would read as a number, a bool or null in quotes."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def text(self, value: str) -> yaml.ScalarNode:
        style = "|" if "\n" in value else None if isinstance(typed(value), str) else "'"
        return self.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _Dumper.text)
