"""Addresses: what of an address may be shown and recorded. The password in `https://user:password@host/` is never part of it.

An address counts without its password: another one asks for the same thing. What a shell puts in (`$TOKEN`) is no password.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

HIDDEN = "***"
# The account ends at the last `@` before the path. A `/` in a password should be written %2F; where it is not, no port follows the colon.
_ACCOUNT = re.compile(
    r"\b(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://"
    r"(?P<account>[^\s/?#\"'<>`]+|[^\s/?#@:\"'<>`]*:(?![0-9]*(?:[/?#]|$))[^\s@\"'<>`]*)@"
)
_TOKEN_SCHEMES = ("http", "https")


def shown(text: str) -> str:
    """The text with the password of every address in it hidden; a name without a password is one where a server takes it as a token."""
    return _ACCOUNT.sub(lambda found: _hidden(found, HIDDEN), text) if "://" in text else text


def blotted(text: str) -> str:
    """The same with as many letters as before, so that a caret below the text still points at what it means."""
    return _ACCOUNT.sub(lambda found: _hidden(found, "*" * len(_password(found))), text) if "://" in text else text


def passwords(value: Any) -> Iterator[str]:
    """Every password of an address in a text, and in the texts of a mapping or a list."""
    if isinstance(value, str):
        yield from (_password(found) for found in _ACCOUNT.finditer(value) if _password(found))
    elif isinstance(value, dict):
        for item in value.values():
            yield from passwords(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from passwords(item)


def _hidden(found: re.Match[str], instead: str) -> str:
    password = _password(found)
    if not password:
        return found[0]
    return found[0][: -1 - len(password)] + instead + "@"


def _password(found: re.Match[str]) -> str:
    """The secret at the end of an account; empty where it has none."""
    name, colon, word = found["account"].partition(":")
    if not colon:
        word = name if found["scheme"].lower().rpartition("+")[2] in _TOKEN_SCHEMES else ""
    return "" if word.startswith("$") else word
