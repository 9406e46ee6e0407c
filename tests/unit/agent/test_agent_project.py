"""The project's files as an agent takes them: only what lacks is asked for, and nothing is replaced by what was not announced."""

from __future__ import annotations

from pathlib import Path

import pytest

from albor_pipeline.agent.files import FileError
from albor_pipeline.agent.hashing import digest_bytes
from albor_pipeline.agent.layout import Layout
from albor_pipeline.agent.probe import new_cache
from albor_pipeline.agent.project import Project

A, B = b"a" * 3000, b"b" * 5000


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(Layout(str(tmp_path)), new_cache(Layout(str(tmp_path))))


def item(path: str, body: bytes) -> tuple[str, str, int, str, int]:
    return path, "f", 0, digest_bytes(body), len(body)


def test_what_arrived_before_a_cut_is_not_asked_for_again(project: Project, tmp_path: Path) -> None:
    items = [item("a", A), item("sub/b", B)]
    assert project.lacking(items) == [0, 1]
    with pytest.raises(FileError, match="fewer bytes"):
        project.put(items, iter([A[:1000], A[1000:] + B[:10]]), "0001")
    assert project.lacking(items) == [1]
    assert project.put(items[1:], iter([B]), "0001") == []
    assert project.lacking(items) == [] and project.complete("d", items) == 0 and project.is_same("d")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".albor", "a", "sub"]


def test_other_bytes_than_announced_replace_nothing(project: Project, tmp_path: Path) -> None:
    project.put([item("a", A)], iter([A]), "0001")
    with pytest.raises(FileError, match="other bytes arrived"):
        project.put([item("a", B)], iter([b"x" * len(B)]), "0001")
    assert [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()] == [A]


@pytest.mark.parametrize("path", ["/etc/passwd", "../up", "a/../../up", ".albor/head"])
def test_a_path_that_leads_out_is_refused(project: Project, path: str) -> None:
    with pytest.raises(FileError, match="must lie in the project"):
        project.lacking([item(path, A)])
