"""The agent program: the same sources give the same bytes, a damaged file is never run, and it needs nothing beside it."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from albor_pipeline.transport import bundle


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "albor"


def test_the_same_sources_give_the_same_bytes_and_name(cache: Path) -> None:
    files = bundle.sources()
    assert bundle.build(files) == bundle.build(files)
    path = bundle.ensure_bundle()
    assert path == cache / bundle.bundle_name(files) and [entry.name for entry in cache.iterdir()] == [path.name]
    assert bundle.bundle_name({**files, "albor_pipeline/agent/wire.py": b""}) != path.name


def test_a_whole_program_is_used_again_and_a_damaged_one_made_anew() -> None:
    path = bundle.ensure_bundle()
    inode, data = path.stat().st_ino, path.read_bytes()
    assert bundle.ensure_bundle().stat().st_ino == inode
    for damaged in (data[:-1], data[: len(data) // 2], b"", data.replace(b"albor", b"ALBOR", 1)):
        path.write_bytes(damaged)
        assert bundle.ensure_bundle().read_bytes() == data


def test_it_holds_the_agent_only_with_bytecode_of_each_file() -> None:
    names = zipfile.ZipFile(bundle.ensure_bundle()).namelist()
    assert all(name in ("__main__.py", "__main__.pyc") or name.startswith("albor_pipeline/") for name in names)
    assert {name[:-1] for name in names if name.endswith(".pyc")} == {name for name in names if name.endswith(".py")}


def test_it_runs_alone_and_refuses_a_wrong_command_line(tmp_path: Path) -> None:
    path = bundle.ensure_bundle()
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(path), "--nonsense"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 64 and "usage" in done.stderr
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(path), "--workdir", str(tmp_path)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
    )
    assert done.returncode == 0 and done.stdout == b"albor-agent frames 1\n"


def test_a_cache_folder_that_cannot_be_written_is_an_os_error(cache: Path) -> None:
    cache.parent.mkdir()
    cache.write_text("a file")
    with pytest.raises(OSError):
        bundle.ensure_bundle()
    assert os.path.isfile(cache)  # noqa: PTH113
