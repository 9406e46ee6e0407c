"""Writes that fail half-way leave no rubbish, and say what went wrong and what frees the way."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from albor_pipeline.errors import StateError
from albor_pipeline.state.disk import RealDisk, atomic_write, disk_faults


def test_an_atomic_write_that_fails_leaves_the_old_bytes_and_nothing_else(tmp_path: Path) -> None:
    class FullDisk(RealDisk):
        def fsync(self, handle: int) -> None:
            raise OSError(errno.ENOSPC, "full")

    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(OSError, match="full"):
        atomic_write(FullDisk(), tmp_path / "a", b"new")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a", b"old")]


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (OSError(errno.ENOSPC, ""), "free some space"),
        (OSError(errno.EDQUOT, ""), "free some space"),
        (OSError(errno.EROFS, ""), "must be writable"),
        (OSError(errno.EIO, ""), "dmesg"),
        (OSError("strange"), "dmesg"),
    ],
)
def test_each_failure_names_a_way_out(error: OSError, hint: str) -> None:
    with pytest.raises(StateError) as caught, disk_faults("state/ cannot be opened"):
        raise error
    diagnostic = caught.value.diagnostics[0]
    assert diagnostic.message.startswith("state/ cannot be opened: ")
    assert diagnostic.message != "state/ cannot be opened: "
    assert hint in diagnostic.notes[0]
