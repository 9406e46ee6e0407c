"""What a watch holds against: every kind of path, questions that no stamp answers, attempts begun since, and another boot."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from albor_pipeline.agent import watch
from albor_pipeline.agent.layout import Layout
from albor_pipeline.agent.probe import Prober

PATHS = ("file", "folder", "link", "ab*", "nothing", "no*thing")


@pytest.fixture
def look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Prober]:
    """A prober that has looked at PATHS, on a machine whose files are never too young to be told apart."""
    monkeypatch.setattr(watch, "RACY_NS", 0)
    for name in ("file", "folder/one", "folder/sub/two", "target", "ab1", "ab2"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("as it was")
    (tmp_path / "link").symlink_to("target")

    def prober() -> Prober:
        found = Prober(Layout(str(tmp_path)))
        found.watch.begin()
        found.answer([{"op": "tree", "path": path} for path in PATHS])
        return found

    time.sleep(0.01)
    return prober


def holds(root: Path, name: str) -> bool:
    layout = Layout(str(root))
    return watch.holds(layout, "L", name, Prober(layout).look)


CHANGES: dict[str, Callable[[Path], object]] = {
    "a file, its size as it was": lambda root: (root / "file").write_text("as it is "),
    "only a stamp": lambda root: os.utime(root / "file", (1, 1)),
    "a file that is a folder now": lambda root: ((root / "file").unlink(), (root / "file").mkdir()),
    "deep in a folder": lambda root: (root / "folder/sub/two").write_text("as it is "),
    "one more in a folder": lambda root: (root / "folder/sub/three").write_text(""),
    "what a link means": lambda root: (root / "target").write_text("as it is "),
    "one more of a glob": lambda root: (root / "ab3").write_text(""),
    "one less of a glob": lambda root: (root / "ab1").unlink(),
    "what was not there": lambda root: (root / "nothing").write_text(""),
    "a glob that had no match": lambda root: (root / "no thing").write_text(""),
    "an attempt": lambda root: (root / ".albor/attempts").mkdir(parents=True),
}


@pytest.mark.parametrize("change", CHANGES)
def test_any_change_is_seen_and_nothing_else(tmp_path: Path, look: Callable[[], Prober], change: str) -> None:
    name = look().watch.keep("L")
    assert name and holds(tmp_path, name)
    (tmp_path / "beside").write_text("")
    assert holds(tmp_path, name)
    CHANGES[change](tmp_path)
    assert not holds(tmp_path, name)


def test_another_watch_or_another_boot_is_not_this_one(tmp_path: Path, look: Callable[[], Prober]) -> None:
    name = look().watch.keep("L")
    assert not holds(tmp_path, "another")
    path = tmp_path / ".albor/watch/L"
    path.write_text(json.dumps({**json.loads(path.read_text()), "boot": "before"}))
    assert not holds(tmp_path, name)
    path.write_text("[torn")
    assert not holds(tmp_path, name)


def test_what_is_answered_by_a_script_is_asked_again(tmp_path: Path, look: Callable[[], Prober]) -> None:
    prober = look()
    prober.answer([{"op": "sh", "script": "cat answer", "timeout_s": 9}])
    name = prober.watch.keep("L")
    assert holds(tmp_path, name)
    (tmp_path / "answer").write_text("yes")
    assert not holds(tmp_path, name)


def test_what_is_younger_than_a_stamp_can_tell_is_not_kept(look: Callable[[], Prober], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "RACY_NS", 2_000_000_000)
    assert look().watch.keep("L") == ""


def test_without_a_look_at_the_attempts_nothing_is_kept(tmp_path: Path) -> None:
    assert Prober(Layout(str(tmp_path))).watch.keep("L") == ""


def test_an_attempt_that_is_begun_after_the_first_moves_the_stamp(box: Any) -> None:
    box.run("true")
    before = (box.root / ".albor/attempts").stat().st_mtime_ns
    time.sleep(0.01)
    box.run("true")
    assert (box.root / ".albor/attempts").stat().st_mtime_ns > before
