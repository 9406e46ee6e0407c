"""The functions that a template may call: text in, text out. Knows no namespace and no manifest.

Quoted arguments are taken as they stand, blanks included; `default` is not here, because it must see whether its first
argument has a value at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from albor_pipeline.agent.hashing import digest_bytes


@dataclass(frozen=True)
class Function:
    """A function with its arguments by name, as a message shows them."""

    takes: tuple[str, ...]
    call: Callable[..., str]


MAX_TEXT = 1 << 20


def _replace(text: str, old: str, new: str) -> str:
    _bounded(len(text) + (text.count(old) if old else 0) * len(new))
    return text.replace(old, new) if old else text


def _bounded(size: int) -> None:
    """ValueError when a result would be larger than any text of a manifest."""
    if size > MAX_TEXT:
        raise ValueError(f"its result is longer than {MAX_TEXT:,} characters")


def _join(csv: str, separator: str) -> str:
    _bounded(len(csv) + csv.count(",") * len(separator))
    return separator.join(part.strip() for part in csv.split(",")) if csv.strip() else ""


def _split(text: str, separator: str) -> str:
    return ",".join(text.split(separator)) if separator else text


FUNCTIONS: Mapping[str, Function] = {
    "upper": Function(("text",), str.upper),
    "lower": Function(("text",), str.lower),
    "trim": Function(("text",), str.strip),
    "replace": Function(("text", "old", "new"), _replace),
    "b3sum": Function(("text",), lambda text: digest_bytes(text.encode())),
    "join": Function(("csv", "separator"), _join),
    "split": Function(("text", "separator"), _split),
}
