"""The fixture of the verb tests: a project folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.builder import Project


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """An empty project folder that the verbs run in."""
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.chdir(tmp_path)
    made = Project(tmp_path)
    yield made
    made.close()
