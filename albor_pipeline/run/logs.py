"""Logs: what a task, a converge or a check printed, kept masked in the folder of its run. Knows no machine."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from albor_pipeline.model.events import NoteEvent

if TYPE_CHECKING:
    from albor_pipeline.run.workers import Run

TAIL_LINES = 10


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
