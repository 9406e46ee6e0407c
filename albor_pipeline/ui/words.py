"""Small pieces of text: times, sizes, digests, counts, columns. Knows no noun of the engine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

KILO = 1000.0


def seconds(value: float) -> str:
    """`0.4 s`, `39 s`, `8 min 44 s`, `3 h 10 min`, `2 d 4 h`."""
    if value < 10:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 60:
        return f"{whole} s"
    for big, small, large_name, small_name in ((60, 1, "min", "s"), (3600, 60, "h", "min"), (86400, 3600, "d", "h")):
        if whole < big * (60 if big == 60 else 24 if big == 3600 else 10**9):
            return f"{whole // big} {large_name} {whole % big // small:02d} {small_name}"
    raise AssertionError("the last row takes every value")


def size(value: float) -> str:
    """`812 B`, `4.1 GB`; decimal units."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < KILO or unit == "TB":
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
    """The lines of a running stage: step and share; loss, best validation; rate and time left."""
    lines: list[str] = []
    step, of = values.get("step"), values.get("of")
    if isinstance(step, int):
        share = f" of {of:,} ({step / of:.1%})" if isinstance(of, int) and of else ""
        lines.append(f"step {step:,}{share}")
    second = []
    if isinstance(values.get("loss"), int | float):
        second.append(f"loss {values['loss']:.2f}")
    if isinstance(values.get("best_val"), int | float):
        second.append(f"best val {values['best_val']:.2f}")
    third = []
    if isinstance(values.get("tokens_per_s"), int | float):
        third.append(f"{values['tokens_per_s']:,.0f} tok/s")
    eta = values.get("eta_s")
    if isinstance(eta, int | float):
        third.append(f"ETA {seconds(float(eta))}")
    note = values.get("note")
    return [*lines, *([", ".join(second)] if second else []), *([", ".join(third)] if third else []), *([str(note)] if note else [])]
