"""The journal on disk: chained lines, sealed segments, torn tails that are cut, and changes that are named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from support_state import converged, done, edit, open_folder

from albor_pipeline.errors import StateError
from albor_pipeline.state.disk import RealDisk
from albor_pipeline.state.folder import StateFolder
from albor_pipeline.state.lines import seal
from albor_pipeline.state.lockfile import LockFile, decode, encode


def journal(root: Path) -> Path:
    return root / "state/journal/0001.jsonl"


def unsaved(root: Path, *names: str) -> StateFolder:
    """A folder whose rows stand in the journal only, as after kill -9; one batch a name."""
    folder = open_folder(root / "state")
    for name in names:
        folder.record([done(converged(name))])
    folder._hold.release()  # type: ignore[union-attr]
    folder._hold = None
    return folder


def names_in(root: Path) -> set[str]:
    with open_folder(root / "state", write=False) as folder:
        return {key.resource for key in folder.state.entries}


def test_each_line_is_json_that_names_the_digest_of_the_one_before(tmp_path: Path) -> None:
    unsaved(tmp_path, "a", "b")
    header, *lines = [json.loads(line) for line in journal(tmp_path).read_text().splitlines()]
    assert (header["segment"], header["count"], header["prev"], header["pipeline"]) == (1, 0, "", "ladder")
    assert [line["serial"] for line in lines] == [1, 2]
    assert [line["prev"] for line in lines] == ["", lines[0]["digest"]]
    assert lines[0]["what"] == "done"
    assert lines[0]["machine"] == "local"


@pytest.mark.parametrize("keep", [-1, -20, -200])
def test_a_torn_tail_is_cut_before_the_first_append(tmp_path: Path, keep: int) -> None:
    unsaved(tmp_path, "a", "b")
    edit(journal(tmp_path), lambda data: data[:keep])
    assert names_in(tmp_path) == {"a"}
    with open_folder(tmp_path / "state") as folder:
        assert "unfinished write" in folder.audit().notes[-1]
        folder.record([done(converged("c"))])
        assert folder.audit().ok
        assert [line["serial"] for line in folder.history()] == [1, 2]
    assert names_in(tmp_path) == {"a", "c"}


def test_a_batch_of_which_only_the_end_reached_the_disk_is_a_torn_tail(tmp_path: Path) -> None:
    folder = open_folder(tmp_path / "state")
    folder.record([done(converged("a"))])
    size = journal(tmp_path).stat().st_size
    folder.record([done(converged("b")), done(converged("c"))])
    folder._hold.release()  # type: ignore[union-attr]
    edit(journal(tmp_path), lambda data: data[:size] + bytes(40) + data[size + 40 :])
    assert names_in(tmp_path) == {"a"}


def test_a_changed_line_with_acknowledged_lines_after_it_is_refused(tmp_path: Path) -> None:
    unsaved(tmp_path, "a", "b", "c")
    edit(journal(tmp_path), lambda data: data.replace(b"make b", b"make B"))
    with pytest.raises(StateError, match=r"state/journal/0001\.jsonl: line 2 was changed") as caught:
        open_folder(tmp_path / "state")
    assert [word in " ".join(caught.value.diagnostics[0].notes) for word in ("audit", "state rebuild")] == [True, True]


def test_a_line_that_was_taken_out_is_missed(tmp_path: Path) -> None:
    unsaved(tmp_path, "a", "b", "c")
    edit(journal(tmp_path), lambda data: b"".join(line for line in data.splitlines(True) if b"make b" not in line))
    with pytest.raises(StateError, match="lines 2 to 2 are gone"):
        open_folder(tmp_path / "state")


def test_a_line_that_was_put_in_twice_is_seen(tmp_path: Path) -> None:
    unsaved(tmp_path, "a", "b", "c")
    edit(
        journal(tmp_path),
        lambda data: b"".join(line * 2 if b"make b" in line else line for line in data.splitlines(True)),
    )
    with pytest.raises(StateError, match="line 2 stands after line 2"):
        open_folder(tmp_path / "state")


def test_segments_are_sealed_and_read_as_one(tmp_path: Path) -> None:
    with open_folder(tmp_path / "state", seal_bytes=600) as folder:
        for name in "abcdef":
            folder.record([done(converged(name))])
        head = folder.head()
    segments = sorted(path.name for path in (tmp_path / "state/journal").iterdir())
    assert len(segments) >= 3
    assert segments[:2] == ["0001.jsonl", "0002.jsonl"]
    (tmp_path / "state/albor.lock.yaml").unlink()
    with open_folder(tmp_path / "state", write=False) as folder:
        assert {key.resource for key in folder.state.entries} == set("abcdef")
        assert folder.head() == head
        assert [line["serial"] for line in folder.history()] == [1, 2, 3, 4, 5, 6]
        assert folder.audit().ok


def test_a_segment_that_is_gone_is_named_and_costs_no_row(tmp_path: Path) -> None:
    with open_folder(tmp_path / "state", seal_bytes=600) as folder:
        for name in "abcdef":
            folder.record([done(converged(name))])
    (tmp_path / "state/journal/0002.jsonl").unlink()
    with open_folder(tmp_path / "state") as folder:
        assert {key.resource for key in folder.state.entries} == set("abcdef")
        report = folder.audit()
    assert report.integrity == ()
    assert "are gone before it" in report.completeness[0]
    assert "journal/0003.jsonl" in report.completeness[0]


@pytest.mark.parametrize(
    "cut",
    [lambda path: path.unlink(), lambda path: edit(path, lambda data: data[: len(data) // 2])],
    ids=["removed", "cut in half"],
)
def test_a_journal_that_ends_too_early_is_said_and_the_locks_still_hold(
    tmp_path: Path, cut: Callable[[Path], None]
) -> None:
    with open_folder(tmp_path / "state") as folder:
        for name in "abc":
            folder.record([done(converged(name))])
        head = folder.head()
    cut(journal(tmp_path))
    for _again in range(2):
        with open_folder(tmp_path / "state") as folder:
            assert folder.head()["count"] >= head["count"]
            assert folder.warnings[0].code == "journal-cut" if not _again else not folder.warnings
            assert not folder.audit({"local": head}).integrity
            assert folder.audit({"local": head}).completeness
            folder.record([done(converged("d"))])
    assert names_in(tmp_path) == set("abcd")


def test_a_damaged_lock_is_made_again_from_a_whole_journal(tmp_path: Path) -> None:
    with open_folder(tmp_path / "state") as folder:
        folder.record([done(converged("a")), done(converged("b"))])
    path = tmp_path / "state/local/state.lock.yaml"
    edit(path, lambda data: data.replace(b"make a", b"make A"))
    with open_folder(tmp_path / "state") as folder:
        assert folder.state.entries[converged("a").key] == converged("a")
        assert folder.warnings[0].code == "state-healed"
        assert "was changed" in folder.warnings[0].message
    assert b"make A" not in path.read_bytes()
    with open_folder(tmp_path / "state") as folder:
        assert folder.warnings == ()


@pytest.mark.parametrize("text", [b"", b"- {}\n", b"not yaml: [", b"\xff\x00", b"- 1\n- 2\n- 3\n"])
def test_a_lock_that_is_no_lock_without_a_journal_is_refused(tmp_path: Path, text: bytes) -> None:
    with open_folder(tmp_path / "state") as folder:
        folder.record([done(converged("a"))])
    journal(tmp_path).unlink()
    (tmp_path / "state/albor.lock.yaml").write_bytes(text)
    with pytest.raises(StateError, match=r"albor\.lock\.yaml (cannot be read|was changed)"):
        open_folder(tmp_path / "state")


def test_a_lock_with_rows_that_make_no_sense_is_refused_when_it_is_asked(tmp_path: Path) -> None:
    with open_folder(tmp_path / "state") as folder:
        folder.record([done(converged("a"))])
    path = tmp_path / "state/local/state.lock.yaml"
    lock = decode(path.read_bytes(), "lock")
    path.write_bytes(encode(LockFile(lock.header, (b'{"resource":"a","kind":"task","in_force":{"run":1}}',)), "edited"))
    with open_folder(tmp_path / "state", write=False) as folder, pytest.raises(StateError, match="row of a@local"):
        print(folder.state.entries[converged("a").key])


def test_the_audit_names_a_changed_byte_wherever_it_is(tmp_path: Path) -> None:
    with open_folder(tmp_path / "state") as folder:
        for name in "abc":
            folder.record([done(converged(name))])
        assert folder.audit({"local": folder.head()}).ok
    for path in (journal(tmp_path), tmp_path / "state/local/state.lock.yaml", tmp_path / "state/albor.lock.yaml"):
        whole = path.read_bytes()
        for at in range(0, len(whole) - 1, 37):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
            try:
                with open_folder(tmp_path / "state", write=False) as folder:
                    report = folder.audit()
                assert not report.ok or "unfinished write" in " ".join(report.notes), (path, at)
            except StateError as error:
                assert "state/" in error.diagnostics[0].message
        path.write_bytes(whole)


def test_the_audit_tells_a_forked_history_from_a_short_one(tmp_path: Path) -> None:
    with open_folder(tmp_path / "state") as folder:
        folder.record([done(converged("a"))])
        count, digest = folder.head()["count"], folder.head()["digest"]
        short = folder.audit({"far": {"count": count + 1, "digest": digest}})
        forked = folder.audit({"far": {"count": count, "digest": "00" * 8}})
    assert short.completeness == ("far knows line 2, the journal ends at line 1",)
    assert short.integrity == ()
    assert forked.integrity == ("far and the journal differ at line 1",)
    assert forked.completeness == ()


def test_a_line_that_was_written_anew_does_not_fit_its_neighbours(tmp_path: Path) -> None:
    unsaved(tmp_path, "a", "b", "c")
    lines = journal(tmp_path).read_bytes().splitlines(True)
    forged = json.loads(lines[2])
    del forged["digest"]
    lines[2] = seal({**forged, "note": "never said"})[0]
    journal(tmp_path).write_bytes(b"".join(lines))
    with pytest.raises(StateError, match="line 3 does not continue the line before it"):
        open_folder(tmp_path / "state")


def test_a_torn_tail_is_cut_durably_before_anything_is_written_behind_it(tmp_path: Path) -> None:
    class TracingDisk(RealDisk):
        def __init__(self) -> None:
            self.calls: list[str] = []

        def truncate(self, handle: int, size_bytes: int) -> None:
            self.calls.append("truncate")
            super().truncate(handle, size_bytes)

        def write(self, handle: int, data: bytes) -> None:
            self.calls.append("write")
            super().write(handle, data)

        def fsync(self, handle: int) -> None:
            self.calls.append("fsync")
            super().fsync(handle)

    unsaved(tmp_path, "a", "b")
    edit(journal(tmp_path), lambda data: data[:-9])
    disk = TracingDisk()
    with open_folder(tmp_path / "state", disk=disk) as folder:
        disk.calls.clear()
        folder.record([done(converged("c"))])
        assert disk.calls == ["truncate", "fsync", "write", "fsync"]


def test_a_lock_that_is_newer_than_what_is_left_of_the_journal_is_not_taken_back(tmp_path: Path) -> None:
    main = tmp_path / "state/albor.lock.yaml"
    with open_folder(tmp_path / "state") as folder:
        folder.record([done(converged("a"))])
        folder.snapshot()
        old = main.read_bytes()
        folder.record([done(converged("a", seed=2))])
        size = journal(tmp_path).stat().st_size
        folder.record([done(converged("a", seed=3))])
    main.write_bytes(old)
    edit(journal(tmp_path), lambda data: data[:size])
    with open_folder(tmp_path / "state") as folder:
        assert folder.state.entries[converged("a").key] == converged("a", seed=3)
        assert (folder.head()["count"], folder.warnings[0].code) == (3, "journal-cut")
        folder.record([done(converged("b"))])
    assert names_in(tmp_path) == {"a", "b"}


def test_half_a_journal_alone_is_not_taken_for_the_state(tmp_path: Path) -> None:
    with open_folder(tmp_path / "state", seal_bytes=600) as folder:
        for name in "abcdef":
            folder.record([done(converged(name))])
    journal(tmp_path).unlink()
    (tmp_path / "state/albor.lock.yaml").unlink()
    with pytest.raises(StateError, match="begins only after line"):
        open_folder(tmp_path / "state")
