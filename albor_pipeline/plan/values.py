"""Canonical values of a configuration: what counts is the value, not how it was written. Reads nothing.

Numbers count by value (`1e-3`, `0.001` and `1.0e-03` are one), written in their shortest form; strings by their text;
a mapping is flattened to dotted names, a list to `name[0]`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any


def flat(value: Any) -> dict[str, str]:
    """Dotted name -> canonical text for every leaf."""
    return dict(_leaves("", value))


def _leaves(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for key in value:
            yield from _leaves(f"{name}.{key}" if name else str(key), value[key])
    elif isinstance(value, Sequence) and not isinstance(value, str) and value:
        for index, item in enumerate(value):
            yield from _leaves(f"{name}[{index}]", item)
    else:
        yield name, text(value)


def text(value: Any) -> str:
    """One leaf: the shortest form of a number, the text of a string, `true`, `false`, `null`, `{}` or `[]`."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return number(value)
    if isinstance(value, str):
        return value
    return "{}" if isinstance(value, Mapping) else "[]"


def number(value: float) -> str:
    """The shorter of the plain and the scientific form; an integral value below 1e15 reads as an integer."""
    if abs(value) < 1e15 and value == int(value):
        return str(int(value))
    plain = repr(value)
    return min((plain, _scientific(plain)), key=len) if math.isfinite(value) else plain


def _scientific(plain: str) -> str:
    """`0.001` and `1e-03` as `1e-3`."""
    sign, digits, exponent = Decimal(plain).normalize().as_tuple()
    text = "".join(map(str, digits))
    fraction = f".{text[1:]}" if len(text) > 1 else ""
    return f"{'-' if sign else ''}{text[0]}{fraction}e{int(exponent) + len(text) - 1}"
