"""The forms that text takes in several kinds: modes, accounts, ports, absolute paths. Knows no kind; looks at no machine."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

from albor_pipeline.resources.fields import FLOAT, SCALAR, TIME, PathText, Quoted, parse_count, parse_seconds, wrong

LAST_PORT = 65535


def matching(pattern: str, must: str) -> BeforeValidator:
    """The validator of text that must match a whole pattern and holds no NUL; `must` continues `X must be`."""
    form = re.compile(pattern)

    def check(value: Any) -> Any:
        if isinstance(value, str) and ("\0" in value or not form.fullmatch(value)):
            raise wrong(must)
        return value

    return BeforeValidator(check)


def filled(must: str) -> BeforeValidator:
    """The validator of a list that must not be empty; `must` continues `X must be`."""

    def check(value: Any) -> Any:
        if isinstance(value, list) and not value:
            raise wrong(must)
        return value

    return BeforeValidator(check)


def parse_port(value: object) -> int:
    """A port number, quoted or not."""
    try:
        port = parse_count(str(value) if isinstance(value, Quoted) else value)
    except ValueError:
        port = 0
    if not 1 <= port <= LAST_PORT:
        raise wrong(f"a port from 1 to {LAST_PORT}")
    return port


def parse_number(value: object) -> float:
    """A number that is not negative, written without quotes."""
    if isinstance(value, int | float):
        return float(value)
    if isinstance(value, Quoted) or not isinstance(value, str) or not FLOAT.fullmatch(value) or float(value) < 0:
        raise wrong("a number, not negative, written without quotes")
    return float(value)


def _duration(value: object) -> float:
    return parse_seconds(str(value) if isinstance(value, Quoted) else value)


def _absolute(value: Any) -> Any:
    if isinstance(value, str) and not value.startswith("/"):
        raise wrong("an absolute path, from `/` on")
    return value


def _network(value: Any) -> Any:
    if not isinstance(value, str) or value == "any":
        return value
    try:
        ipaddress.ip_network(value, strict=False)
    except ValueError:
        raise wrong("an address such as 10.0.0.5, a network such as 10.0.0.0/8, or `any`") from None
    return value


def _volume(value: Any) -> Any:
    if isinstance(value, str) and ("\0" in value or not any(part.startswith("/") for part in value.split(":")[:2][-1:])):
        raise wrong("a volume such as data:/var/lib/data or /srv/data:/data:ro, absolute inside the container")
    return value


Mode = Annotated[str, matching("[0-7]{4}", "four octal digits such as 0644")]
Account = Annotated[
    str, matching(r"[a-z_][a-z0-9_.-]{0,31}", "a name of at most 32 lower-case letters, digits, `-`, `_` and `.`")
]
Owner = Annotated[
    str,
    matching(
        r"[a-z_][a-z0-9_.-]{0,31}|[0-9]{1,10}",
        "a name of at most 32 lower-case letters, digits, `-`, `_` and `.`, or a number",
    ),
]
Word = Annotated[str, matching(r"[^\s\x00-\x1f\x7f]+", "one word, without spaces")]
AbsolutePath = Annotated[PathText, BeforeValidator(_absolute)]
Port = Annotated[int, BeforeValidator(parse_port), WithJsonSchema({"title": "port", **SCALAR})]
Number = Annotated[float, BeforeValidator(parse_number)]
Duration = Annotated[float, BeforeValidator(_duration), WithJsonSchema({"title": TIME, **SCALAR})]
NetworkAddress = Annotated[str, BeforeValidator(_network)]
Volume = Annotated[str, BeforeValidator(_volume)]
ContainerName = Annotated[
    str,
    matching("[a-zA-Z0-9][a-zA-Z0-9_.-]*", "a name of letters, digits, `-`, `_` and `.`, a letter or a digit first"),
]
