"""What a wait status is worth beside what the kernel counted meanwhile."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from albor_pipeline.agent import verdict

KILLED_CHILD = (128 + signal.SIGKILL) << 8


@pytest.mark.parametrize(
    ("status", "kills", "exit_class"),
    [
        (signal.SIGKILL, 8, "oom"),
        (signal.SIGKILL, 7, "killed"),
        (KILLED_CHILD, 8, "oom"),
        (KILLED_CHILD, 7, "error"),
        (signal.SIGTERM, 8, "killed"),
        (1 << 8, 8, "error"),
    ],
)
def test_a_kill_is_one_for_memory_when_the_kernel_made_one_meanwhile(
    status: int, kills: int, exit_class: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """137 is how a shell says that its child was killed."""
    monkeypatch.setattr(verdict, "oom_kills", lambda: kills)
    assert verdict.of_status(status, str(tmp_path / "log"), 7, False).exit_class == exit_class
