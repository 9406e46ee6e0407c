"""Checks that several plans make of paths and space; imports nothing heavy and reads no content."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from stages.lib.files import free_bytes, nearest
from stages.lib.plan_text import size
from stages.lib.stage import Check


def parquet_files(path: Path) -> list[Path]:
    """The Parquet files that `path` means: itself, or those directly in the folder, sorted by name."""
    return sorted(path.glob("*.parquet")) if path.is_dir() else [path] if path.is_file() else []


def parquet_check(name: str, path: str) -> Check:
    """An input of Parquet files: there, not there yet, or a place without any."""
    found = parquet_files(Path(path))
    if found:
        return Check(name, "ok", f"{path}: {len(found)} Parquet files, {size(total_bytes(found))}")
    if Path(path).is_dir():
        return Check(name, "error", f"{path} holds no *.parquet file")
    return Check(name, "when-ready", f"{path} is not there yet")


def total_bytes(files: Sequence[Path]) -> int:
    """The size of the files together."""
    return sum(file.stat().st_size for file in files)


def apart_check(out: str, inputs: Sequence[str]) -> Check:
    """The output, which is replaced as a whole, holds no input and lies in none, and there is a place for it.

    Where this user may not write is a warning: a plan may be made by another one, for another machine.
    """
    there = Path(out).resolve()
    for text in inputs:
        other = Path(text).resolve()
        if there == other or there in other.parents or other in there.parents:
            return Check("output", "error", f"{out} would be replaced as a whole, but it overlaps the input {text}")
    if there.exists() and not there.is_dir():
        return Check("output", "error", f"{out} is a file; a folder would be written there")
    if not (place := nearest(Path(out).parent)).is_dir():
        return Check("output", "error", f"{out} cannot be made: {place} is a file")
    if told := unwritable(out):
        return Check("output", "warning", told)
    return Check("output", "ok", f"{out} lies apart from what is read")


def unwritable(out: str) -> str | None:
    """What keeps this process from writing `out`, if anything does: no right to write where it would be made, or a read-only disk."""
    place = nearest(Path(out).parent)
    if not place.is_dir() or os.access(place, os.W_OK | os.X_OK):
        return None
    return f"{out} cannot be written: nothing can be made in {place} by this user"


def disk_check(out: str, need_bytes: float, work: str | None = None) -> Check:
    """Free space for the output, with a tenth to spare; what lies in the work folder of an attempt that goes on is counted as there."""
    saved = total_bytes([path for path in Path(work).rglob("*") if path.is_file()]) if work else 0
    lacking, free = max(0.0, need_bytes - saved), free_bytes(Path(work or out))
    text = f"about {size(need_bytes)} of {size(free)} free" + (f", {size(saved)} of it are there" if saved else "")
    return Check("disk", "ok" if lacking * 1.1 <= free else "error", text)
