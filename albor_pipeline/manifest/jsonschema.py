"""The JSON Schema (draft 7) of a manifest and of a recipe file, from the fields of the registry: what editors complete and check.

It allows whatever the loader accepts: text takes any raw scalar, every value may be a template, an optional key may be null. A key that
the loader only warns of is allowed and only described, since yaml-language-server shows every problem as an error. What depends on
several keys, on names or on files is left to `validate`. Draft 7 with `if` and `then` for each type is what it follows best.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from typing import Any, Literal, NamedTuple

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, models_json_schema
from pydantic_core import core_schema

from albor_pipeline.manifest import later
from albor_pipeline.manifest.afterwards import CheckFields, MovedFields
from albor_pipeline.manifest.conditions import ConditionFields
from albor_pipeline.manifest.environments import EnvironmentFields
from albor_pipeline.manifest.expand import CopyFields
from albor_pipeline.manifest.flat import foreign
from albor_pipeline.manifest.policies import RuleFields
from albor_pipeline.manifest.recipes import RecipeFields
from albor_pipeline.manifest.sections import CommonFields, Head, MachineFields, OutputFields, PolicyFields
from albor_pipeline.manifest.sources import DATA_LATER, SECRETS_LATER, DataFields, SecretsFields
from albor_pipeline.resources.base import Kind
from albor_pipeline.resources.fields import SCALAR, TEMPLATE, Fields, typed
from albor_pipeline.resources.registry import KINDS

DRAFT = "http://json-schema.org/draft-07/schema#"
REF = "#/definitions/{model}"
UNSET = "_unset"
SPELLING = "another spelling of `{name}`"
SOME_NAME = "NAME"
COMPOUND = ("'array'", "'object'", "'$ref'", "'enum'")
ANYTHING: dict[str, Any] = {}


class Section(NamedTuple):
    """A top-level key that holds blocks: what one is called, what the key is for, the fields of one, and how many it holds."""

    noun: str
    about: str
    model: type[Fields] | None
    holds: Literal["one", "names", "list"] = "names"
    later: Collection[str] = ()


SECTIONS: Mapping[str, Section] = {
    "includes": Section("path", "other files whose sections are laid over those of this one", None, "list"),
    "params": Section("any value", "values for templates: `{{params.NAME}}`", None),
    "secrets": Section("secrets", "where `{{secrets.NAME}}` comes from", SecretsFields, "one", SECRETS_LATER),
    "data": Section("source", "values from outside, read when a plan is made: `{{data.NAME}}`", DataFields, later=DATA_LATER),
    "environments": Section("environment", "params and addresses that `--env NAME` puts in place", EnvironmentFields),
    "machines": Section("machine", "the machines, by name; localhost needs no declaration", MachineFields, later=later.MACHINE),
    "resources": Section("resource", "what must be there and what must be done, by name", CommonFields),
    "policy": Section("policy", "how a run behaves", PolicyFields, "one", later.POLICY),
    "policies": Section("rule", "what every resource must, must not, or should hold", RuleFields, "list"),
    "checks": Section("check", "commands that must end as expected when everything is converged", CheckFields),
    "moved": Section("move", "resources and machines that had another name", MovedFields, "list"),
    "outputs": Section("output", "values that the pipeline publishes, by name", OutputFields),
}
RECIPE_SECTIONS: Mapping[str, Section] = {
    "recipe": Section("head", "what the recipe is called and what it takes", RecipeFields, "one"),
    "resources": SECTIONS["resources"],
}
COMMON: tuple[type[Fields], ...] = (CommonFields, CopyFields, ConditionFields)
NO_EFFECT = {"description": "a key of other types of resources: it has no effect on this one"}


class _Generator(GenerateJsonSchema):
    """Raw text in place of pydantic's own types; `title` holds the words of a type, a default only where it tells something."""

    def str_schema(self, schema: core_schema.StringSchema) -> JsonSchemaValue:
        return {"title": "text", **SCALAR}

    def int_schema(self, schema: core_schema.IntSchema) -> JsonSchemaValue:
        return _or_template("whole number", {"type": "integer"})

    def float_schema(self, schema: core_schema.FloatSchema) -> JsonSchemaValue:
        return _or_template("number", {"type": "number"})

    def bool_schema(self, schema: core_schema.BoolSchema) -> JsonSchemaValue:
        return _or_template("true or false", {"type": "boolean"})

    def any_schema(self, schema: core_schema.AnySchema) -> JsonSchemaValue:
        return {"title": "any value"}

    def literal_schema(self, schema: core_schema.LiteralSchema) -> JsonSchemaValue:
        values = [str(value) for value in schema["expected"]]
        raw = [plain for value in values if not isinstance(plain := typed(value), str)]
        return _or_template(_any_of(values), {"enum": [*values, *raw]})

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def function_before_schema(self, schema: core_schema.BeforeValidatorFunctionSchema) -> JsonSchemaValue:
        """A value that is read before its type is looked at may be more than its type; what more is told by its input type."""
        if getattr(schema["function"]["function"], "__name__", "") == UNSET:
            return self.generate_inner(schema["schema"])
        if (told := schema.get("json_schema_input_schema")) is not None:
            return self.generate_inner(told)
        inner = self.generate_inner(schema["schema"])
        if any(mark in str(inner) for mark in COMPOUND):
            return {"anyOf": [inner, ANYTHING]}
        return {"title": inner.get("title", "text"), **SCALAR}

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        inner = self.generate_inner(schema["schema"])
        default = self.encode_default(schema.get("default"))
        if default in (None, "", [], {}) or isinstance(default, dict):
            return inner
        return {**inner, "default": default} if "$ref" not in inner else {"allOf": [inner], "default": default}

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def sort(self, value: JsonSchemaValue, parent_key: str | None = None) -> JsonSchemaValue:
        return value


def _or_template(title: str, form: Mapping[str, Any]) -> JsonSchemaValue:
    return {"title": title, "anyOf": [form, {"type": "string", "pattern": TEMPLATE}]}


def _any_of(values: Iterable[str]) -> str:
    *first, last = values
    return f"{', '.join(first)} or {last}" if first else last


def words(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """What a value of the schema is, in words: `text`, `list of path`, `mapping (path, volatile)`."""
    if "$ref" in schema:
        inner = definitions.get(str(schema["$ref"]).rsplit("/", 1)[-1], {})
        return f"mapping ({', '.join(inner['properties'])})" if "properties" in inner else "mapping"
    if "title" in schema:
        return str(schema["title"])
    if "allOf" in schema:
        return words(schema["allOf"][0], definitions)
    if "anyOf" in schema:
        return _any_of(dict.fromkeys(words(item, definitions) for item in schema["anyOf"] if item != ANYTHING))
    if schema.get("type") == "array":
        inner = words(schema.get("items", {}), definitions)
        return f"list of {inner}" if " or " not in inner else f"list of ({inner})"
    if schema.get("type") == "object":
        values = schema.get("additionalProperties")
        return f"mapping of names to {words(values, definitions)}" if isinstance(values, Mapping) else "mapping"
    return "text" if schema.get("type") == SCALAR["type"] else "any value"


@cache
def definitions() -> dict[str, Any]:
    """The schema of every model of the format, by class name; a model inside another is a reference."""
    models: set[type[Fields]] = {Head, RecipeFields, *COMMON, *(kind.model for kind in KINDS.values())}
    models |= {section.model for section in SECTIONS.values() if section.model is not None}
    ordered = sorted(models, key=lambda model: model.__name__)
    _, made = models_json_schema(
        [(model, "validation") for model in ordered], schema_generator=_Generator, ref_template=REF
    )
    found: dict[str, Any] = made["$defs"]
    return {name: _relaxed(found[name]) for name in sorted(found)}


def _relaxed(model: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of a block in which an optional key may be null and a reference may stand beside a description."""
    required = model.get("required", ())
    properties = {name: _property(form, name in required) for name, form in model.get("properties", {}).items()}
    kept = {key: value for key, value in model.items() if key not in ("title", "properties")}
    return {**kept, "properties": properties}


def _property(form: Mapping[str, Any], required: bool) -> dict[str, Any]:
    told = {key: form[key] for key in ("title", "description", "default") if key in form}
    rest = {key: value for key, value in form.items() if key not in told}
    if not rest:
        return told
    if required:
        return {**told, **({"allOf": [rest]} if "$ref" in rest else rest)}
    if isinstance(rest.get("type"), list):
        return {**told, "type": [*rest["type"], "null"]}
    forms = rest["anyOf"] if rest.keys() == {"anyOf"} else [rest]
    return {**told, "anyOf": [*forms, {"type": "null"}]}


def of_kind(kind: Kind) -> dict[str, Any]:
    """The schema of one resource of this type, with the fields that all types share."""
    own = definitions()[kind.model.__name__]
    common = {name: form for model in COMMON for name, form in definitions()[model.__name__]["properties"].items()}
    by_name = kind.defaults(SOME_NAME)
    replaced = set(kind.names.values())
    needed = [name for name in own.get("required", ()) if name not in by_name and name not in replaced]
    other = {
        written: {**own["properties"][name], "description": SPELLING.format(name=name)} for written, name in kind.names.items()
    }
    theirs = "|".join(map(re.escape, sorted(foreign(kind.name))))
    return {
        "description": own.get("description", ""),
        "type": "object",
        "properties": {**common, **own["properties"], **other, "type": {"const": kind.name}},
        **({"patternProperties": {f"^({theirs})$": NO_EFFECT}} if theirs else {}),
        "required": ["type", *needed],
        "additionalProperties": False,
    }


def _resource() -> dict[str, Any]:
    about = definitions()[CommonFields.__name__]["properties"]["type"]["description"]
    choice = {"description": about, "enum": list(KINDS)}
    rules = [
        {"if": {"properties": {"type": {"const": name}}, "required": ["type"]}, "then": {"$ref": REF.format(model=f"type-{name}")}}
        for name in KINDS
    ]
    return {"type": "object", "properties": {"type": choice}, "required": ["type"], "allOf": rules}


def _section(name: str, section: Section) -> dict[str, Any]:
    form: dict[str, Any] = {"title": "any value"}
    if name == "resources":
        form = {"$ref": REF.format(model="resource")}
    elif section.model is not None:
        form = {"$ref": REF.format(model=section.model.__name__)}
    elif section.holds == "list":
        form = {"title": section.noun, **SCALAR}
    if section.holds != "one":
        inner = "additionalProperties" if section.holds == "names" else "items"
        form = {"type": "object" if section.holds == "names" else "array", inner: form}
    return {"description": section.about, "anyOf": [form, {"type": "null"}]}


def schema() -> dict[str, Any]:
    """The schema of a whole manifest."""
    head = definitions()[Head.__name__]
    return _file("albor-pipeline manifest", head["properties"], SECTIONS, head["required"])


def recipe_schema() -> dict[str, Any]:
    """The schema of a whole recipe file."""
    return _file("albor-pipeline recipe", {}, RECIPE_SECTIONS, ["recipe"])


def _file(title: str, head: Mapping[str, Any], sections: Mapping[str, Section], required: Iterable[str]) -> dict[str, Any]:
    kinds = {f"type-{name}": of_kind(kind) for name, kind in KINDS.items()}
    known = {"resource": _resource(), **kinds, **definitions()}
    properties = {**head, **{name: _section(name, section) for name, section in sections.items()}}
    named = _named(properties, known)
    return {
        "$schema": DRAFT,
        "title": title,
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
        "definitions": {name: form for name, form in known.items() if name in named},
    }


def _named(form: Any, known: Mapping[str, Any]) -> set[str]:
    """The definitions that a schema refers to, and those that these refer to."""
    found: set[str] = set()
    waiting = [form]
    while waiting:
        item = waiting.pop()
        if isinstance(item, Mapping):
            name = str(item.get("$ref", "")).rsplit("/", 1)[-1]
            if name and name not in found:
                found.add(name)
                waiting.append(known[name])
        if isinstance(item, Mapping | list):
            waiting += item.values() if isinstance(item, Mapping) else item
    return found
