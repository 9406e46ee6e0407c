"""Small pieces of text: times, sizes, digests, counts, columns. Knows no noun of the engine."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from albor_pipeline.ui.diagnostics import visible

KILO = 1000.0
LARGEST = 1e300
DAYS = (86400, 3600, "d", "h")
UNITS = (((60, 1, "min", "s"), 3600), ((3600, 60, "h", "min"), 86400))
ESCAPES = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?)")


def seconds(value: float) -> str:
    """`0.4 s`, `39 s`, `8 min 44 s`, `3 h 10 min`, `2 d 04 h`."""
    if value < 10:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 60:
        return f"{whole} s"
    big, small, large_name, small_name = next((unit for unit, below in UNITS if whole < below), DAYS)
    return f"{whole // big} {large_name} {whole % big // small:02d} {small_name}"


def size(value: float) -> str:
    """`812 B`, `4.1 GB`; decimal units."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if round(value) < KILO or unit == "TB":
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
        value /= KILO
    raise AssertionError("the last unit takes every value")


def digest(root: str | None) -> str:
    """`blake3:91d0c4e7`, or nothing for a volatile output."""
    return f"blake3:{root[:8]}" if root else ""


def count(number: int, noun: str) -> str:
    """`1 resource`, `18 resources`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def minute(utc: str) -> str:
    """`2026-03-02 14:10` of an ISO time."""
    return utc[:16].replace("T", " ")


def clock(utc: str) -> str:
    """`14:10:02` of an ISO time."""
    return utc[11:19]


def columns(rows: Iterable[Sequence[str]], indent: str = "  ", gap: str = "  ") -> list[str]:
    """Rows as aligned lines; the last column is left as it is."""
    table = [list(row) for row in rows]
    if not table:
        return []
    widths = [max(len(row[index]) for row in table) for index in range(len(table[0]))]
    lines = []
    for row in table:
        cells = [cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=False)]
        lines.append((indent + gap.join([*cells, row[-1]])).rstrip())
    return lines


def counted(counts: Mapping[str, int], order: Sequence[str]) -> str:
    """`3 done, 1 failed, 13 unchanged`: what is zero is left out, what is not in `order` comes last."""
    names = [name for name in order if counts.get(name)] + sorted(name for name in counts if name not in order and counts[name])
    return ", ".join(f"{counts[name]} {name}" for name in names)


def progress(values: Mapping[str, object]) -> list[str]:
    """The lines of a running stage: step and share; loss, best validation; rate and time left. Odd values are left out."""
    step, of = _number(values, "step"), _number(values, "of")
    first = ""
    if step is not None:
        share = f" of {of:,.0f} ({step / of:.1%})" if of else ""
        first = f"step {step:,.0f}{share}"
    loss, best = _number(values, "loss"), _number(values, "best_val")
    rate, mfu, eta = _number(values, "tokens_per_s"), _number(values, "mfu"), _number(values, "eta_s")
    peak = one_line(str(values.get("mfu_of") or ""))
    second = [f"loss {loss:.2f}" if loss is not None else "", f"best val {best:.2f}" if best is not None else ""]
    third = [
        f"{rate:,.0f} tok/s" if rate is not None else "",
        f"MFU {mfu:.0%} of {peak}" if mfu is not None and peak else "",
        f"ETA {seconds(eta)}" if eta is not None else "",
    ]
    note = one_line(str(values.get("note") or ""))
    moved, total, speed = _number(values, "moved_bytes"), _number(values, "of_bytes"), _number(values, "bytes_per_s")
    if moved is not None and total:
        note = f"{moved / total:.0%} of {size(total)}" + (f", {size(speed)}/s" if speed is not None else "")
    lines = [first, *(", ".join(part for part in parts if part) for parts in (second, third)), note]
    return [line for line in lines if line]


def _number(values: Mapping[str, object], name: str) -> float | None:
    value = values.get(name)
    return float(value) if isinstance(value, int | float) and abs(value) < LARGEST else None


def one_line(text: str) -> str:
    """What a task wrote, as one line that cannot move the cursor: colours dropped, control characters written out."""
    return visible(ESCAPES.sub("", " ".join(text.splitlines())))
