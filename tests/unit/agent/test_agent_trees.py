"""Digests, trees, stat cache and recorded listings: the same bytes give the same root, any change is seen and named."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import threading
import time
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from albor_pipeline.agent import crew, hashing, trees
from albor_pipeline.agent.layout import Layout

NOW_NS = time.time_ns


def plain(path: str, info: os.stat_result) -> str:
    return hashing.digest_file(path)


def root(path: Path) -> str:
    tree = trees.read_tree(str(path), plain)
    assert tree is not None
    return tree.root


def make(base: Path) -> Path:
    folder = base / "tree"
    (folder / "sub").mkdir(parents=True)
    (folder / "a").write_text("one")
    (folder / "sub" / "b").write_text("two")
    (folder / "link").symlink_to("a")
    return folder


@pytest.mark.parametrize("size", [0, 1, 1 << 20, (1 << 20) + 1, 9_000_001])
def test_a_file_digest_is_blake3_of_its_bytes(tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    (tmp_path / "f").write_bytes(data)
    assert hashing.digest_file(str(tmp_path / "f")) == blake3(data).hexdigest() == hashing.digest_bytes(data)


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_any_number_of_threads_gives_the_same_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int) -> None:
    monkeypatch.setattr(hashing, "default_threads", lambda: threads)
    sizes = {"a": 9_000_001, "b": (1 << 20) + 1, "c": 5 << 20, "d": 7}
    want = {}
    for name, size in sizes.items():
        data = os.urandom(size)
        (tmp_path / name).write_bytes(data)
        want[name] = blake3(data).hexdigest()
        assert hashing.digest_file(str(tmp_path / name)) == want[name]
    tree = trees.read_tree(str(tmp_path), plain)
    assert tree is not None and {entry[0]: entry[3] for entry in tree.entries} == want


@pytest.mark.parametrize("files", [1, 3])
def test_an_error_while_several_threads_read_is_raised_and_no_thread_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: int
) -> None:
    monkeypatch.setattr(hashing, "default_threads", lambda: 2)
    for n in range(files):
        (tmp_path / str(n)).write_bytes(bytes(9 << 20))
    readv, calls = os.readv, []

    def failing(descriptor: int, buffers: list[memoryview]) -> int:
        calls.append(descriptor)
        if len(calls) == 4:
            raise OSError(errno.EIO, "Input/output error")
        return readv(descriptor, buffers)

    before = threading.active_count()
    with monkeypatch.context() as patch, pytest.raises(OSError, match="Input/output error"):
        patch.setattr(os, "readv", failing)
        trees.read_tree(str(tmp_path), plain)
    assert threading.active_count() == before


def test_a_file_that_is_cut_short_while_it_is_read_is_no_crash_and_shows_in_its_stat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashing, "default_threads", lambda: 2)
    path = tmp_path / "f"
    path.write_bytes(bytes(64 << 20))
    readv = os.readv

    def cutting(descriptor: int, buffers: list[memoryview]) -> int:
        count = readv(descriptor, buffers)
        os.truncate(path, 1 << 20)
        return count

    monkeypatch.setattr(os, "readv", cutting)
    _digest, before, after = hashing.read_digest(str(path))
    assert hashing.stat_key(before) != hashing.stat_key(after)


def test_a_file_that_grew_since_its_stat_is_read_to_its_end(tmp_path: Path) -> None:
    for size in (0, 5, 1 << 20):
        (tmp_path / "f").write_bytes(b"x" * 3_000_000)
        descriptor = os.open(tmp_path / "f", os.O_RDONLY)
        assert hashing.digest_fd(descriptor, size) == blake3(b"x" * 3_000_000).hexdigest()
        os.close(descriptor)


@pytest.mark.parametrize("threads", [1, 2])
def test_every_read_begins_at_a_page_since_others_are_four_times_slower(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    monkeypatch.setattr(hashing, "default_threads", lambda: threads)
    readv, addresses = os.readv, []

    def noting(descriptor: int, buffers: list[memoryview]) -> int:
        addresses.append(ctypes.addressof(ctypes.c_char.from_buffer(buffers[0])))
        return readv(descriptor, buffers)

    monkeypatch.setattr(os, "readv", noting)
    for size in (7, 84 << 10, 1 << 20, 3 << 20):
        data = os.urandom(size)
        (tmp_path / "f").write_bytes(data)
        assert hashing.digest_file(str(tmp_path / "f")) == blake3(data).hexdigest()
    assert len(addresses) > 4 and not any(address % mmap.PAGESIZE for address in addresses)


def test_what_a_forked_process_reads_does_not_come_into_our_memory(tmp_path: Path) -> None:
    for name in ("ours", "theirs"):
        (tmp_path / name).write_text(name)
    descriptor = os.open(tmp_path / "ours", os.O_RDONLY)
    pieces = hashing.chunks(descriptor, 4, 1)
    piece = next(pieces)
    pid = os.fork()
    if pid == 0:
        next(hashing.chunks(os.open(tmp_path / "theirs", os.O_RDONLY), 6, 1))
        os._exit(0)
    os.waitpid(pid, 0)
    os.close(descriptor)
    assert bytes(piece) == b"ours"


def test_a_crew_does_every_item_even_where_no_thread_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    done: list[tuple[int, int]] = []
    crew.each(lambda item: done.append((item, crew.members())), range(100), 3)
    assert sorted(done) == [(item, 3) for item in range(100)] and crew.members() == 1
    monkeypatch.setattr(threading.Thread, "start", refused)
    crew.each(lambda item: done.append((item, 0)), range(100, 200), 3)
    assert len(done) == 200


def test_without_module_and_program_there_is_an_error_and_no_slow_fallback(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "blake3", None)
    monkeypatch.setattr(hashing, "_make", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(hashing.DigestUnavailable, match="b3sum"):
        hashing.digest_bytes(b"x")
    program = tmp_path / "b3sum"
    program.write_text("#!/bin/sh\n/bin/cat > /dev/null\nprintf '%064d\\n' 7\n")
    program.chmod(0o755)
    assert hashing.digest_bytes(b"x") == "7".zfill(64)
    program.write_text("#!/bin/sh\nexit 3\n")
    with pytest.raises(hashing.DigestUnavailable, match="exit 3"):
        hashing.digest_bytes(b"x")


def test_a_root_depends_on_names_bytes_types_and_the_executable_bit_only(tmp_path: Path) -> None:
    folder = make(tmp_path)
    first = root(folder)
    os.utime(folder / "a", (1, 1))
    (folder / "a").chmod(0o600)
    assert root(folder) == first
    seen = {first}
    changes = [
        lambda: (folder / "a").chmod(0o700),
        lambda: (folder / "a").write_text("One"),
        lambda: (folder / "a").rename(folder / "c"),
        lambda: (folder / "empty").mkdir(),
        lambda: ((folder / "link").unlink(), (folder / "link").symlink_to("c")),
        lambda: ((folder / "link").unlink(), (folder / "link").write_text("c")),
    ]
    for change in changes:
        change()
        seen.add(root(folder))
    assert len(seen) == len(changes) + 1


def test_a_single_file_root_covers_bytes_and_bit_but_not_the_name(tmp_path: Path) -> None:
    for name in ("x", "y"):
        (tmp_path / name).write_text("same")
    assert root(tmp_path / "x") == root(tmp_path / "y")
    (tmp_path / "y").chmod(0o755)
    assert root(tmp_path / "x") != root(tmp_path / "y")
    (tmp_path / "link").symlink_to("x")
    assert root(tmp_path / "link") == root(tmp_path / "x")


def test_a_glob_sees_what_matches_and_nothing_is_nothing(tmp_path: Path) -> None:
    folder = make(tmp_path)
    tree = trees.read_tree(str(folder / "*"), plain)
    assert (
        tree is not None
        and tree.type == "glob"
        and [entry[0] for entry in tree.entries] == ["a", "link", "sub", "sub/b"]
    )
    assert trees.read_tree(str(folder / "*.parquet"), plain) is None
    assert trees.read_tree(str(folder / "none"), plain) is None
    (tmp_path / "od[d]").write_text("x")
    assert trees.read_tree(str(tmp_path / "od[d]"), plain).type == "file"


def test_a_link_to_nowhere_a_fifo_and_names_that_are_no_text_are_no_trouble(tmp_path: Path) -> None:
    folder = make(tmp_path)
    os.mkfifo(folder / "pipe")
    (folder / "broken").symlink_to("nowhere")
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff\xfe")).write_text("x")
    layout = Layout(str(tmp_path))
    tree = trees.read_tree(str(folder), plain)
    trees.record(layout, tree)
    assert trees.recall(layout, tree.root).entries == [tuple(entry) for entry in tree.entries]


def test_verify_names_what_was_modified_deleted_and_added(tmp_path: Path) -> None:
    folder, layout = make(tmp_path), Layout(str(tmp_path))
    recorded = trees.read_tree(str(folder), plain)
    trees.record(layout, recorded)
    assert trees.compare(layout, trees.walk(str(folder)), recorded.root, plain)["same"]
    (folder / "a").write_text("eno")
    (folder / "sub" / "b").unlink()
    (folder / "new").write_text("n")
    found = trees.compare(layout, trees.walk(str(folder)), recorded.root, plain)
    short = {
        name: hashing.digest_bytes(text)[:8]
        for name, text in (("one", b"one"), ("eno", b"eno"), ("two", b"two"), ("n", b"n"))
    }
    assert found["same"] is False and found["known"] is True
    assert found["changes"] == [
        {"path": "a", "what": "modified", "recorded": short["one"], "found": short["eno"]},
        {"path": "new", "what": "added", "recorded": None, "found": short["n"]},
        {"path": "sub/b", "what": "deleted", "recorded": short["two"], "found": None},
    ]


def test_a_torn_listing_is_not_believed(tmp_path: Path) -> None:
    folder, layout = make(tmp_path), Layout(str(tmp_path))
    recorded = trees.read_tree(str(folder), plain)
    trees.record(layout, recorded)
    listing = Path(layout.trees) / recorded.root
    listing.write_bytes(listing.read_bytes().replace(b'"a"', b'"z"'))
    (folder / "a").unlink()
    found = trees.compare(layout, trees.walk(str(folder)), recorded.root, plain)
    assert not found["same"] and not found["known"] and found["changes"][0]["recorded"] == recorded.root[:8]
    assert not listing.exists()


def cache(path: Path, boot: str = "b", now_ns: int = 0) -> hashing.StatCache:
    return hashing.StatCache(str(path / "stat-cache"), boot, lambda: now_ns or NOW_NS())


def test_the_stat_cache_spares_reading_but_never_hides_a_change(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_text("one")
    info, later = os.lstat(file), NOW_NS() + 10**10
    first = cache(tmp_path, now_ns=later)
    first.digest(str(file), info)
    first.save()
    file.write_text("two")
    assert cache(tmp_path, now_ns=later).digest(str(file), info) == hashing.digest_bytes(b"one"), (
        "the stamps given are trusted"
    )
    assert cache(tmp_path, now_ns=later).digest(str(file), info, deep=True) == hashing.digest_bytes(b"two")
    assert cache(tmp_path, now_ns=later).digest(str(file), os.lstat(file)) == hashing.digest_bytes(b"two")


def test_the_stat_cache_distrusts_fresh_stamps_other_boots_and_network_mounts(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_text("one")
    info, later = os.lstat(file), NOW_NS() + 10**10
    fresh = cache(tmp_path)
    fresh.digest(str(file), info)
    fresh.save()
    assert not (tmp_path / "stat-cache").exists()
    network = cache(tmp_path, now_ns=later)
    network.distrust(lambda: frozenset({info.st_dev}))
    network.digest(str(file), info)
    network.save()
    assert not (tmp_path / "stat-cache").exists()
    old = cache(tmp_path, boot="old", now_ns=later)
    old.digest(str(file), info)
    old.save()
    file.write_text("two")
    assert cache(tmp_path, now_ns=later).digest(str(file), info) == hashing.digest_bytes(b"two")


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_in_the_stat_cache_are_harmless(tmp_path_factory: pytest.TempPathFactory, noise: bytes) -> None:
    folder = tmp_path_factory.mktemp("c")
    file = folder / "f"
    file.write_text("one")
    later = NOW_NS() + 10**10
    good = cache(folder, now_ns=later)
    good.digest(str(file), os.lstat(file))
    good.save()
    with (folder / "stat-cache").open("ab") as handle:
        handle.write(noise)
    again = cache(folder, now_ns=later)
    assert again.digest(str(file), os.lstat(file)) == hashing.digest_bytes(b"one")


def test_the_stat_cache_does_not_grow_without_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashing, "MIN_COMPACT_BYTES", 1000)
    file, later = tmp_path / "f", NOW_NS() + 10**10
    writer = cache(tmp_path, now_ns=later)
    for i in range(100):
        file.write_text(str(i))
        writer.digest(str(file), os.lstat(file))
        writer.save()
    assert (tmp_path / "stat-cache").stat().st_size < 2000
    file.write_text("other bytes")
    info = os.lstat(file)
    writer.digest(str(file), info)
    writer.save()
    file.unlink()
    assert cache(tmp_path, now_ns=later).digest(str(file), info) == hashing.digest_bytes(b"other bytes")


def test_one_cache_learns_what_another_process_wrote(tmp_path: Path) -> None:
    file, later = tmp_path / "f", NOW_NS() + 10**10
    file.write_text("one")
    info = os.lstat(file)
    reader, writer = cache(tmp_path, now_ns=later), cache(tmp_path, now_ns=later)
    reader.load()
    writer.digest(str(file), info)
    writer.save()
    file.unlink()
    reader.load()
    assert reader.digest(str(file), info) == hashing.digest_bytes(b"one")
