"""The sentences that say why: one part change, or several, as text. Decides nothing."""

from __future__ import annotations

import re
from collections.abc import Sequence

from albor_pipeline.model.fingerprint import PartChange
from albor_pipeline.model.observed import FileChange

GROUP_ORDER = ("command", "fields", "config", "code", "env", "python", "inputs", "outputs", "place", "triggers")
BY_DIGEST = frozenset({"code", "inputs", "outputs"})
MAX_VALUE = 60
DIGEST = re.compile(r"[0-9a-f]{64}")
SHORT = re.compile(r"[0-9a-f]{8}")


def of_changes(changes: Sequence[PartChange]) -> str:
    """The first change by importance, and how many more there are."""
    ranked = sorted(changes, key=lambda change: (GROUP_ORDER.index(change.group), change.name))
    more = f" (and {len(ranked) - 1} more)" if len(ranked) > 1 else ""
    return of_change(ranked[0]) + more


def of_change(change: PartChange) -> str:
    """`config.lr 3e-4 -> 1e-3`, `command changed: --seed 42 -> --seed 43`, `code stages/export.py`."""
    if change.group == "triggers":
        return f"{change.name} changed" if change.new is not None else f"{change.name} triggers it no more"
    if change.group == "command" and not change.name and change.old is not None and change.new is not None:
        old, new = differing_words(change.old, change.new)
        if not old or not new:
            return f"command changed: {f'{shown(new)} added' if new else f'{shown(old)} removed' if old else 'only its spacing'}"
        return f"command changed: {shown(old)} -> {shown(new)}"
    if change.old is None:
        return f"{change.label} added" + ("" if change.group in BY_DIGEST else f": {shown(change.new or '')}")
    if change.new is None:
        return f"{change.label} removed" + ("" if change.group in BY_DIGEST else f" (was {shown(change.old)})")
    if change.group in BY_DIGEST:
        return f"{change.label} changed"
    return f"{change.label} {shown(change.old)} -> {shown(change.new)}"


def of_files(changes: Sequence[FileChange], more: int = 0) -> str:
    """`output models/base/model.safetensors modified`, and how many more; `more` are not among the changes."""
    first, others = changes[0], len(changes) - 1 + more
    differ = f": {difference(first)}" if first.recorded and first.found else ""
    return f"output {first.path} {first.what}{differ}" + (f" (and {others} more)" if others else "")


def difference(change: FileChange) -> str:
    """`recorded blake3:7c1f09a2, found folder`."""
    recorded, found = (f"blake3:{text}" if text and SHORT.fullmatch(text) else text for text in (change.recorded, change.found))
    return f"recorded {recorded}, found {found}"


def shown(value: str) -> str:
    """A value on one line, shortened in the middle."""
    if DIGEST.fullmatch(value):
        return f"blake3:{value[:8]}"
    line = " ".join(value.split())
    if len(line) <= MAX_VALUE:
        return line or "(empty)"
    half = (MAX_VALUE - 3) // 2
    return f"{line[:half]}...{line[-half:]}"


def differing_words(old: str, new: str) -> tuple[str, str]:
    """The words that differ, with the option before them: `--seed 42`, `--seed 43`."""
    a, b = old.split(), new.split()
    start = 0
    while start < min(len(a), len(b)) and a[start] == b[start]:
        start += 1
    end = 0
    while end < min(len(a), len(b)) - start and a[-1 - end] == b[-1 - end]:
        end += 1
    if 0 < start <= len(a) and a[start - 1].startswith("-"):
        start -= 1
    return " ".join(a[start : len(a) - end]), " ".join(b[start : len(b) - end])
