"""Every block and field of the format in words, from the declared fields of the registry and the sections. Makes no text to show."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from functools import cache
from typing import Any

from albor_pipeline.manifest import later
from albor_pipeline.manifest.jsonschema import (
    COMMON,
    RECIPE_SECTIONS,
    REF,
    SECTIONS,
    SOME_NAME,
    Section,
    definitions,
    words,
)
from albor_pipeline.manifest.schema import nested
from albor_pipeline.manifest.sections import CommonFields, Head
from albor_pipeline.model.about import BlockAbout, FieldAbout
from albor_pipeline.resources.base import Kind
from albor_pipeline.resources.fields import Fields, class_of
from albor_pipeline.resources.registry import KINDS

WHOLE = "manifest"
ANY_TYPE = "resource"
RECIPE_FILE = "recipe-file"


@cache
def blocks() -> tuple[BlockAbout, ...]:
    """The manifest itself, its sections, what every resource takes, a recipe file, then each type in the order of the registry."""
    sections = tuple(
        BlockAbout(section.noun, _about(section.model), _fields(section.model, later_keys=section.later))
        for section in SECTIONS.values()
        if section.model is not None and section.model is not CommonFields
    )
    everywhere = BlockAbout(ANY_TYPE, _about(CommonFields), _common())
    return (_whole(), *sections, everywhere, _recipe_file(), *(_kind(kind) for kind in KINDS.values()))


def _common(later_keys: Collection[str] = later.RESOURCE) -> tuple[FieldAbout, ...]:
    return tuple(field for model in COMMON for field in _fields(model, later_keys=later_keys))


def _whole() -> BlockAbout:
    sections = tuple(FieldAbout(name, _takes(section), section.about, False) for name, section in SECTIONS.items())
    return BlockAbout(WHOLE, "A whole manifest.", (*_fields(Head), *sections))


def _recipe_file() -> BlockAbout:
    fields = []
    for name, section in RECIPE_SECTIONS.items():
        model = section.model if section.holds == "one" else None
        takes = words({"$ref": REF.format(model=model.__name__)}, definitions()) if model else _takes(section)
        fields.append(FieldAbout(name, takes, section.about, model is not None, fields=_fields(model)))
    return BlockAbout(RECIPE_FILE, "A file in recipes/: resources that `type: recipe` uses with inputs.", tuple(fields))


def _takes(section: Section) -> str:
    if section.holds == "one":
        return f"mapping (see {section.noun})"
    kind = f"{section.noun}s" if section.model is not None else section.noun
    return f"mapping of names to {kind}" if section.holds == "names" else f"list of {kind}"


def _kind(kind: Kind) -> BlockAbout:
    other: dict[str, tuple[str, ...]] = {}
    for written, name in kind.names.items():
        other[name] = (*other.get(name, ()), written)
    keys = later.KIND.get(kind.name, later.RESOURCE)
    fields = _fields(kind.model, by_name=kind.defaults(SOME_NAME), spellings=other, change=None, later_keys=keys)
    common = _common({*keys, later.NEW_FIRST} if kind.name in later.OLD_FIRST else keys)
    return BlockAbout(kind.name, _about(kind.model), fields, common, is_type=True, later=kind.name in later.TYPES)


def _about(model: type[Fields]) -> str:
    return str(definitions()[model.__name__].get("description", "")).split("\n\n")[0].replace("\n", " ")


def _fields(
    model: type[Fields] | None,
    by_name: Mapping[str, Any] | None = None,
    spellings: Mapping[str, tuple[str, ...]] | None = None,
    change: str | None = "",
    later_keys: Collection[str] = (),
) -> tuple[FieldAbout, ...]:
    """The fields of a model; `change` is that of the field they lie in, None where each field has its own mark."""
    if model is None:
        return ()
    form = definitions()[model.__name__]
    by_name, found = by_name or {}, []
    for name, field in ((field.alias or name, field) for name, field in model.model_fields.items()):
        told, inner = form["properties"][name], nested(field.annotation)
        default = by_name.get(name, told.get("default"))
        found.append(
            FieldAbout(
                name=name,
                takes=words(_without_null(told), definitions()),
                about=str(told.get("description", "")),
                required=name in form.get("required", ()) and name not in by_name,
                default="" if default is None else _written(default),
                change=(mark := class_of(model, name).value if change is None else change),
                spellings=(spellings or {}).get(name, ()),
                later=name in later_keys,
                fields=_fields(inner, change=mark, later_keys=_inside(name, later_keys)),
            )
        )
    return tuple(found)


def _inside(name: str, keys: Collection[str]) -> Collection[str]:
    return [key.removeprefix(f"{name}.") for key in keys if key.startswith(f"{name}.")]


def _without_null(form: Mapping[str, Any]) -> Mapping[str, Any]:
    if "anyOf" not in form or "title" in form:
        return form
    return {**form, "anyOf": [item for item in form["anyOf"] if item != {"type": "null"}]}


def _written(value: Any) -> str:
    """A default as it would stand in a manifest."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return f"[{', '.join(_written(item) for item in value)}]"
    return json.dumps(int(value) if isinstance(value, float) and value.is_integer() else value)
