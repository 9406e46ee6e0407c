"""Which file system a path lies on."""

from __future__ import annotations

from pathlib import Path

import pytest

from albor_pipeline.state import mounts
from albor_pipeline.state.mounts import filesystem_of

TABLE = r"""
/dev/vda / ext4 rw 0 0
tmpfs /tmp tmpfs rw 0 0
box:/export /tmp/my\040share nfs4 rw 0 0
broken
/dev/vdb /tmp/my\040share/local xfs rw 0 0
overlay /tmp overlay rw 0 0
"""


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/etc/passwd", "ext4"),
        ("/tmp/state", "overlay"),
        ("/tmp/my share/state", "nfs4"),
        ("/tmp/my shared", "overlay"),
        ("/tmp/my share/local/x", "xfs"),
        ("/", "ext4"),
    ],
)
def test_the_deepest_and_then_the_last_mount_counts(path: str, expected: str) -> None:
    assert filesystem_of(Path(path), TABLE) == expected


def test_this_machine_has_a_file_system_and_one_without_a_table_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert filesystem_of(tmp_path) not in ("", *mounts.NETWORK)
    monkeypatch.setattr(mounts, "MOUNT_TABLE", tmp_path / "none")
    assert filesystem_of(tmp_path) == ""
