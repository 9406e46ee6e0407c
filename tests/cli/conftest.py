"""The fixtures of the verb tests: a project folder, and machines that are reached over SSH."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sshd import Network

from albor_pipeline.run.session import Session
from cli.builder import Project


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """An empty project folder that the verbs run in."""
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.chdir(tmp_path)
    made = Project(tmp_path)
    yield made
    made.close()


@pytest.fixture
def network(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Network]:
    """No machine yet; what tests add is found by name."""
    made = Network(tmp_path_factory.mktemp("network"))
    monkeypatch.setenv("ALBOR_SSH_CONFIG", str(made.config))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    yield made
    made.close()


@pytest.fixture
def no_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """No manifest may be read."""

    def refuse(*args: object, **named: object) -> None:
        raise AssertionError("the manifest is read")

    monkeypatch.setattr(Session, "open", refuse)
