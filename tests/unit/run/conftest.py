"""The project folder that the tests of this room share."""

from __future__ import annotations

from pathlib import Path

import pytest
from support_run import Project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)
