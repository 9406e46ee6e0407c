"""A folder for a manifest."""

from __future__ import annotations

from pathlib import Path

import pytest
from support_manifest import Folder


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """An empty one."""
    return Folder(tmp_path)
