"""The state folder as the executor sees it: runs, rows, one writer, and what is refused."""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from support_state import AT, CountingDisk, converged, done, edit, lock_rows, open_folder, running

from albor_pipeline.errors import LockedError, StateError
from albor_pipeline.model.resource import Key
from albor_pipeline.model.state import Status
from albor_pipeline.state.disk import RealDisk
from albor_pipeline.state.folder import StateFolder, Transition, utc_now
from albor_pipeline.state.lockfile import LockFile, decode, encode


def test_what_was_recorded_is_there_after_the_folder_was_closed(tmp_path: Path) -> None:
    with open_folder(tmp_path / "state") as folder:
        assert folder.is_new
        run, place = folder.new_run(manifest="blake3:12345678")
        assert (run, place) == ("0001", tmp_path / "state/runs/0001")
        assert place.is_dir()
        folder.bind_machine("local", "4c1d")
        folder.record([done(converged("pack")), Transition("starting", running("split").key, running("split"), "new")])
        folder.end_run(run, {"done": 1}, {"model": "out/model"})
        before = folder.state
    with open_folder(tmp_path / "state", write=False) as folder:
        after = folder.state
        assert not folder.is_new
    assert dict(after.entries) == {row.key: row for row in (converged("pack"), running("split"))}
    assert replace(after, entries={}) == replace(before, entries={})
    assert (after.machine_ids, after.last_run, after.outputs) == ({"local": "4c1d"}, "0001", {"model": "out/model"})


def test_lines_after_the_last_snapshot_are_replayed(tmp_path: Path) -> None:
    writer = open_folder(tmp_path / "state")
    writer.record([done(converged("pack"))])
    writer.snapshot()
    writer.record([Transition("starting", running("split").key, running("split")), done(converged("pack", seed=2))])
    with open_folder(tmp_path / "state", write=False) as reader:
        assert dict(reader.state.entries) == dict(writer.state.entries)
        assert reader.head() == writer.head()
    writer.close()


def test_a_failed_attempt_stands_beside_the_result_in_force(tmp_path: Path) -> None:
    with open_folder(tmp_path / "state") as folder:
        folder.record([done(converged("pack"))])
        failed = replace(running("pack"), in_force=converged("pack").in_force)
        assert failed.current is not None
        failed = replace(
            failed, current=replace(failed.current, status=Status.FAILED, exit_class="oom", detail="killed")
        )
        folder.record([Transition("failed", failed.key, failed, "out of memory")])
        line = list(folder.history())[-1]
    assert set(line["set"]) == {"current"}, "only what changed is written"
    with open_folder(tmp_path / "state", write=False) as folder:
        assert folder.state.entries[failed.key] == failed
        assert folder.state.entries[failed.key].status is Status.FAILED


def test_a_forgotten_row_stays_away_and_a_note_changes_no_row(tmp_path: Path) -> None:
    with open_folder(tmp_path / "state") as folder:
        folder.record([done(converged("pack")), done(converged("split"))])
        folder.record([Transition("forgotten", Key("split", "local"))])
        folder.record([Transition("attached", Key("pack", "local"), note="again")])
    with open_folder(tmp_path / "state") as folder:
        assert set(folder.state.entries) == {Key("pack", "local")}
        folder.record([Transition("destroyed", Key("pack", "local"))])
    with open_folder(tmp_path / "state", write=False) as folder:
        assert not folder.state.entries


def test_two_moves_of_one_row_in_one_batch_are_both_kept(tmp_path: Path) -> None:
    begun, ended = running("pack"), converged("pack")
    with open_folder(tmp_path / "state") as folder:
        folder.record([Transition("starting", begun.key, begun), done(ended)])
        folder.record([Transition("forgotten", ended.key), Transition("starting", begun.key, begun)])
    (tmp_path / "state/albor.lock.yaml").unlink()
    with open_folder(tmp_path / "state", write=False) as folder:
        assert dict(folder.state.entries) == {begun.key: begun}


def test_run_numbers_are_never_used_twice(tmp_path: Path) -> None:
    with open_folder(tmp_path / "state") as folder:
        assert [folder.new_run()[0], folder.new_run()[0]] == ["0001", "0002"]
    (tmp_path / "state/runs/0002").rmdir()
    (tmp_path / "state/runs/0007").mkdir()
    with open_folder(tmp_path / "state") as folder:
        assert folder.new_run()[0] == "0008"
    (tmp_path / "state/runs/0008").rmdir()
    (tmp_path / "state/runs/0007").rmdir()
    with open_folder(tmp_path / "state") as folder:
        assert folder.new_run()[0] == "0009"


def test_a_second_writer_is_told_who_holds_the_state(tmp_path: Path) -> None:
    with open_folder(tmp_path / "state") as folder:
        folder.new_run()
        with pytest.raises(LockedError) as caught:
            open_folder(tmp_path / "state")
        host = re.escape(os.uname().nodename)
        assert re.fullmatch(
            rf"state/ is in use by run 0001 \(pid {os.getpid()} on {host}, since \d\d:\d\d:\d\d\)",
            caught.value.diagnostics[0].message,
        )
        assert "status" in caught.value.diagnostics[0].notes[0]
        assert caught.value.exit_code == 5
        open_folder(tmp_path / "state", write=False).close()
    open_folder(tmp_path / "state").close()


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"run": 1}', b"\xff"])
def test_a_holder_text_that_says_nothing_does_not_hide_the_lock(tmp_path: Path, text: bytes) -> None:
    with open_folder(tmp_path / "state"):
        (tmp_path / "state/.lock").write_bytes(text)
        with pytest.raises(LockedError, match="state/ is in use by another process"):
            open_folder(tmp_path / "state")


def test_a_child_process_does_not_keep_the_lock(tmp_path: Path) -> None:
    with open_folder(tmp_path / "state"):
        program = [sys.executable, "-c", "print('up', flush=True); input()"]
        child = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, close_fds=False)
        assert child.stdout is not None
        child.stdout.readline()
    try:
        open_folder(tmp_path / "state").close()
    finally:
        child.communicate(b"\n")


def test_nothing_is_written_into_a_folder_that_replaced_ours(tmp_path: Path) -> None:
    folder = open_folder(tmp_path / "state")
    folder.record([done(converged("pack"))])
    (tmp_path / "state").rename(tmp_path / "away")
    with pytest.raises(StateError, match="was removed or replaced"):
        folder.record([done(converged("split"))])
    open_folder(tmp_path / "state").close()
    names = sorted(path.name for path in (tmp_path / "state").iterdir())
    folder.close()
    assert sorted(path.name for path in (tmp_path / "state").iterdir()) == names
    assert Key("split", "local") not in folder.state.entries


def test_reading_a_folder_that_is_not_there_makes_nothing(tmp_path: Path) -> None:
    with open_folder(tmp_path / "state", write=False) as folder:
        assert folder.is_new
        assert not folder.state.entries
        assert folder.head() == {"count": 0, "digest": ""}
        with pytest.raises(ValueError, match="not open for writing"):
            folder.record([done(converged("pack"))])
    assert not (tmp_path / "state").exists()


def test_a_folder_of_another_pipeline_is_refused_with_a_way_out(tmp_path: Path) -> None:
    with open_folder(tmp_path / "state") as folder:
        folder.record([done(converged("pack"))])
    with pytest.raises(StateError, match="holds the state of pipeline `ladder`, not of `other`") as caught:
        StateFolder.open(tmp_path / "state", "other", write=True)
    assert "--state-dir" in caught.value.diagnostics[0].notes[0]
    with pytest.raises(StateError, match="not of `other`"):
        StateFolder.rebuild(tmp_path / "state", "other", "feed", [])
    open_folder(tmp_path / "state").close()


def test_a_folder_on_a_network_file_system_is_refused(tmp_path: Path) -> None:
    class NetworkDisk(RealDisk):
        def filesystem(self, path: Path) -> str:
            return "nfs4"

    with pytest.raises(StateError, match=r"state/ lies on a network file system \(nfs4\)"):
        open_folder(tmp_path / "state", disk=NetworkDisk())
    assert not (tmp_path / "state").exists()


def test_a_disk_that_refuses_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match=r"state/ cannot be opened: Not a directory") as caught:
        open_folder(tmp_path / "file/state")
    assert caught.value.diagnostics[0].notes


def test_a_machine_that_has_seen_more_than_the_folder_refuses_it(tmp_path: Path) -> None:
    with open_folder(tmp_path / "state") as folder:
        folder.record([done(converged("pack"))])
        early = folder.head()
        folder.record([done(converged("split"))])
        late = folder.head()
        for head in (None, {}, {"count": 0, "digest": ""}, early, late):
            folder.check_head("local", head)
        with pytest.raises(StateError, match="state/ is behind: it has 2 journal lines, local has seen 3") as caught:
            folder.check_head("local", {"count": 3, "digest": "00" * 8})
        assert any("state rebuild" in note for note in caught.value.diagnostics[0].notes)
    with open_folder(tmp_path / "state") as folder:
        folder.check_head("local", early)
        with pytest.raises(StateError, match="differ at journal line 1"):
            folder.check_head("local", {**early, "digest": "00" * 8})


def test_a_lost_folder_goes_on_with_the_lineage_that_machines_remember(tmp_path: Path) -> None:
    head = {"count": 41, "digest": "ab" * 8}
    with open_folder(tmp_path / "state") as folder:
        folder.adopt_lineage("feed", head)
        folder.check_head("local", head)
        run, _place = folder.new_run()
        folder.record([Transition("adopted", Key("pack", "local"), converged("pack"))])
        with pytest.raises(StateError, match="history of its own"):
            folder.adopt_lineage("cafe", None)
    with open_folder(tmp_path / "state") as folder:
        assert (folder.state.lineage, folder.state.serial, run) == ("feed", 43, "0001")
        folder.check_head("local", head)
        assert folder.audit({"local": head}).ok


def test_rebuild_replaces_the_rows_and_keeps_the_history(tmp_path: Path) -> None:
    with open_folder(tmp_path / "state") as folder:
        folder.new_run()
        folder.bind_machine("gone", "9f00")
        folder.record([done(converged("old")), done(converged("pack", seed=9))])
        lineage = folder.state.lineage
    edit(tmp_path / "state/local/state.lock.yaml", lambda data: data.replace(b"old", b"odd"))
    edit(tmp_path / "state/journal/0001.jsonl", lambda data: data.replace(b'"old"', b'"odd"'))
    with pytest.raises(StateError, match="state rebuild") as caught:
        try:
            open_folder(tmp_path / "state")
        except StateError as error:
            raise StateError(
                error.diagnostics[0].__class__("error", "", "; ".join(error.diagnostics[0].notes))
            ) from error
    assert "audit" in str(caught.value)
    head = {"count": 50, "digest": "ab" * 8}
    rows = [converged("pack"), converged("split", "gpu-box")]
    with StateFolder.rebuild(
        tmp_path / "state", "ladder", lineage, rows, heads={"local": head}, machine_ids={"local": "4c1d"}, clock=utc_now
    ) as folder:
        assert dict(folder.state.entries) == {row.key: row for row in rows}
    (tmp_path / "state/albor.lock.yaml").unlink()
    with open_folder(tmp_path / "state") as folder:
        assert dict(folder.state.entries) == {row.key: row for row in rows}
        assert folder.state.machine_ids == {"local": "4c1d"}
        assert folder.state.lineage == lineage
        folder.check_head("local", head)
        assert folder.new_run()[0] == "0002"
        assert "run-started" in [line["what"] for line in folder.history()]
        assert "rebuilt after line 50" in " ".join(folder.audit().notes)


def test_a_rebuilt_folder_whose_runs_are_lost_uses_no_number_that_a_result_names(tmp_path: Path) -> None:
    row = converged("pack")
    assert row.in_force is not None
    row = replace(row, in_force=replace(row.in_force, run="0007"))
    with StateFolder.rebuild(tmp_path / "state", "ladder", "feed", [row]) as folder:
        assert folder.new_run()[0] == "0008"


def test_machine_names_become_safe_folder_names(tmp_path: Path) -> None:
    names = [
        "local",
        "journal",
        "runs",
        "../up",
        ".",
        "..",
        ".hidden",
        "a/b",
        "a b",
        "gpu-1.lan",
        "é",
        "albor.lock.yaml",
    ]
    with open_folder(tmp_path / "state") as folder:
        folder.record([done(converged("pack", name)) for name in names])
    with open_folder(tmp_path / "state") as folder:
        assert {key.machine for key in folder.state.entries} == set(names)
        assert folder.audit().ok
    made = {path.name for path in (tmp_path / "state").iterdir() if path.is_dir()} - {"journal", "runs"}
    assert len(made) == len(names)
    assert {"local", "gpu-1.lan"} <= made
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


def test_only_machines_that_changed_are_written_again(tmp_path: Path) -> None:
    with open_folder(tmp_path / "state") as folder:
        folder.record([done(converged("pack", "a")), done(converged("pack", "b"))])
    before = {name: (tmp_path / f"state/{name}/state.lock.yaml").stat().st_ino for name in "ab"}
    with open_folder(tmp_path / "state") as folder:
        folder.record([done(converged("pack", "b", seed=2))])
        folder.snapshot()
        between = {name: (tmp_path / f"state/{name}/state.lock.yaml").stat().st_ino for name in "ab"}
        folder.record([done(converged("pack", "a", seed=2))])
    after = {name: (tmp_path / f"state/{name}/state.lock.yaml").stat().st_ino for name in "ab"}
    assert (between["a"] == before["a"], between["b"] == before["b"]) == (True, False)
    assert (after["a"] == between["a"], after["b"] == between["b"]) == (False, True)


def test_opening_and_closing_without_a_record_changes_no_byte(tmp_path: Path) -> None:
    with open_folder(tmp_path / "state") as folder:
        folder.record([done(converged("pack"))])
    watched = [path for path in (tmp_path / "state").rglob("*") if path.is_file() and path.name != ".lock"]
    before = {path: (path.stat().st_ino, path.read_bytes()) for path in watched}
    open_folder(tmp_path / "state").close()
    assert {path: (path.stat().st_ino, path.read_bytes()) for path in watched} == before


def test_what_an_interrupted_write_left_is_swept_away(tmp_path: Path) -> None:
    with open_folder(tmp_path / "state") as folder:
        folder.record([done(converged("pack"))])
    left = [tmp_path / "state/.tmp-00-albor.lock.yaml", tmp_path / "state/local/.tmp-11-state.lock.yaml"]
    for path in left:
        path.write_text("half")
    open_folder(tmp_path / "state").close()
    assert not any(path.exists() for path in left)


def test_keys_of_a_newer_version_survive_an_older_program(tmp_path: Path) -> None:
    with open_folder(tmp_path / "state") as folder:
        folder.record([done(converged("pack")), done(converged("split"))])
    for name in ("albor.lock.yaml", "local/state.lock.yaml"):
        path = tmp_path / "state" / name
        lock = decode(path.read_bytes(), name)
        rows = tuple(row[:-1] + b',"owner":{"team":["a",1]}}' for row in lock.rows)
        path.write_bytes(encode(LockFile({**lock.header, "colour": "red"}, rows), "edited"))
    with open_folder(tmp_path / "state") as folder:
        pack = folder.state.entries[Key("pack", "local")]
        assert pack.extra == {"owner": {"team": ["a", 1]}}
        folder.record([done(replace(pack, kind="file"))])
    header, *rows, _end = lock_rows(tmp_path / "state/local/state.lock.yaml")
    assert [row["owner"] for row in rows] == [{"team": ["a", 1]}] * 2
    assert header["machine"] == "local"
    assert lock_rows(tmp_path / "state/albor.lock.yaml")[0]["colour"] == "red"


def test_a_lock_of_a_newer_format_is_refused_and_not_damaged(tmp_path: Path) -> None:
    with open_folder(tmp_path / "state") as folder:
        folder.record([done(converged("pack"))])
    path = tmp_path / "state/albor.lock.yaml"
    edit(path, lambda data: data.replace(b'"format":1', b'"format":2'))
    before = path.read_bytes()
    with pytest.raises(StateError, match="format 2"):
        open_folder(tmp_path / "state")
    assert path.read_bytes() == before


def test_a_record_costs_one_wait_for_the_disk_however_many_moves_it_has(tmp_path: Path) -> None:
    disk = CountingDisk()
    with open_folder(tmp_path / "state", disk=disk) as folder:
        folder.new_run()
        folder.bind_machine("local", "4c1d")
        for moves in ([done(converged("pack"))], [done(converged(f"task-{n}")) for n in range(100)]):
            disk.syncs = 0
            folder.record(moves)
            assert disk.syncs == 1
        disk.syncs = 0
        folder.bind_machine("local", "4c1d")
        folder.record([])
        assert disk.syncs == 0
        folder.snapshot()
        assert disk.syncs <= 5
        disk.syncs = 0
        folder.snapshot()
        assert disk.syncs == 0


def test_snapshots_come_by_themselves_in_a_long_run_and_ever_more_seldom(tmp_path: Path) -> None:
    disk = CountingDisk()
    main = tmp_path / "state/albor.lock.yaml"
    written = set()
    with open_folder(tmp_path / "state", disk=disk) as folder:
        for batch in range(40):
            folder.record([done(converged(f"task-{batch}-{n}")) for n in range(100)])
            written.add(main.read_bytes() if main.exists() else b"")
    assert 2 <= len(written - {b""}) <= 5


def test_opening_decodes_no_row_that_nobody_asks_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_folder(tmp_path / "state") as folder:
        folder.record([done(converged(name)) for name in ("a", "b", 'quote","kind":"', "back\\slash", "ä")])
    decoded = []
    real = folder._book.rows._decode.__func__  # type: ignore[attr-defined]
    monkeypatch.setattr(
        "albor_pipeline.state.rows.Rows._decode", lambda self, key: decoded.append(key.resource) or real(self, key)
    )
    with open_folder(tmp_path / "state") as folder:
        assert {key.resource for key in folder.state.entries} == {"a", "b", 'quote","kind":"', "back\\slash", "ä"}
        assert decoded == []
        assert folder.state.entries[Key("b", "local")] == converged("b")
        assert decoded == ["b"]


def test_times_are_written_in_utc_to_the_millisecond() -> None:
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", utc_now())
    assert utc_now() > AT


def test_an_interrupt_in_the_middle_of_a_record_leaves_a_folder_that_goes_on(tmp_path: Path) -> None:
    class InterruptedDisk(RealDisk):
        armed = False

        def fsync(self, handle: int) -> None:
            if self.armed:
                self.armed = False
                raise KeyboardInterrupt
            super().fsync(handle)

    disk = InterruptedDisk()
    with open_folder(tmp_path / "state", disk=disk) as folder:
        folder.record([done(converged("pack"))])
        disk.armed = True
        with pytest.raises(KeyboardInterrupt):
            folder.record([done(converged("split"))])
        folder.record([done(converged("merge"))])
    with open_folder(tmp_path / "state") as folder:
        assert {key.resource for key in folder.state.entries} == {"pack", "merge"}
        assert folder.audit().ok


def test_logs_and_papers_of_a_run_have_safe_names_and_are_whole(tmp_path: Path) -> None:
    with open_folder(tmp_path / "state") as folder:
        run, place = folder.new_run()
        assert folder.log_path(run, Key("a/b", "gpu box"), 3) == place / "a%2Fb@gpu%20box.3.log"
        folder.save(place / "plan.json", b"{}")
        folder.save(place / "plan.json", b"[]")
        with pytest.raises(StateError, match=r"report\.json cannot be written: No such file"):
            folder.save(place / "gone/report.json", b"{}")
    assert [(path.name, path.read_bytes()) for path in place.iterdir()] == [("plan.json", b"[]")]


def test_a_holder_without_a_run_is_named_by_its_process(tmp_path: Path) -> None:
    with (
        open_folder(tmp_path / "state"),
        pytest.raises(LockedError, match=rf"in use by pid {os.getpid()} on .*, since"),
    ):
        open_folder(tmp_path / "state")


def test_a_rebuild_that_no_snapshot_followed_forgets_what_was_bound_before(tmp_path: Path) -> None:
    with open_folder(tmp_path / "state") as folder:
        folder.bind_machine("gone", "9f00")
        folder.record([done(converged("old"))])
    main = (tmp_path / "state/albor.lock.yaml").read_bytes()
    StateFolder.rebuild(
        tmp_path / "state", "ladder", "feed", [converged("pack")], machine_ids={"local": "4c1d"}
    ).close()
    (tmp_path / "state/albor.lock.yaml").write_bytes(main)
    with open_folder(tmp_path / "state", write=False) as folder:
        assert (folder.state.lineage, folder.state.machine_ids) == ("feed", {"local": "4c1d"})
        assert set(folder.state.entries) == {Key("pack", "local")}


def test_a_lock_file_that_was_replaced_while_we_waited_is_not_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "state").mkdir()
    real, calls = fcntl.flock, []

    def flock(handle: int, how: int) -> None:
        real(handle, how)
        calls.append(handle)
        if len(calls) == 1:
            (tmp_path / "state/.lock").unlink()

    monkeypatch.setattr("fcntl.flock", flock)
    with open_folder(tmp_path / "state") as folder:
        folder.record([done(converged("pack"))])
    assert len(calls) == 2
