"""A tree that came is put in place: in one go or by what differs, and nothing of a user's is lost, whatever call fails."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from support_faults import failing
from support_moves import End, change, fill, move

from albor_pipeline.agent import hashing
from albor_pipeline.agent.attempts import AttemptError
from albor_pipeline.agent.incoming import Incoming


@pytest.fixture
def ends(tmp_path: Path) -> tuple[End, End]:
    return End(tmp_path / "source"), End(tmp_path / "target")


def test_files_of_a_glob_that_came_before_are_replaced_and_others_are_kept_aside(ends: tuple[End, End]) -> None:
    source, target = ends
    fill(source)
    move(source, target, "d/*")
    (source.root / "d/a").write_text("two two\n")
    assert move(source, target, "d/*")["kept"] == [] and target.shape("d/*") == source.shape("d/*")
    (target.root / "d/mine").write_text("mine")
    assert ".albor/kept/0007/use/d%2Fmine" in move(source, target, "d/*")["kept"] and target.shape("d/*") == source.shape("d/*")


def test_what_a_user_left_at_the_path_is_kept_aside_and_said(ends: tuple[End, End]) -> None:
    source, target = ends
    fill(source)
    (target.root / "d").mkdir()
    (target.root / "d/mine").write_text("mine")
    (target.root / "d/a").write_text("one\n")
    reply = move(source, target, "d")
    assert reply["kept"] == [".albor/kept/0007/use/d"] and (target.root / ".albor/kept/0007/use/d/mine").read_text() == "mine"
    (target.root / "d/a").write_text("written through")
    assert (target.root / ".albor/kept/0007/use/d/a").read_text() == "one\n"
    assert target.tree("d").root != source.tree("d").root
    assert move(source, target, "d")["kept"] == [".albor/kept/0007/use/d.2"] and target.shape("d") == source.shape("d")


def test_a_link_at_the_path_is_followed(ends: tuple[End, End], tmp_path: Path) -> None:
    source, target = ends
    fill(source)
    (tmp_path / "elsewhere").mkdir()
    (target.root / "d").symlink_to(tmp_path / "elsewhere/d")
    move(source, target, "d")
    assert (target.root / "d").is_symlink() and target.shape("d") == source.shape("d")


def test_a_folder_is_changed_in_place_and_what_stays_is_not_touched(ends: tuple[End, End]) -> None:
    source, target = ends
    fill(source)
    (source.root / "d/stays").write_text("stays")
    move(source, target, "d")
    before = (target.root / "d/stays").stat()
    change(source)
    reply = move(source, target, "d")
    assert target.shape("d") == source.shape("d") and reply["kept"] == [] and target.incoming == []
    assert reply["received_bytes"] == len(b"two two\n" + b"new" + b"a file now")
    assert hashing.stat_key((target.root / "d/stays").stat()) == hashing.stat_key(before)


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_an_error_of_any_call_in_a_change_of_place_leaves_what_the_next_move_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """Whatever mixture of the two trees is left, it is known as ours: nothing of it is kept aside, and it becomes the new tree."""
    before, source = End(tmp_path / "before"), End(tmp_path / "source")
    fill(before), fill(source)
    change(source)
    for step in range(1, 500):
        target = End(tmp_path / str(step))
        move(before, target, "d")
        failed = failing(monkeypatch, step, code, lambda target=target: move(source, target, "d"), target.root)  # type: ignore[misc]
        assert move(source, target, "d")["kept"] == [] and target.shape("d") == source.shape("d"), f"call {step}"
        left = [path for path in (target.root / ".albor/incoming").glob("??/*") if hashing.digest_file(str(path)) != path.name]
        assert not (target.root / ".albor/kept").exists() and left == [], f"call {step}"
        if not failed:
            break
    assert step > 60


@pytest.mark.parametrize("when", ["before", "after"])
def test_what_a_user_writes_meanwhile_is_neither_lost_nor_used(ends: tuple[End, End], monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    source, target = ends
    fill(source)
    (source.root / "d/stays").write_text("stays")
    move(source, target, "d")
    (source.root / "d/a").write_text("two two\n")
    mine, put = target.root / ("d/a" if when == "before" else "d/stays"), Incoming.put

    def meanwhile(self: Incoming, digest: str, data: memoryview) -> os.stat_result | None:
        mine.write_text("mine, and longer")
        return put(self, digest, data)

    monkeypatch.setattr(Incoming, "put", meanwhile)
    with pytest.raises(AttemptError, match="d was changed by someone else while it was put in place"):
        move(source, target, "d")
    assert mine.read_text() == "mine, and longer"
    monkeypatch.undo()
    (kept,) = move(source, target, "d")["kept"]
    assert (target.root / kept / mine.name).read_text() == "mine, and longer" and target.shape("d") == source.shape("d")


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_an_error_of_any_call_loses_nothing_and_the_next_move_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    source = End(tmp_path / "source")
    fill(source)
    stopped = 0
    for step in range(1, 500):
        target = End(tmp_path / str(step))
        (target.root / "d").mkdir()
        (target.root / "d/mine").write_text("mine")
        if not failing(monkeypatch, step, code, lambda target=target: move(source, target, "d"), target.root):  # type: ignore[misc]
            break
        stopped += 1
        assert [path.read_text() for path in target.root.rglob("mine")] == ["mine"], f"call {step}"
        move(source, target, "d")
        assert target.shape("d") == source.shape("d") and not list(target.root.rglob("*.tmp")), f"call {step}"
    assert stopped > 60




def test_a_mixture_that_a_user_added_to_is_kept_aside_whole(ends: tuple[End, End], monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = ends
    fill(source)
    move(source, target, "d")
    change(source)

    def full(*_args: object) -> None:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(os, "rmdir", full)
    with pytest.raises(OSError, match="broken"):
        move(source, target, "d")
    monkeypatch.undo()
    (target.root / "d/mine").write_text("mine")
    assert move(source, target, "d")["kept"] == [".albor/kept/0007/use/d"] and target.shape("d") == source.shape("d")
    assert (target.root / ".albor/kept/0007/use/d/mine").read_text() == "mine"


@pytest.mark.parametrize("unexplained", [False, True])
def test_no_two_files_that_came_are_one(ends: tuple[End, End], unexplained: bool) -> None:
    """What is written into one name must not show in another: copies of what stays, twins of what goes, twins of what came."""
    source, target = ends
    fill(source)
    move(source, target, "d")
    if unexplained:
        (target.root / "d/mine").write_text("mine")
    for name in ("copy of what stays", "and one more"):
        (source.root / "d" / name).write_text("one\n")
    (source.root / "d/deep/er/b").rename(source.root / "d/b1")
    (source.root / "d/b2").write_bytes((source.root / "d/b1").read_bytes())
    (source.root / "d/b2").chmod(0o755)
    for name in ("new1", "new2"):
        (source.root / "d" / name).write_text("new")
    assert move(source, target, "d")["received_bytes"] == len("new")
    assert target.shape("d") == source.shape("d")
    real = [path for path in (target.root / "d").rglob("*") if path.is_file() and not path.is_symlink()]
    assert [path.name for path in real if path.stat().st_nlink > 1] == []


def test_what_came_need_not_be_read_again(ends: tuple[End, End]) -> None:
    """Its bytes were digested while they came, and nobody else had it then: a trainer's gigabytes are not read once more."""
    source, target = ends
    fill(source)
    move(source, target, "d")
    known = [line.split() for line in (target.root / ".albor/stat-cache").read_text().splitlines()[1:]]
    found = {(int(words[2]), words[6]) for words in known}
    for name in ("a", "deep/er/b", "twin"):
        path = target.root / "d" / name
        assert (path.stat().st_ino, hashing.digest_file(str(path))) in found
