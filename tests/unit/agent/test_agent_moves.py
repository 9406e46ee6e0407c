"""A tree goes from one workdir to another: exactly it, only what is lacking, and nothing that is spoiled."""

from __future__ import annotations

import fcntl
import os
import zlib
from pathlib import Path
from typing import Any

import pytest
from support_moves import BIG, End, fill, move

from albor_pipeline.agent import facts, hashing, listing, trees
from albor_pipeline.agent.attempts import AttemptError
from albor_pipeline.agent.giving import Giver
from albor_pipeline.agent.incoming import Incoming, Landing
from albor_pipeline.agent.layout import to_json
from albor_pipeline.agent.probe import Prober
from albor_pipeline.agent.results import Results
from albor_pipeline.agent.sweep import Sweep
from albor_pipeline.agent.taking import Taker


@pytest.fixture
def ends(tmp_path: Path) -> tuple[End, End]:
    return End(tmp_path / "source"), End(tmp_path / "target")


@pytest.mark.parametrize("path", ["d", "d/", "d/a", "d/deep/er/*", "d/*", "d/deep/er/b"])
def test_exactly_the_recorded_tree_arrives(ends: tuple[End, End], path: str) -> None:
    source, target = ends
    fill(source)
    reply = move(source, target, path)
    assert target.shape(path) == source.shape(path) and target.tree(path).root == source.tree(path).root == reply["root"]
    assert reply["done"] and reply["sig"] == trees.signature(target.layout.path(path)) and reply["kept"] == []
    assert target.incoming == [] and not list(target.root.rglob("*.tmp"))
    assert all(os.lstat(where).st_nlink == 1 for _, where, info in trees.walk(target.layout.path(path))[1] if trees.letter(info) == "f")  # type: ignore[index]


def test_bytes_that_several_files_share_come_once(ends: tuple[End, End]) -> None:
    source, target = ends
    fill(source)
    assert move(source, target, "d")["received_bytes"] == len(BIG) + len(b"one\n") + len(b"odd")


def test_what_is_there_already_is_neither_asked_for_nor_touched(ends: tuple[End, End]) -> None:
    source, target = ends
    fill(source)
    move(source, target, "d")
    before = trees.signature(target.layout.path("d"))
    target.asked.clear()
    reply = move(source, target, "d")
    assert (reply["received_bytes"], reply["sig"], target.asked) == (0, before, [])


def test_only_files_that_changed_come_and_what_is_no_longer_in_it_goes(ends: tuple[End, End]) -> None:
    source, target = ends
    fill(source)
    move(source, target, "d")
    (source.root / "d/a").write_text("two two\n")
    (source.root / "d/empty").rmdir()
    (source.root / "d/deep/er/b").rename(source.root / "d/moved")
    (source.root / "d/moved").chmod(0o644)
    reply = move(source, target, "d")
    assert reply["received_bytes"] == len(b"two two\n") and reply["kept"] == []
    assert target.shape("d") == source.shape("d")


def test_a_part_of_a_file_is_gone_on_with_at_its_byte(ends: tuple[End, End]) -> None:
    source, target = ends
    fill(source)
    sent = 0

    def cut(part: bytes) -> bytes:
        nonlocal sent
        sent += len(part)
        if sent > 500_000:
            raise ConnectionError("cut")
        return part

    with pytest.raises(ConnectionError):
        move(source, target, "d", spoil=cut)
    (part,) = [name for name in target.incoming if name.endswith(".part")]
    size = (target.root / ".albor/incoming" / part).stat().st_size
    assert 200_000 < size < len(BIG) and not (target.root / "d").exists()
    whole = sum(path.stat().st_size for path in (target.root / ".albor/incoming").rglob("*") if path.is_file())
    reply = move(source, target, "d")
    assert reply["received_bytes"] == len(BIG) + len(b"one\n") + len(b"odd") - whole
    assert target.shape("d") == source.shape("d") and target.incoming == []


def test_a_part_with_other_bytes_is_dropped_and_the_file_asked_for_once_more(ends: tuple[End, End]) -> None:
    source, target = ends
    fill(source)
    (target.root / ".albor/incoming").mkdir()
    Path(target.layout.incoming, hashing.digest_bytes(BIG) + ".part").write_bytes(b"x" * 1000)
    reply = move(source, target, "d/deep/er/b")
    assert reply["received_bytes"] == 2 * len(BIG) - 1000 and target.shape("d/deep/er/b") == source.shape("d/deep/er/b")


@pytest.mark.parametrize("which", ["a", "deep/er/b"])
def test_bytes_that_were_spoiled_on_the_way_are_sent_again_and_named_when_they_are_spoiled_again(ends: tuple[End, End], which: str) -> None:
    source, target = ends
    fill(source)
    body = (source.root / "d" / which).read_bytes()[-40:]
    left = 1

    def flip(part: bytes) -> bytes:
        nonlocal left
        if body in part and left:
            left -= 1
            return part.replace(body, b"!" + body[1:])
        return part

    move(source, target, "d", spoil=flip)
    assert target.shape("d") == source.shape("d") and len(target.asked) == 2 and target.asked[1]["files"] == 1
    left = 99
    (target.root / "d" / which).unlink()
    (target.root / "d/twin").unlink(), (target.root / "d/runs").unlink()
    with pytest.raises(AttemptError, match=rf"^d/{which} arrived twice with other bytes than were recorded") as caught:
        move(source, target, "d", spoil=flip)
    assert caught.value.code == "digest" and not (target.root / "d" / which).exists()
    assert [name for name in target.incoming if hashing.digest_bytes((source.root / "d" / which).read_bytes()) in name] == []


def test_a_source_that_is_not_as_recorded_gives_nothing(ends: tuple[End, End]) -> None:
    source, target = ends
    fill(source)
    root = source.tree("d").root
    (source.root / "d/a").write_text("ONE\n")
    with pytest.raises(AttemptError, match=f"d is not as it was recorded .blake3:{root[:8]}, found") as caught:
        move(source, target, "d", root)
    assert caught.value.code == "not-there" and not (target.root / "d").exists()
    with pytest.raises(AttemptError, match="nothing is not there, and the store does not have it"):
        move(source, target, "nothing", root)


def test_only_what_is_asked_for_has_to_be_as_it_was_recorded(ends: tuple[End, End]) -> None:
    """A listing on record is sent as it stands: what somebody changed at the source counts where its bytes are wanted, and only there."""
    source, target = ends
    fill(source)
    before = source.tree("d", record=True)
    move(source, target, "d", before.root)
    (target.root / "d/deep/er/b").unlink()
    (source.root / "d/a").write_text("by someone else")
    assert move(source, target, "d", before.root)["received_bytes"] == 700_000
    assert (target.root / "d/a").read_text() == "one\n"
    (target.root / "d/deep/er/b").unlink()
    (source.root / "d/deep/er/b").write_bytes(b"changed too")
    with pytest.raises(AttemptError, match=f"d is not as it was recorded .blake3:{before.root[:8]}, found") as caught:
        move(source, target, "d", before.root)
    assert caught.value.code == "not-there" and not (target.root / "d/deep/er/b").exists()


def test_nothing_may_lie_below_what_is_no_folder_also_when_it_was_known_before() -> None:
    inside = ("a/b", "f", 0, "0" * 64, 5)
    for above in (("a", "l", 0, hashing.digest_bytes(b"/etc"), 0), ("a", "f", 0, "1" * 64, 5)):
        tree = trees.Tree("dir", [above, inside])
        text = zlib.compress(to_json({"type": "dir", "entries": tree.entries, "links": {"a": "/etc"}}))
        for known in ({}, {inside: inside}):
            with pytest.raises(listing.ListingError, match="'a/b', which does not lie in it"):
                listing.unpack(text, tree.root, known)


def test_a_file_that_shrinks_while_it_is_sent_is_named(ends: tuple[End, End]) -> None:
    source, _ = ends
    fill(source)
    giver = Giver(source.layout, Prober(source.layout), "d", source.tree("d").root)
    number = [entry[0] for entry in listing.distinct(giver.tree)].index("deep/er/b")
    with pytest.raises(AttemptError, match="d/deep/er/b became shorter while it was sent"):
        giver.serve([b"[[%d,1,0]]\n" % number], lambda _part: os.truncate(source.root / "d/deep/er/b", 10))


def test_what_the_store_keeps_is_given_when_the_path_has_changed(ends: tuple[End, End]) -> None:
    source, target = ends
    fill(source)
    tree, shape = source.tree("d", record=True), source.shape("d")
    prober = Prober(source.layout)
    with prober.caching() as cache:
        Results(source.layout, cache).store.keep(str(source.root / "d"), tree)
    (source.root / "d/a").unlink()
    (source.root / "d/a").write_text("other\n")
    move(source, target, "d", tree.root)
    assert target.shape("d") == shape


def test_a_disk_without_room_is_said_before_anything_is_sent(ends: tuple[End, End], monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = ends
    fill(source)
    monkeypatch.setattr(facts, "disk_free_bytes", lambda _path: 1000)
    with pytest.raises(AttemptError, match=r"no room for d: 70000\d bytes are on their way, 1000 are free .*store gc") as caught:
        move(source, target, "d")
    assert caught.value.code == "no-room" and target.asked == []


NAMES = ["../out", "/etc/x", "a/../../x", "l/inside", ".", "a//b", ".albor/head"]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_leads_out_of_the_tree_is_refused_and_nothing_is_written(ends: tuple[End, End], name: str, tmp_path: Path) -> None:
    _, target = ends
    link, body = hashing.digest_bytes(os.fsencode(tmp_path)), hashing.digest_bytes(b"evil")
    tree = trees.Tree("dir", [("l", "l", 0, link, 0), (name, "f", 0, body, 4)])
    text = zlib.compress(to_json({"version": 1, "type": "dir", "entries": tree.entries, "links": {"l": str(tmp_path)}}))
    with pytest.raises(listing.ListingError, match="does not lie in it"):
        listing.unpack(text, tree.root)
    request = {"path": "d", "root": tree.root, "resource": "use", "run": "1"}
    with pytest.raises(AttemptError, match="does not lie in it"):
        Taker(target.layout, Prober(target.layout), request, iter([listing.LENGTH.pack(len(text)) + text]), lambda _reply: None).run()
    assert [path.name for path in target.root.iterdir()] == [".albor"]


WRONG = [([("a", "o", 0, None, 0)], "device"), ([("a", "f", 0, "0" * 64, 0)], "not empty"), ([], "recorded one")]


@pytest.mark.parametrize(("files", "why"), WRONG)
def test_a_listing_that_cannot_be_right_is_refused(files: list[Any], why: str) -> None:
    tree = trees.Tree("dir", files)
    text = zlib.compress(to_json({"type": "dir", "entries": files, "links": {}}))
    with pytest.raises(listing.ListingError, match=why):
        listing.unpack(text, tree.root if files else "0" * 64)
    with pytest.raises(listing.ListingError, match="no listing"):
        listing.unpack(text[:-9] + b"xxxxxxxxx", tree.root)


def test_what_is_wanted_must_be_in_the_tree() -> None:
    tree = trees.Tree("dir", [(name, "f", 0, name * 64, 5) for name in "abc"])
    files = listing.distinct(tree)
    assert listing.each_of(listing.runs([(0, 0), (1, 0), (2, 3)]), files) == [(files[0], 0), (files[1], 0), (files[2], 3)]
    for wrong in ([(2, 2, 0)], [(-1, 1, 0)], [(0, 1, 6)], [(0, 2, 1)], [(0, 0, 0)]):
        with pytest.raises(listing.ListingError):
            listing.each_of(wrong, files)


def test_two_transfers_of_one_file_do_not_disturb_each_other(ends: tuple[End, End]) -> None:
    _, target = ends
    incoming = Incoming(target.layout)
    digest = hashing.digest_bytes(BIG)
    with incoming.held():
        first = Landing(incoming, digest, 0)
        first.write(memoryview(BIG)[:300_000])
        second = Landing(incoming, digest, 200_000)
        second.write(memoryview(BIG)[200_000:])
        first.write(memoryview(BIG)[300_000:])
        assert first.finish() is not None and second.finish() is not None
        assert target.incoming == [digest] and Path(incoming.path(digest)).read_bytes() == BIG


def test_a_part_that_becomes_whole_while_another_opens_it_is_not_written_to(ends: tuple[End, End], monkeypatch: pytest.MonkeyPatch) -> None:
    _, target = ends
    incoming, digest = Incoming(target.layout), hashing.digest_bytes(BIG)
    with incoming.held():
        part = Path(incoming.part(digest))
        part.write_bytes(BIG)
        Path(incoming.path(digest)).parent.mkdir()
        flock = fcntl.flock

        def late(descriptor: int, how: int) -> None:
            if part.exists() and not Path(incoming.path(digest)).exists():
                part.rename(incoming.path(digest))
            flock(descriptor, how)

        monkeypatch.setattr(fcntl, "flock", late)
        Landing(incoming, digest, 10).leave()
    assert Path(incoming.path(digest)).read_bytes() == BIG


def test_the_sweep_names_and_takes_what_transfers_left_but_not_from_under_one(ends: tuple[End, End]) -> None:
    _, target = ends
    (target.root / ".albor/incoming/ab").mkdir(parents=True)
    (target.root / ".albor/incoming/ab/abc").write_bytes(b"12345")
    asked = {"keep_runs": 0, "in_force": [], "lineage": "L"}
    prober = Prober(target.layout)
    with prober.caching() as cache:
        sweep = Sweep(target.layout, Results(target.layout, cache))
    assert sweep.clean({**asked, "dry_run": True})["incoming"] == {"files": 1, "size_bytes": 5} and target.incoming == ["abc"]
    with Incoming(target.layout).held():
        assert sweep.clean(asked)["incoming"] == {"files": 0, "size_bytes": 0} and target.incoming == ["abc"]
    found = sweep.clean(asked)
    assert (found["incoming"], found["freed_bytes"], target.incoming) == ({"files": 1, "size_bytes": 5}, 5, [])
    with (target.root / ".albor/incoming/.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_tree_that_is_to_be_kept_becomes_objects_and_is_restored_from_them(ends: tuple[End, End]) -> None:
    source, target = ends
    fill(source)
    proof = source.tree("d").summary()
    reply = move(source, target, "d", keep=True)
    assert not (target.root / "d").exists() and reply["received_bytes"] > len(BIG) and target.incoming == []
    assert move(source, target, "d", keep=True)["received_bytes"] == 0
    about = {"run": "0001", "number": 1, "seconds": 1.0, "at_utc": "", "summary": {}, "lineage": "other"}
    brought = {"parts": {"command": {"": "x"}}, "result": {"id": "123456789abc", **about, "outputs": {"d": proof}}}
    asked = {"resource": "make", "fingerprint": "ab" * 32, "result": "123456789abc", "run": "0007", "lineage": "L", "brought": brought}
    prober = Prober(target.layout)
    with prober.caching() as cache:
        results = Results(target.layout, cache)
        assert results.restore(asked) == {"outputs": {"d": proof}, "kept": []}
        (found,) = results.listing("make", "ab" * 32)
    assert found["missing"] == "" and found["lineage"] == "L" and target.shape("d") == source.shape("d")
