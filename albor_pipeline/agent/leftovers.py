"""Work folders that no attempt will go on with: found, and taken away. Knows no store and no results.

A work folder belongs to a resource and the first 12 characters of a fingerprint, as the name of an attempt's folder does. One that runs
uses it, and one that has not ended well will be gone on with for as long as it is on record; what an attempt that ended well saved on
its way only fills the disk.
"""

from __future__ import annotations

import os

from albor_pipeline.agent import attempts, verdict
from albor_pipeline.agent.layout import lock_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from albor_pipeline.agent.layout import Layout

LOCK_WAIT_S = 1.0


def clear(layout: Layout, dry_run: bool) -> list[dict[str, Any]]:
    """Take these folders away, or only say which: {"path", "files", "size_bytes"} of each that holds a file. Raises OSError."""
    gone: list[dict[str, Any]] = []
    for resource in _names(layout.work):
        base = os.path.join(layout.attempts, resource)
        os.makedirs(base, exist_ok=True)
        lock = lock_file(os.path.join(base, ".lock"), LOCK_WAIT_S)
        if lock is None:  # one is being started
            continue
        try:
            needed = set(_needed(base))
            for name in _names(os.path.join(layout.work, resource)):
                path = os.path.join(layout.work, resource, name)
                if name in needed:
                    continue
                sizes = list(_sizes(path))
                if sizes:
                    gone.append({"path": os.path.relpath(path, layout.workdir), "files": len(sizes), "size_bytes": sum(sizes)})
                if not dry_run:
                    attempts.remove_tree(path)
        finally:
            os.close(lock)
    return gone


def _needed(base: str) -> Iterator[str]:
    """The names of work folders that attempts of a resource use, or the next one will."""
    newest = {os.path.basename(folder).partition("-")[2]: folder for _number, folder in attempts.numbered(base)}
    for name, folder in newest.items():
        state, proof, _record = attempts.state_of(folder)
        if state in attempts.RUNNING or proof is None or proof["exit"]["class"] != verdict.OK:
            yield name


def _names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _sizes(folder: str) -> Iterator[int]:
    """The bytes of each file."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _sizes(entry.path)
            else:
                yield entry.stat(follow_symlinks=False).st_size
