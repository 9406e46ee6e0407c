"""Which rows each step read, one JSON line a step, without a step twice and without a gap over any number of kills."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from stages.lib.files import sync_folder
from stages.lib.loader import Place


class RowLog:
    """Appends to a file that is first cut back to the step a run goes on from; what a killed process read after it is read again."""

    def __init__(self, path: Path, resumed_step: int) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._path, self._fd = path, os.open(path, flags, 0o644)
        sync_folder(path.parent)  # a power cut must not take the file away from under the checkpoints
        self.cut(resumed_step)

    def cut(self, step: int) -> None:
        """Forgets what was read after `step`, which is read again or gone back from."""
        with self._path.open("rb") as file:
            os.ftruncate(self._fd, _end_of(file, step))

    def write(self, step: int, place: Place, rows: Iterable[Any]) -> None:
        """One whole line by a single write; `data` is the number of the rows' source, of a run without phases 0."""
        told = {"step": step, "data": place.source, "epoch": place.epoch, "rows": [int(row) for row in rows]}
        os.write(self._fd, json.dumps(told, separators=(",", ":")).encode() + b"\n")

    def sync(self) -> None:
        """Makes durable what is written, as a checkpoint will say that these steps were made."""
        os.fdatasync(self._fd)

    def close(self) -> None:
        """Closes the file."""
        os.close(self._fd)


def _end_of(lines: Iterable[bytes], step: int) -> int:
    """The bytes of the whole lines up to that step."""
    end = 0
    for line in lines:
        try:
            if not line.endswith(b"\n") or json.loads(line)["step"] > step:
                break
        except ValueError:  # what a power cut left of a line
            break
        end += len(line)
    return end
