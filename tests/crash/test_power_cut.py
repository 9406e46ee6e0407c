"""The power goes after every single disk call, and every disk that the kernel may leave is opened again: nothing acknowledged is lost."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from sim_disk import PowerCut, SimDisk

from albor_pipeline.errors import AlborError
from albor_pipeline.model.fingerprint import Fingerprint
from albor_pipeline.model.resource import Key
from albor_pipeline.model.state import Current, Entry, OutputProof, Result, Status
from albor_pipeline.state.folder import StateFolder, Transition
from albor_pipeline.state.journal import JournalBroken

ROOT = Path("/state")
PIPELINE = "ladder"
TASKS = ("ingest", "split", "pack")
SEAL_BYTES = 1500

Rows = Mapping[Key, Entry]
Content = frozenset[tuple[Path, bytes | None]]


@pytest.fixture(autouse=True)
def the_same_names_in_every_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Temporary names and lineages without chance, so that equal disks are seen to be equal."""
    monkeypatch.setattr("secrets.token_hex", lambda size_bytes: "00" * size_bytes)
    monkeypatch.setattr("albor_pipeline.state.folder.RESERVE_BYTES", 64)


def clock() -> str:
    return "2026-03-02T14:10:02.000Z"


def open_folder(disk: SimDisk) -> StateFolder:
    return StateFolder.open(ROOT, PIPELINE, write=True, disk=disk, clock=clock, seal_bytes=SEAL_BYTES)


@dataclass
class Witness:
    """What a user was told: `told` is acknowledged, `next` may hold already when the power goes."""

    told: Rows = field(default_factory=dict)
    next: list[Rows] = field(default_factory=list)
    lines: int = 0

    def record(self, folder: StateFolder, moves: Sequence[Transition]) -> None:
        rows = dict(self.told)
        for move in moves:
            assert move.key is not None
            if move.entry is None:
                rows.pop(move.key, None)
            else:
                rows[move.key] = move.entry
            self.next.append(dict(rows))
        folder.record(moves)
        self.told, self.next, self.lines = rows, [], folder.state.serial

    def allows(self, rows: Rows) -> bool:
        return any(rows == allowed for allowed in (self.told, *self.next))


def begun(name: str, run: str) -> Transition:
    key, prints = Key(name, "local"), Fingerprint({"command": {"": f"make {name}"}})
    return Transition("starting", key, Entry(key, "task", current=Current(prints, run, 1, clock(), Status.RUNNING)))


def ended(name: str, run: str) -> Transition:
    key, prints = Key(name, "local"), Fingerprint({"command": {"": f"make {name}"}})
    result = Result(prints, {f"out/{name}": OutputProof("ab" * 32, 1, 10)}, run, clock())
    return Transition("done", key, Entry(key, "task", result))


def apply(disk: SimDisk, witness: Witness) -> None:
    """A small apply: every task that is not done is started and ends; the third start shares its fsync with an end."""
    with open_folder(disk) as folder:
        run, _path = folder.new_run()
        folder.bind_machine("local", "4c1d")
        old = Key("old", "local")
        if old not in folder.state.entries and not folder.state.entries:
            witness.record(folder, [Transition("converged", old, Entry(old, "file"))])
        todo = [name for name in TASKS if not is_done(folder, name)]
        waiting: list[Transition] = []
        for name in todo:
            witness.record(folder, [*waiting, begun(name, run)])
            waiting = [ended(name, run)]
            if name == "split":
                folder.snapshot()
        if waiting:
            witness.record(folder, waiting)
        if old in folder.state.entries:
            witness.record(folder, [Transition("forgotten", old)])
        folder.end_run(run, {"done": len(todo)}, {"model": "out/pack"})


def is_done(folder: StateFolder, name: str) -> bool:
    row = folder.state.entries.get(Key(name, "local"))
    return row is not None and row.status is Status.CONVERGED


def essence(folder: StateFolder) -> Any:
    """What must not depend on crashes: rows without the number of the run that made them, and what was published."""
    state = folder.state
    rows = {
        key: replace(row, in_force=replace(row.in_force, run="") if row.in_force else None)
        for key, row in state.entries.items()
    }
    return rows, state.outputs, state.machine_ids


def undisturbed() -> tuple[Any, int]:
    disk = SimDisk()
    apply(disk, Witness())
    calls = disk.calls
    with open_folder(disk) as folder:
        return essence(folder), calls


@dataclass
class Judge:
    """Opens images; the same bytes are run to their end only once, since they cannot end in two ways."""

    final: Any
    seen: set[Content] = field(default_factory=set)
    images: int = 0

    def check(self, image: SimDisk, witness: Witness) -> None:
        """The image opens, holds what was told (or the step after it), and the same command ends as if nothing had happened."""
        self.images += 1
        content = image.content()
        with open_folder(image) as folder:
            assert witness.allows(folder.state.entries), "neither what was acknowledged nor the next"
            assert folder.state.serial >= witness.lines
            assert folder.warnings == (), "an outage alone damages nothing that would have to be healed"
        if content not in self.seen:
            self.seen.add(content)
            self._finish(image)

    def _finish(self, image: SimDisk) -> None:
        with open_folder(image) as folder:
            assert folder.audit().ok, folder.audit()
        apply(image, Witness())
        with open_folder(image) as folder:
            assert essence(folder) == self.final
            assert folder.audit().ok, folder.audit()
            serials = [line["serial"] for line in folder.history()]
            assert serials == list(range(1, folder.state.serial + 1))


def cuts(**options: Any) -> Iterator[tuple[SimDisk, Witness]]:
    """The disk and what was told at each moment that the power can go, the last one after the whole scenario."""
    for stop in count():
        disk, witness = SimDisk(stop_after=stop, **options), Witness()
        try:
            apply(disk, witness)
        except PowerCut:
            yield disk, witness
            continue
        yield disk, witness
        return


def test_no_power_cut_loses_what_was_acknowledged() -> None:
    final, calls = undisturbed()
    judge = Judge(final)
    for disk, witness in cuts():
        for image in disk.images():
            judge.check(image, witness)
    assert judge.images > 2 * calls


@pytest.mark.slow
def test_a_second_power_cut_while_the_first_is_mended_loses_nothing_either() -> None:
    judge = Judge(undisturbed()[0])
    for disk, witness in list(cuts())[::5]:
        for image in disk.images():
            for stop in count():
                again = image.again().stopping(stop)
                try:
                    open_folder(again).close()
                except PowerCut:
                    for second in again.images():
                        judge.check(second, witness)
                    continue
                break


@pytest.mark.parametrize("call", ["fsync", "fsync_dir"])
def test_the_sweep_notices_when_a_kind_of_sync_is_left_out(call: str) -> None:
    judge = Judge(undisturbed()[0])
    with pytest.raises((AssertionError, AlborError)):
        for disk, witness in cuts(skips=call):
            for image in disk.images():
                judge.check(image, witness)


def failing(run: Callable[[SimDisk], None], error: int) -> Iterator[SimDisk]:
    """The disk after `run` with each of its calls failing in turn; a failure is an AlborError or no harm at all."""
    for fail_at in count(1):
        disk = SimDisk(fail_at=fail_at, fail_with=error)
        try:
            run(disk)
        except AlborError as fault:
            assert fault.exit_code == 1
            assert fault.diagnostics[0].notes
        if disk.calls < fail_at:
            return
        yield disk


@pytest.mark.parametrize(
    "error", [pytest.param(errno.EIO, id="broken"), pytest.param(errno.ENOSPC, id="full", marks=pytest.mark.slow)]
)
def test_a_disk_that_fails_at_any_call_ends_the_run_and_keeps_what_was_acknowledged(error: int) -> None:
    final, calls = undisturbed()
    judge = Judge(final)
    witnesses: list[Witness] = []

    def run(disk: SimDisk) -> None:
        witnesses.append(Witness())
        apply(disk, witnesses[-1])

    faults = 0
    for disk in failing(run, error):
        judge.check(disk.again(), witnesses[-1])
        for image in disk.images():
            judge.check(image, witnesses[-1])
        faults += 1
    assert faults >= calls


def test_a_rebuild_that_is_cut_is_simply_done_again() -> None:
    rows = [ended(name, "0007").entry for name in TASKS]
    entries = [row for row in rows if row is not None]
    parts = [{entry.key: entry for entry in entries[:length]} for length in range(len(entries) + 1)]
    head = {"count": 40, "digest": "ab" * 8}

    def rebuild(disk: SimDisk) -> StateFolder:
        return StateFolder.rebuild(
            ROOT, PIPELINE, "feed", entries, heads={"local": head}, machine_ids={"local": "4c1d"}, disk=disk, clock=clock
        )

    for stop in count():
        disk, witness = SimDisk(), Witness()
        apply(disk, witness)
        disk = disk.again().stopping(stop)
        try:
            rebuild(disk)
        except PowerCut:
            for image in disk.images():
                with open_folder(image.again()) as folder:
                    found = dict(folder.state.entries)
                assert found == witness.told or found in parts, "neither the rows before nor the beginning of the new ones"
                with rebuild(image) as folder:
                    assert dict(folder.state.entries) == {entry.key: entry for entry in entries}
                    folder.check_head("local", head)
            continue
        break


def test_a_failed_fsync_is_followed_by_a_stop_record_and_by_nothing_else() -> None:
    disk = SimDisk()
    with pytest.raises(JournalBroken), open_folder(disk) as folder:
        run, _path = folder.new_run()
        disk.fail_next("fsync", errno.EIO)
        moves = [begun("ingest", run)]
        with pytest.raises(JournalBroken, match="Input/output error"):
            folder.record(moves)
        assert folder.state.entries == {}
        folder.record(moves)
    with open_folder(disk.again()) as folder:
        words = [line["what"] for line in folder.history()]
        assert words == ["run-started", "stopped"]
        assert folder.state.entries == {}


def test_a_full_disk_gives_the_reserve_back_so_that_the_stop_can_be_recorded() -> None:
    disk = SimDisk()
    with pytest.raises(JournalBroken, match="No space left"), open_folder(disk) as folder:
        run, _path = folder.new_run()
        disk.fail_until("unlink", errno.ENOSPC)
        folder.record([begun("ingest", run)])
    with open_folder(disk.again()) as folder:
        assert [line["what"] for line in folder.history()] == ["run-started", "stopped"]
