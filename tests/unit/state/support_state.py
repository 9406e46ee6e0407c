"""Rows and folders for the tests of the state room."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from albor_pipeline.model.fingerprint import Fingerprint
from albor_pipeline.model.resource import Key
from albor_pipeline.model.state import Current, Entry, OutputProof, Result, Status
from albor_pipeline.state.disk import RealDisk
from albor_pipeline.state.folder import StateFolder, Transition

AT = "2026-03-02T14:10:02.000Z"
PIPELINE = "ladder"


def open_folder(path: Path, *, write: bool = True, **options: Any) -> StateFolder:
    return StateFolder.open(path, PIPELINE, write=write, clock=lambda: AT, **options)


def converged(name: str, machine: str = "local", seed: int = 1) -> Entry:
    prints = Fingerprint({"command": {"": f"make {name}"}, "config": {"seed": str(seed)}})
    result = Result(prints, {f"out/{name}": OutputProof("ab" * 32, 2, 30)}, "0001", AT, 1.5, 1)
    return Entry(Key(name, machine), "task", result)


def running(name: str, machine: str = "local") -> Entry:
    prints = Fingerprint({"command": {"": f"make {name}"}})
    return Entry(Key(name, machine), "task", current=Current(prints, "0001", 1, AT, Status.RUNNING))


def done(entry: Entry) -> Transition:
    return Transition("done", entry.key, entry)


class CountingDisk(RealDisk):
    """The real disk, counting how often it is made to wait."""

    def __init__(self) -> None:
        self.syncs = 0
        self.reads: list[str] = []

    def fsync(self, handle: int) -> None:
        self.syncs += 1
        super().fsync(handle)

    def fsync_dir(self, path: Path) -> None:
        self.syncs += 1
        super().fsync_dir(path)


def edit(path: Path, change: Callable[[bytes], bytes]) -> None:
    """Change a file behind the program's back."""
    path.write_bytes(change(path.read_bytes()))


def lock_rows(path: Path) -> list[dict[str, Any]]:
    """The objects of a lock file, header and end included."""
    return [json.loads(line[2:]) for line in path.read_text().splitlines() if line.startswith("- ")]
