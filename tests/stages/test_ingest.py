"""Ingest: which files are taken, byte for byte, in one order, and what is left out is counted and named."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support_data import apply_of, column, plan_of, sources, tree

from stages.lib.problems import BadConfig
from stages.lib.stage import StageError


def ingest(tmp_path: Path, **values: object):
    given = {"source": str(tmp_path / "src"), "out": str(tmp_path / "raw"), **values}
    return apply_of("ingest", tmp_path / "attempt", **given)


def put(folder: Path, name: str, data: bytes) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)


@pytest.mark.parametrize(("length", "kept"), [(49, False), (50, True), (80, True), (81, False)])
def test_a_file_is_kept_from_the_least_to_the_most_characters(tmp_path: Path, length: int, kept: bool) -> None:
    put(tmp_path / "src", "always.py", b"#" * 60)
    put(tmp_path / "src", "edge.py", ("é" * length).encode())
    report = ingest(tmp_path, max_chars=80)
    assert ("edge.py" in column(tmp_path / "raw", "file")) is kept
    assert report.metrics["files"] + report.metrics["too_short"] + report.metrics["too_long"] == 2


def test_bounds_that_leave_nothing_are_refused_by_the_schema(tmp_path: Path) -> None:
    with pytest.raises(BadConfig) as bad:
        ingest(tmp_path, min_chars=100, max_chars=99)
    assert "min_chars 100 is above max_chars 99" in bad.value.problems[0].text


def test_only_python_of_wanted_folders_is_taken_in_sorted_order(tmp_path: Path) -> None:
    names = ["b.py", "a/z.py", "a/b/c.py", ".git/x.py", "node_modules/x.py", "venv/x.py", "a/__pycache__/x.py",
             "notes.txt", "a-b.py", "tests/kept.py", ".hidden.py"]
    for name in names:
        put(tmp_path / "src", name, b"#" * 60)
    (tmp_path / "src" / "link.py").symlink_to("b.py")
    (tmp_path / "src" / "again").symlink_to("a")
    ingest(tmp_path)
    assert column(tmp_path / "raw", "file") == sorted(
        ["b.py", "a/z.py", "a/b/c.py", "a-b.py", "tests/kept.py", ".hidden.py"])


def test_text_is_kept_byte_for_byte(tmp_path: Path) -> None:
    """ALB-036: nothing is normalised on the way in."""
    data = "\ufeff# -*- x -*-\r\n\tif a:\r        b = 'e\u0301 \U0001f600'\n\n\n   \x00\x0c end without newline".encode()
    put(tmp_path / "src", "a.py", data)
    report = ingest(tmp_path)
    assert column(tmp_path / "raw", "text") == [data.decode()]
    assert report.metrics["text_bytes"] == len(data)


def test_what_is_not_utf8_is_counted_and_named(tmp_path: Path) -> None:
    put(tmp_path / "src", "good.py", b"#" * 60)
    put(tmp_path / "src", "latin.py", b"# caf\xe9" + b"#" * 60)
    put(tmp_path / "src", os.fsdecode(b"n\xff.py"), b"#" * 60)
    report = ingest(tmp_path)
    assert (report.metrics["files"], report.metrics["undecodable"]) == (1, 2)
    assert "2 not UTF-8 (latin.py, n?.py)" in report.headline[1]


def test_equal_sources_give_equal_bytes_wherever_and_whenever_they_lie(tmp_path: Path) -> None:
    for side in ("one", "two"):
        sources(tmp_path / side / "src", 30)
        ingest(tmp_path / side, rows_per_shard=8)
    for path in (tmp_path / "two" / "src").rglob("*.py"):
        os.utime(path, (1, 1))
    ingest(tmp_path / "two", rows_per_shard=8)
    assert tree(tmp_path / "one" / "raw") == tree(tmp_path / "two" / "raw")
    assert len(tree(tmp_path / "one" / "raw")) == 4


def test_the_standard_library_comes_without_its_tests(tmp_path: Path) -> None:
    plan = plan_of("ingest", out=str(tmp_path / "raw"))
    assert plan.ok
    assert plan.estimates["files"] > 400
    apply_of("ingest", tmp_path / "attempt", out=str(tmp_path / "raw"))
    files = column(tmp_path / "raw", "file")
    assert {"argparse.py", "venv/__init__.py"} <= set(files)
    unwanted = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"}
    assert not [f for f in files if unwanted & set(f.split("/"))]
    assert set(column(tmp_path / "raw", "source")) == {"python-stdlib"}


@pytest.mark.parametrize(("source", "out", "level", "word"), [
    ("src", "src", "error", "overlaps"), ("src", "src/raw", "error", "overlaps"), ("src/a", "src", "error", "overlaps"),
    ("nowhere", "raw", "when-ready", "not there yet"), ("empty", "raw", "error", "holds no *.py"),
    ("file", "raw", "error", "not a folder"), ("src", "file", "error", "is a file"),
])
def test_plan_finds_places_that_cannot_work(tmp_path: Path, source: str, out: str, level: str, word: str) -> None:
    put(tmp_path / "src", "a/x.py", b"#" * 60)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    plan = plan_of("ingest", source=str(tmp_path / source), out=str(tmp_path / out))
    assert any(check.level == level and word in check.text for check in plan.checks)
    assert plan.ok is (level == "when-ready")


def test_a_source_of_which_nothing_is_left_is_an_error_and_keeps_the_old_output(tmp_path: Path) -> None:
    put(tmp_path / "src", "a.py", b"#" * 60)
    ingest(tmp_path)
    before = tree(tmp_path / "raw")
    with pytest.raises(StageError, match="none of the 1 file"):
        ingest(tmp_path, min_chars=61)
    assert tree(tmp_path / "raw") == before
