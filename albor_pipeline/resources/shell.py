"""Shell text, made in this one place: values are quoted by type and never pasted. Knows no resource and runs nothing."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from typing import LiteralString

HOME = re.compile(r"(~(?:[a-z_][a-z0-9_-]*)?)(?:/(.*))?", re.DOTALL)


class Script(str):
    """Text that a POSIX shell may run; only this module makes one, so plain text cannot pass for it."""

    __slots__ = ()


def quote(text: str) -> Script:
    """One word that the shell reads back as exactly `text`; raises ValueError for a NUL, which no argument can hold."""
    if "\0" in text:
        raise ValueError("a NUL cannot be passed to a program")
    return Script(shlex.quote(text))


def place(path: str) -> Script:
    """One word for a path on the machine: `~` at its beginning is the home folder there, as the agent reads it; all else is as written."""
    found = HOME.fullmatch(path)
    if found is None:
        return quote(path)
    return Script(found[1] + (f"/{quote(found[2])}" if found[2] else ""))


def join(words: Iterable[str]) -> Script:
    """One command: each word quoted, except those that are Script already."""
    return Script(" ".join(word if isinstance(word, Script) else quote(word) for word in words))


def lines(*commands: Script) -> Script:
    """Commands one after the other; the first that fails ends the script with its exit code."""
    return Script("\n".join(("set -eu", *commands)) + "\n")


def fixed(text: LiteralString, *words: str) -> Script:
    """Text that is written in this program, and finds the words as "$1", "$2" and so on; raises ValueError for a NUL in a word.

    Nothing of a manifest is ever in the text itself.
    """
    return Script(f"{join(('set', '--', *words))}\n{text.strip()}" if words else text.strip())
