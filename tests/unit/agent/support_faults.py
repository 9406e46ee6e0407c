"""One call to the operating system that fails, at every step in turn. Tests nothing."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from albor_pipeline.agent.attempts import AttemptError
from albor_pipeline.agent.store import StoreError

CALLS = (
    "mkdir", "makedirs", "link", "chmod", "rename", "replace", "rmdir", "open", "write", "symlink", "lstat", "stat", "unlink", "utime",
    "ftruncate",
)  # fmt: skip


def failing(monkeypatch: pytest.MonkeyPatch, step: int, code: int, act: Callable[[], object], below: Path | None = None) -> bool:
    """Run `act` with the step-th call failing, of all or of those on files of a folder; False when there are fewer."""
    count = 0

    def wrap(real: Any) -> Any:
        def call(*args: Any, **more: Any) -> Any:
            nonlocal count
            if below is None or any(isinstance(each, int) or str(each).startswith(os.fspath(below)) for each in args[:2]):
                count += 1
                if count == step:
                    raise OSError(code, os.strerror(code), str(args[0]))
            return real(*args, **more)

        return call

    with monkeypatch.context() as patch:
        for name in CALLS:
            patch.setattr(os, name, wrap(getattr(os, name)))
        with contextlib.suppress(OSError, StoreError, AttemptError, IndexError):
            act()
    return count >= step
