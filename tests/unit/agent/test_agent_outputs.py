"""What happens to bytes that lie where a task will write: ours are removed, all others are kept and reported."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest


def kept(box: Any, end: Any) -> dict[str, str]:
    return {Path(name).name: (box.root / name).read_text() for name in end["kept"]}


def test_an_output_of_ours_is_unlinked_and_never_written_through(box: Any) -> None:
    box.run("echo 1 > o", outputs=[{"path": "o"}])
    (box.root / "stored").hardlink_to(box.root / "o")
    end = box.run("echo 2 >> o", outputs=[{"path": "o"}])
    assert end["kept"] == [] and (box.root / "o").read_text() == "2\n" and (box.root / "stored").read_text() == "1\n"


def test_bytes_that_no_attempt_made_are_kept_by_rename(box: Any) -> None:
    (box.root / "o").write_text("precious")
    (box.root / "d").mkdir()
    (box.root / "d" / "x").write_text("also")
    end = box.run("echo 1 > o; mkdir d; echo 2 > d/y", outputs=[{"path": "o"}, {"path": "d"}])
    assert sorted(end["kept"]) == [".albor/kept/0001/t/d", ".albor/kept/0001/t/o"]
    assert (box.root / ".albor/kept/0001/t/o").read_text() == "precious"
    assert (box.root / ".albor/kept/0001/t/d/x").read_text() == "also" and not (box.root / "d" / "x").exists()
    (box.root / "o").write_text("edited")
    assert kept(box, box.run("echo 1 > o", outputs=[{"path": "o"}])) == {"o.2": "edited"}


def test_stale_shards_cannot_match_a_glob_and_foreign_ones_are_kept(box: Any) -> None:
    outputs = [{"path": "s/*.bin"}]
    box.run("mkdir -p s; echo 1 > s/1.bin; echo 2 > s/2.bin", outputs=outputs)
    (box.root / "s" / "mine.bin").write_text("mine")
    end = box.run("echo 1 > s/1.bin", outputs=outputs)
    assert end["exit"]["outputs"]["s/*.bin"]["files"] == 1
    assert kept(box, end) == {"s%2Fmine.bin": "mine"}


def test_what_a_failed_attempt_left_is_removed_but_not_when_it_was_edited(box: Any) -> None:
    box.run("echo half > o; exit 1", outputs=[{"path": "o"}])
    assert box.run("[ ! -e o ] && exit 1", outputs=[{"path": "o"}])["kept"] == []
    box.run("echo half > o; exit 1", outputs=[{"path": "o"}])
    time.sleep(0.01)
    (box.root / "o").write_text("edited")
    assert kept(box, box.run("exit 1", outputs=[{"path": "o"}])) == {"o": "edited"}


def test_a_volatile_output_is_counted_and_not_digested(box: Any) -> None:
    (box.root / "v").write_text("old")
    end = box.run("echo 1 > v", outputs=[{"path": "v", "volatile": True}])
    assert end["exit"]["outputs"]["v"] == {"root": None, "files": 1, "size_bytes": 2} and end["kept"] == []


@pytest.mark.parametrize("path", [".", "..", "/", ".albor", ".albor/attempts"])
def test_an_output_that_holds_the_workdir_is_refused(box: Any, path: str) -> None:
    (box.root / "file").write_text("x")
    end = box.run("true", outputs=[{"path": path}])
    assert end["exit"]["class"] == "error" and "working directory" in end["exit"]["detail"]
    assert (box.root / "file").exists()


def test_a_link_at_an_output_is_moved_and_its_target_left_alone(box: Any) -> None:
    (box.root / "target").write_text("precious")
    (box.root / "o").symlink_to("target")
    end = box.run("echo 1 > o", outputs=[{"path": "o"}])
    assert end["exit"]["class"] == "ok" and (box.root / "target").read_text() == "precious"
    assert not (box.root / "o").is_symlink()


def test_outputs_are_left_alone_when_the_start_is_not_a_fresh_one(box: Any) -> None:
    (box.root / "o").write_text("kept")
    assert box.run("true", outputs=[{"path": "o"}], clear_outputs=False)["exit"]["class"] == "ok"
    assert (box.root / "o").read_text() == "kept"
