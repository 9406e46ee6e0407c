"""The text of a Plan for a person; decides nothing and reads nothing."""

from __future__ import annotations

from collections.abc import Sequence

from stages.lib.stage import Check, Plan

_LABEL_WIDTH = 10


def plan_text(plan: Plan, command: str) -> str:
    """Blocks of aligned lines, then what is wrong, then what to type; `command` would start the stage."""
    lines = [line for title, texts in plan.blocks for line in _block(title, texts)]
    lines += [f"{_shown(check)}[{check.name}]: {check.text}" for check in plan.checks if check.level != "ok"]
    return "\n".join([*lines, _verdict(plan, command)]) + "\n"


def count(number: float, noun: str) -> str:
    """`1 file`, `2 files`, `12,300 files`."""
    return f"{number:,.0f} {noun}{'' if number == 1 else 's'}"


def size(size_bytes: float) -> str:
    """A size in decimal units, as `11.2 MB`."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size_bytes >= scale:
            return f"{size_bytes / scale:,.1f} {unit}"
    return f"{size_bytes:.0f} B"


def _block(title: str, texts: Sequence[str]) -> list[str]:
    labels = [title, *[""] * (len(texts) - 1)]
    return [f"{label:<{_LABEL_WIDTH}} {text}".rstrip() for label, text in zip(labels, texts, strict=True)]


def _shown(check: Check) -> str:
    return "checked when ready" if check.level == "when-ready" else check.level


def _verdict(plan: Plan, command: str) -> str:
    errors, warnings, waiting = (
        [c for c in plan.checks if c.level == level] for level in ("error", "warning", "when-ready")
    )
    if errors:
        return f"{count(len(errors), 'error')}. Nothing would be started."
    notes = [count(len(warnings), "warning")] if warnings else []
    notes += [f"{count(len(waiting), 'check')} when ready"] if waiting else []
    return ", ".join(["Plan holds", *notes]) + f". To start: {command}"
