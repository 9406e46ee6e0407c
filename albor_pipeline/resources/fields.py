"""The types that fields of a manifest are made of, and what a field means for a re-run. Knows no kind and no YAML nodes.

A value arrives as raw text: `str` when it was written plain, `Quoted` when it was quoted, None for null. A number or a bool must
be plain (`timeout: "60"` is text and refused), a text field takes any raw text (`mode: 0644` is the text 0644).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from functools import cache
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, WithJsonSchema, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

MAX_PATH = 4096
MAX_FOLDERS = 100
TRUE = frozenset(("true", "True", "TRUE"))
FALSE = frozenset(("false", "False", "FALSE"))
NULL = frozenset(("", "~", "null", "Null", "NULL"))
INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]*)|0x[0-9a-fA-F]+|0o[0-7]+|0b[01]+")
FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
SPECIAL = {".inf": "inf", "+.inf": "inf", "-.inf": "-inf", ".nan": "nan"}
SECONDS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
BYTES = {"": 1, "B": 1} | {
    f"{letter}{infix}B": base**power
    for infix, base in (("", 1000), ("i", 1024))
    for power, letter in enumerate("KMGT", start=1)
}


class Quoted(str):
    """Text that was quoted in the manifest, so it can be no number, no bool and no null."""

    __slots__ = ()


class FieldClass(Enum):
    """What a change of the field means: content re-runs, policy and doc never do."""

    CONTENT = "content"
    POLICY = "policy"
    DOC = "doc"


CONTENT, POLICY, DOC = FieldClass.CONTENT, FieldClass.POLICY, FieldClass.DOC


class Fields(BaseModel):
    """Base of every declared block: immutable, unknown keys refused, null means unset."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, defer_build=True)

    @model_validator(mode="before")
    @classmethod
    def _unset(cls, data: Any) -> Any:
        if isinstance(data, dict) and None in data.values():
            return {key: value for key, value in data.items() if value is not None}
        return data


def declared(model: type[Fields]) -> Mapping[str, FieldInfo]:
    """The fields of a block by their keys as written in a manifest, in the order declared; `from` is a word of Python."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


@cache
def keys_of(model: type[Fields]) -> tuple[str, ...]:
    """The keys of a block as they are written in a manifest, in the order declared."""
    return tuple(declared(model))


def class_of(model: type[Fields], name: str) -> FieldClass:
    """The class of the field of a key; a field without a mark is content, so that forgetting the mark can only re-run too much."""
    for item in declared(model)[name].metadata:
        if isinstance(item, FieldClass):
            return item
    return CONTENT


def wrong(message: str) -> PydanticCustomError:
    """The error for a value of the right shape with a wrong content; `message` continues `X must be`."""
    return PydanticCustomError("albor", "{must}", {"must": message})


def _plain(value: object, what: str) -> str:
    if isinstance(value, Quoted):
        raise wrong(f"{what}, written without quotes")
    if not isinstance(value, str):
        raise wrong(what)
    return value


def parse_flag(value: object) -> bool:
    """A YAML 1.2 bool; `yes` and `on` are text."""
    if isinstance(value, bool):
        return value
    text = _plain(value, "true or false")
    if text in TRUE:
        return True
    if text in FALSE:
        return False
    raise wrong("true or false")


def parse_count(value: object) -> int:
    """A whole number, not negative; 0x, 0o and 0b are read."""
    if isinstance(value, int):
        return value
    what = "a whole number"
    text = _plain(value, what)
    if not INTEGER.fullmatch(text) or len(text) > 18 or (number := int(text, 0)) < 0:
        raise wrong(what)
    return number


def parse_positive(value: object) -> int:
    """A whole number that is not zero."""
    number = parse_count(value)
    if number < 1:
        raise wrong("a whole number from 1")
    return number


def _quantity(value: object, units: Mapping[str, float], what: str) -> float:
    if isinstance(value, int | float):
        return float(value)
    if isinstance(value, Quoted) and FLOAT.fullmatch(value):
        raise wrong(f"{what}, written without quotes")
    parts = re.findall(r"([0-9]+(?:\.[0-9]+)?) ?([A-Za-z]*)", value) if isinstance(value, str) else []
    if not parts or len(str(value)) > 32 or "".join(a + b for a, b in parts) != str(value).replace(" ", ""):
        raise wrong(what)
    if any(unit not in units for _, unit in parts) or (len(parts) > 1 and any(not unit for _, unit in parts)):
        raise wrong(what)
    return sum(float(number) * units[unit] for number, unit in parts)


def parse_seconds(value: object) -> float:
    """Seconds from `90`, `10m`, `1h30m`, `500ms`; more than zero."""
    what = "a time above zero such as 90 (seconds), 10m or 1h30m"
    seconds = _quantity(value, SECONDS, what)
    if seconds <= 0:
        raise wrong(what)
    return seconds


def parse_bytes(value: object) -> int:
    """Bytes from `20GB` (decimal), `16GiB` (binary) or a plain number."""
    return int(_quantity(value, BYTES, "a size such as 512MB, 20GB or 16GiB"))


def typed(value: Any) -> Any:
    """A free value as YAML 1.2 reads it: bool, int, float, None or text; digits after a leading zero stay text."""
    if isinstance(value, dict):
        return {str(key): typed(item) for key, item in value.items()}
    if isinstance(value, list):
        return [typed(item) for item in value]
    if not isinstance(value, str):
        return value
    if isinstance(value, Quoted):
        return str(value)
    return _scalar(value)


def _scalar(text: str) -> Any:
    if text in NULL:
        return None
    if text in TRUE or text in FALSE:
        return text in TRUE
    if len(text) < 300:
        if INTEGER.fullmatch(text):
            return int(text, 0)
        if FLOAT.fullmatch(text):
            return float(text)
        if text.lower() in SPECIAL:
            return float(SPECIAL[text.lower()])
    return text


def _not_blank(value: Any) -> Any:
    if isinstance(value, str) and (not value.strip() or "\0" in value):
        raise wrong("text that is not empty")
    return value


def _variables(value: Any) -> Any:
    """The names and texts that an operating system takes as an environment."""
    for name, text in value.items() if isinstance(value, dict) else ():
        if not name or "=" in name or "\0" in f"{name}{text}":
            raise wrong("a mapping of names to texts, a name neither empty nor with `=`, and no NUL in either")
    return value


def _path(value: Any) -> Any:
    if isinstance(value, str) and len(value) > MAX_PATH:
        raise wrong(f"a path of at most {MAX_PATH:,} characters")
    if isinstance(value, str) and value.count("/") > MAX_FOLDERS:
        raise wrong(f"a path of at most {MAX_FOLDERS} folders")
    return _not_blank(value)


def _form(words: str, *forms: Mapping[str, Any], text: str = "") -> WithJsonSchema:
    """How editors and `explain` know a type: its words, what YAML may hold, the pattern of a text; a template is always one."""
    pattern = f"{text}|{TEMPLATE}" if text else TEMPLATE
    return WithJsonSchema({"title": words, "anyOf": [*forms, {"type": "string", "pattern": pattern}]})


TIME = "time such as 90 (seconds), 10m or 1h30m"
TEMPLATE = r"\{\{"
SCALAR = {"type": ["string", "number", "boolean"]}
QUANTITY = r"^ *([0-9]+(\.[0-9]+)? ?({units}) *)+$"
Text = Annotated[str, BeforeValidator(_not_blank), WithJsonSchema({"title": "text", **SCALAR})]
PathText = Annotated[str, BeforeValidator(_path), WithJsonSchema({"title": "path", **SCALAR})]
Flag = Annotated[bool, BeforeValidator(parse_flag), _form("true or false", {"type": "boolean"})]
Count = Annotated[int, BeforeValidator(parse_count), _form("whole number", {"type": "integer", "minimum": 0}, text="^0b[01]+$")]
Positive = Annotated[
    int, BeforeValidator(parse_positive), _form("whole number from 1", {"type": "integer", "minimum": 1}, text="^0b[01]+$")
]
Variables = Annotated[Mapping[str, str], BeforeValidator(_variables, json_schema_input_type=Mapping[str, str])]
Seconds = Annotated[
    float,
    BeforeValidator(parse_seconds),
    _form(
        TIME,
        {"type": "number", "exclusiveMinimum": 0},
        text=QUANTITY.format(units="|".join(filter(None, SECONDS))),
    ),
]
Bytes = Annotated[
    int,
    BeforeValidator(parse_bytes),
    _form(
        "size such as 512MB, 20GB or 16GiB",
        {"type": "number", "minimum": 0},
        text=QUANTITY.format(units="|".join(filter(None, BYTES))),
    ),
]
Free = Annotated[Any, BeforeValidator(typed), WithJsonSchema({"title": "any value"})]
