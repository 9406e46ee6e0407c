"""Logs: what a task, a converge or a check printed, kept masked in the folder of its run. Knows no machine."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from albor_pipeline.model.events import LogEvent, NoteEvent
from albor_pipeline.model.resource import Key

if TYPE_CHECKING:
    from albor_pipeline.run.workers import Run

TAIL_LINES = 10
MISSED_LINES = 20
MISSED_BYTES = 1 << 18


def keep(run: Run, path: Path, text: str, whose: str, elsewhere: str = "", machine: str = "") -> str:
    """Write a masked text, and return where it is as a user would type it; nothing is written when nothing was printed.

    One that does not fit costs nothing but the copy: it stays `elsewhere` on its machine, if it is there too.
    """
    if not text:
        return ""
    try:
        path.write_text(text)
    except OSError as error:
        with suppress(OSError):
            path.unlink(missing_ok=True)
        there = f"; it is {elsewhere} on {machine}" if elsewhere else ""
        run.report(NoteEvent(f"the log of {whose} is not in {run.shown_folder}/: {error.strerror}{there}"))
        return elsewhere
    return f"{run.shown_folder}/{path.name}"


def tail(text: str) -> tuple[str, ...]:
    """The last lines of what was printed."""
    return tuple(text.rstrip("\n").splitlines()[-TAIL_LINES:])


def missed(key: Key, at_utc: str, data: bytes, since_s: float | None, mask: Callable[[str], str]) -> tuple[LogEvent, ...]:
    """What a log got while nobody watched, of which at most its last MISSED_BYTES came; nothing where it got nothing."""
    cut = len(data) >= MISSED_BYTES
    lines = mask(data.decode("utf-8", "replace")).splitlines()[cut:]
    more = max(0, len(lines) - MISSED_LINES)
    return (LogEvent(key, at_utc, tuple(lines[more:]), more, cut, since_s),) if lines else ()
