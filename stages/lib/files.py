"""Durable, atomic files for stages: write, replace a folder, canonical JSON, digests; knows nothing of what they hold."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_CHUNK_BYTES = 1 << 20


def canonical_json(value: Any) -> bytes:
    """Equal values give equal bytes: sorted keys, two-space indent, UTF-8, one newline at the end; NaN raises ValueError."""
    return (json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def write_atomic(path: Path, data: bytes) -> None:
    """A reader sees the old file or the whole new one, also after a power cut (temp, fsync, rename, fsync folder)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.partial-{os.getpid()}")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)


@contextmanager
def output_folder(out: Path) -> Iterator[Path]:
    """A folder to build in, renamed to `out` (replacing an old one) when the block ends well, removed when it does not.

    Left-overs of dead processes beside `out` are removed first. Every file is fsynced before the rename.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(out)
    partial = out.with_name(f"{out.name}.partial-{os.getpid()}")
    partial.mkdir()
    try:
        yield partial
        sync_tree(partial)
        _put_in_place(partial, out)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def remove_leftovers(out: Path) -> None:
    """Remove `<out>.partial-<pid>` and `<out>.old-<pid>` of processes that are no longer there."""
    pattern = re.compile(re.escape(out.name) + r"\.(?:partial|old)-([0-9]+)")
    for entry in sorted(out.parent.iterdir()) if out.parent.is_dir() else ():
        found = pattern.fullmatch(entry.name)
        if found and (int(found[1]) == os.getpid() or not Path(f"/proc/{found[1]}").exists()):
            remove(entry)


def remove(path: Path) -> None:
    """Remove a file, link or folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sync_tree(folder: Path) -> None:
    """fsync every file and folder under `folder`, itself included."""
    for root, _, names in os.walk(folder):
        for name in names:
            with Path(root, name).open("rb") as file:
                os.fsync(file.fileno())
        sync_folder(Path(root))


def sync_folder(folder: Path) -> None:
    """fsync a folder, so that a rename in it is durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def digest_bytes(data: bytes) -> str:
    """`blake3:` and 64 hexadecimal digits."""
    from blake3 import blake3

    return f"blake3:{blake3(data).hexdigest()}"


def digest_path(path: Path) -> str:
    """The digest of a file's bytes; of a folder, that of its sorted lines `relative path, NUL, digest`."""
    from blake3 import blake3

    hasher = blake3()
    if path.is_dir():
        for entry in sorted(p for p in path.rglob("*") if p.is_file()):
            hasher.update(f"{entry.relative_to(path).as_posix()}\0{digest_path(entry)}\n".encode())
        return f"blake3:{hasher.hexdigest()}"
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            hasher.update(chunk)
    return f"blake3:{hasher.hexdigest()}"


def nearest(path: Path) -> Path:
    """What is there of `path`: itself, or the part of it in which the rest would be made."""
    there = path
    while not there.exists() and there != there.parent:
        there = there.parent
    return there


def free_bytes(path: Path) -> int:
    """Free space where `path` is or would be made."""
    return shutil.disk_usage(nearest(path)).free


def _put_in_place(partial: Path, out: Path) -> None:
    old = out.with_name(f"{out.name}.old-{os.getpid()}")
    if out.exists() or out.is_symlink():
        out.rename(old)
    partial.rename(out)
    sync_folder(out.parent)
    remove(old)
