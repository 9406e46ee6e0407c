"""StateFolder: the one door to the recorded state; what record() was given is durable when it returns. Knows no plan and no machine."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any
from urllib.parse import quote

from albor_pipeline.errors import Diagnostic, StateError
from albor_pipeline.model.resource import Key
from albor_pipeline.model.state import Entry, State, lineage_label
from albor_pipeline.state.audit import AuditReport, audit
from albor_pipeline.state.book import Book, Transition
from albor_pipeline.state.disk import Disk, RealDisk, atomic_write, disk_faults, remove_temporaries
from albor_pipeline.state.hold import Hold
from albor_pipeline.state.journal import RESERVE_BYTES, SEAL_BYTES, Clock, Journal
from albor_pipeline.state.lines import Head
from albor_pipeline.state.load import MACHINE, MAIN, Loaded, header_of, load, machine_folder, machine_lock
from albor_pipeline.state.lockfile import Damaged, LockFile, encode
from albor_pipeline.state.mounts import NETWORK
from albor_pipeline.state.reader import Mark, Reader, segments

__all__ = ["Head", "StateFolder", "Transition", "utc_now"]

SNAPSHOT_LINES = 1000
_MAIN_ABOUT = "albor-pipeline: where the journal goes on; written by the program, refused when edited"
_MACHINE_ABOUT = "albor-pipeline: what was last proven, a resource a line; written by the program, refused when edited"


def utc_now() -> str:
    """The time as it is written everywhere: `2026-03-02T14:10:02.123Z`."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class StateFolder:
    """Open with `open()`; one writer at a time, readers need no lock. Use as a context manager, or call close()."""

    def __init__(
        self, root: Path, disk: Disk, clock: Clock, loaded: Loaded, hold: Hold | None, *, is_new: bool, seal_bytes: int
    ) -> None:
        self.root = root
        self.is_new = is_new
        self.warnings: tuple[Diagnostic, ...] = tuple(loaded.warnings)
        self._disk = disk
        self._clock = clock
        self._book = loaded.book
        self._digests = loaded.digests
        self._hold = hold
        self._journal = Journal(disk, root, clock, loaded.mark, loaded.torn_bytes, seal_bytes=seal_bytes)
        self._run: str | None = None
        self._since_snapshot = loaded.replayed
        self._rows: Mapping[Key, Entry] = MappingProxyType(self._book.rows)

    @classmethod
    def open(
        cls,
        path: Path,
        pipeline: str,
        *,
        write: bool,
        disk: Disk | None = None,
        clock: Clock = utc_now,
        seal_bytes: int = SEAL_BYTES,
    ) -> StateFolder:
        """The state in `path`; a missing one is empty and, with `write`, made.

        Raises LockedError when another process writes it, StateError when it is damaged, belongs to another pipeline
        or another program, or lies on a network file system.
        """
        disk = disk or RealDisk()
        hold = None
        with disk_faults(f"{path.name}/ cannot be opened"):
            if write:
                hold = _prepare(disk, path, clock)
            try:
                loaded = load(disk, path, pipeline)
                if loaded is None and write:
                    _refuse_foreign(path)
                fresh = Loaded(Book(new_lineage(pipeline), pipeline))
                folder = cls(path, disk, clock, loaded or fresh, hold, is_new=loaded is None, seal_bytes=seal_bytes)
                if write:
                    folder._clean()
            except BaseException:
                if hold is not None:
                    hold.release()
                raise
        return folder

    def __enter__(self) -> StateFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def state(self) -> State:
        """What is recorded now; `entries` is a live view that later records change."""
        book = self._book
        return State(
            lineage=book.lineage,
            serial=self._journal.head.count,
            pipeline=book.pipeline,
            entries=self._rows,
            machine_ids=dict(book.machine_ids),
            last_run=book.last_run,
            last_run_utc=book.last_run_utc,
            outputs=dict(book.outputs),
        )

    def head(self) -> dict[str, Any]:
        """`count` and `digest` of the last durable line, as each machine keeps them."""
        return {"count": self._journal.head.count, "digest": self._journal.head.digest}

    def record(self, moves: Sequence[Transition]) -> None:
        """Make all moves durable with one fsync, then take them into `state`.

        A power cut leaves all of them, or the first ones, and tells nobody of the rest. Raises JournalBroken when the
        disk fails and StateError when the folder was taken away; then nothing of this call is in `state`.
        """
        if not moves:
            return
        self._check_hold()
        after: dict[Key, Entry | None] = {}
        bodies = []
        for move in moves:
            row = None if move.key is None else after.get(move.key, self._book.rows.get(move.key))
            bodies.append(self._book.body(move, row, self._clock(), self._run))
            if move.key is not None and move.entry is not None:
                after[move.key] = move.entry
        self._journal.lineage, self._journal.pipeline = self._book.lineage, self._book.pipeline
        heads = self._journal.append(bodies)
        for move, body, head in zip(moves, bodies, heads, strict=True):
            self._digests[head.count] = head.digest
            self._book.take(move, body)
        self.is_new = False
        self._since_snapshot += len(moves)
        if self._since_snapshot >= max(SNAPSHOT_LINES, len(self._book.rows) // 2):
            self.snapshot()

    def new_run(self, *, after: int = 0, **facts: Any) -> tuple[str, Path]:
        """Begin a run: its id (`0001`, never used before, above `after`) and its folder; `facts` go to the journal."""
        runs = self.root / "runs"
        rows = self._book.rows.values() if self._book.last_run is None else ()
        known = {entry.in_force.run for entry in rows if entry.in_force is not None}
        used = [int(name) for name in {*known, *self._disk.names(runs), self._book.last_run or ""} if name.isdigit()]
        run = f"{max([after, *used]) + 1:04d}"
        with disk_faults(f"{self.root.name}/runs/{run} cannot be made"):
            self._disk.mkdir(runs / run)
        self._run = run
        self.record([Transition("run-started", facts=facts)])
        if self._hold is not None:
            self._hold.describe(self._clock(), run)
        return run, runs / run

    def end_run(self, run: str, counts: Mapping[str, int], outputs: Mapping[str, str] | None = None) -> None:
        """Record how a run ended, and the pipeline's published outputs when there are new ones; then snapshot."""
        self._run = run
        self.record([Transition("run-ended", facts={"counts": dict(counts)}, outputs=outputs)])
        self._run = None
        self.snapshot()

    def bind_machine(self, machine: str, machine_id: str) -> None:
        """Record which machine a name means; nothing is written when that is known."""
        if self._book.machine_ids.get(machine) != machine_id:
            self.record([Transition("machine-bound", machine=machine, machine_id=machine_id)])

    def snapshot(self) -> None:
        """Write the lock files of what changed since the last one, so that the next load has few lines to replay.

        Order: each changed machine, then the main file that says where the journal goes on. Raises StateError; the
        journal holds everything all the same.
        """
        if self._journal.broken or self._since_snapshot == 0:
            return
        self._check_hold()
        head = self._journal.head
        with disk_faults(f"{self.root.name}/{MAIN} cannot be written (the journal has it all)"):
            for machine in sorted(self._book.dirty):
                self._write_machine(machine, machine_lock(self._book, machine, head))
            main = LockFile(header_of(self._book, self._journal.mark))
            atomic_write(self._disk, self.root / MAIN, encode(main, _MAIN_ABOUT))
        self._book.dirty.clear()
        self._since_snapshot = 0

    def close(self) -> None:
        """Snapshot and give the lock back; idempotent."""
        if self._hold is None:
            return
        try:
            if not self._hold.lost():
                self.snapshot()
        finally:
            self._journal.close()
            self._hold.release()
            self._hold = None

    def history(self) -> Iterator[Mapping[str, Any]]:
        """Every line of the journal from the first on, oldest first: `serial`, `at_utc`, `run`, `what`, ..."""
        return (line for line in Reader(self._disk, self.root / "journal").lines() if "segment" not in line)

    def audit(self, heads: Mapping[str, Mapping[str, Any]] | None = None) -> AuditReport:
        """What is wrong with the folder, integrity and completeness apart; `heads` are the machines' copies of head()."""
        with disk_faults(f"{self.root.name}/ cannot be read"):
            return audit(self._disk, self.root, {name: _head(head) for name, head in (heads or {}).items()})

    def check_head(self, machine: str, head: Mapping[str, Any] | None) -> None:
        """Refuse with StateError to go on from a state that is older than, or not the same as, what `machine` remembers."""
        if not head or not head.get("count"):
            return
        theirs, ours = _head(head), self._journal.head
        if theirs.count > ours.count:
            text = f"{self.root.name}/ is behind: it has {ours.count} journal lines, {machine} has seen {theirs.count}"
        elif self._digest_at(theirs.count) not in (None, theirs.digest):
            text = f"{self.root.name}/ is not the state that {machine} has seen: they differ at journal line {theirs.count}"
        else:
            return
        raise StateError.of(
            "state-behind",
            text,
            f"if a newer copy of {self.root.name}/ exists (another checkout, a backup), use that one",
            "else `albor-pipeline state rebuild` makes it anew from what the machines prove",
        )

    def adopt_lineage(self, lineage: str, head: Mapping[str, Any] | None = None) -> None:
        """Let a new, empty folder continue a lineage that machines remember; its journal goes on after `head`."""
        if not self.is_new:
            raise StateError.of(
                "lineage", f"{self.root.name}/ has a history of its own", "give another folder with --state-dir"
            )
        self._book.lineage = lineage
        if head and head.get("count"):
            self._go_on_after(_head(head))

    @classmethod
    def rebuild(
        cls,
        path: Path,
        pipeline: str,
        lineage: str,
        entries: Iterable[Entry],
        *,
        heads: Mapping[str, Mapping[str, Any]] | None = None,
        machine_ids: Mapping[str, str] | None = None,
        disk: Disk | None = None,
        clock: Clock = utc_now,
        seal_bytes: int = SEAL_BYTES,
    ) -> StateFolder:
        """Write a fresh state of `lineage` whatever is in `path`, and return it open for writing.

        Old journal segments stay for the history; the rows come from `entries` alone. The count goes on after the
        highest of `heads` (the machines' copies of head()). Raises as open() does, but never because of damage.
        """
        disk = disk or RealDisk()
        bound = [
            Transition("machine-bound", machine=name, machine_id=text) for name, text in (machine_ids or {}).items()
        ]
        moves = [Transition("rebuilt"), *bound, *(Transition("rebuilt", entry.key, entry) for entry in entries)]
        with disk_faults(f"{path.name}/ cannot be rebuilt"):
            hold = _prepare(disk, path, clock)
            try:
                known = [_head(head) for head in (heads or {}).values()] + [_last_head(disk, path, pipeline)]
                fresh = Loaded(Book(lineage, pipeline))
                folder = cls(path, disk, clock, fresh, hold, is_new=True, seal_bytes=seal_bytes)
                folder._clean()
                folder._go_on_after(max(known, key=lambda head: head.count))
                folder.record(moves)
                folder.snapshot()
            except BaseException:
                hold.release()
                raise
        return folder

    def save(self, path: Path, data: bytes) -> None:
        """Write a file of a run folder (plan.json, report.json) so that a reader sees all of it or nothing."""
        with disk_faults(f"{path.name} cannot be written"):
            atomic_write(self._disk, path, data)

    def log_path(self, run: str, key: Key, attempt: int = 0) -> Path:
        """Where the log of an attempt is kept: `runs/<id>/<resource>@<machine>.<n>.log`, names escaped; of what is none, without `<n>`."""
        resource, machine = (quote(name, safe="", errors="surrogatepass") for name in key)
        return self.root / "runs" / run / f"{resource}@{machine}{f'.{attempt}' if attempt else ''}.log"

    def hook_log_path(self, run: str, name: str) -> Path:
        """Where what a hook of the policy printed is kept: `runs/<id>/hook:<name>.log`."""
        return self.root / "runs" / run / f"hook:{name}.log"

    def check_log_path(self, run: str, name: str) -> Path:
        """Where the log of a check is kept: `runs/<id>/check:<name>.log`; no resource has such a name once it is escaped."""
        return self.root / "runs" / run / f"check:{quote(name, safe='', errors='surrogatepass')}.log"

    def _go_on_after(self, head: Head) -> None:
        """The next line opens a new segment that is marked as a new beginning after `head`."""
        numbers = segments(self._disk, self.root / "journal")
        self._journal.mark = Mark(max(numbers, default=0) + 1, 0, head)
        self._journal.rebuilt = True
        self._digests.clear()
        self._digests[head.count] = head.digest

    def _write_machine(self, machine: str, lock: LockFile) -> None:
        folder = machine_folder(self.root, machine)
        if folder.name not in self._disk.names(self.root):
            self._disk.mkdir(folder)
            self._disk.fsync_dir(self.root)
        atomic_write(self._disk, folder / MACHINE, encode(lock, _MACHINE_ABOUT))

    def _clean(self) -> None:
        """Remove what an interrupted write left, renew the reserve, and save rows that only the journal's tail held."""
        for folder in (self.root, *(machine_folder(self.root, name) for name in self._book.machines())):
            remove_temporaries(self._disk, folder)
        reserve = self.root / ".reserve"
        if not self._disk.read(reserve, RESERVE_BYTES - 1, 1):
            atomic_write(self._disk, reserve, bytes(RESERVE_BYTES))
        self.snapshot()

    def _check_hold(self) -> None:
        if self._hold is None:
            raise ValueError("this state folder is not open for writing")
        if self._hold.lost():
            raise StateError.of(
                "state-taken-away",
                f"{self.root.name}/ was removed or replaced while this run was using it",
                "nothing more is recorded; running attempts go on, and the next run takes their results",
            )

    def _digest_at(self, count: int) -> str | None:
        if count not in self._digests:
            self._digests.update((line["serial"], line["digest"]) for line in self.history() if line["serial"] == count)
        return self._digests.get(count)


def new_lineage(pipeline: str) -> str:
    """A lineage of the pipeline that there has never been."""
    return f"{lineage_label(pipeline)}-{os.urandom(8).hex()}"


def _head(data: Mapping[str, Any]) -> Head:
    return Head(int(data["count"]), str(data["digest"]))


def _last_head(disk: Disk, root: Path, pipeline: str) -> Head:
    """Where the state that is being replaced ended, as far as it can be read."""
    try:
        loaded = load(disk, root, pipeline)
    except Damaged:
        reader = Reader(disk, root / "journal")
        for _line in reader.lines():
            pass
        return reader.mark.head
    return Head() if loaded is None else loaded.mark.head


def _refuse_foreign(path: Path) -> None:
    """forjar's locks have the names of ours: raise StateError rather than write over them."""
    for found in sorted(path.glob("*/state.lock.yaml")):
        if not found.read_bytes().startswith(b"# albor-pipeline"):
            aside = f"{path.name}-forjar"
            way_out = f"move it and take it over: mv {path.name} {aside}; albor-pipeline state import {aside}"
            text = f"{path.name}/{found.parent.name}/{found.name} was written by another program"
            raise StateError.of("foreign-state", text, way_out)


def _prepare(disk: Disk, root: Path, clock: Clock) -> Hold:
    """Make the folders that are missing, and take the lock."""
    kind = disk.filesystem(root)
    if kind in NETWORK:
        raise StateError.of(
            "state-on-network",
            f"{root.name}/ lies on a network file system ({kind}), where locks and fsync cannot be relied on",
            "give a folder on a local disk with --state-dir",
        )
    missing = [folder for folder in (root, *root.parents) if folder != Path() and not disk.exists(folder)]
    for folder in reversed(missing):
        disk.mkdir(folder)
        disk.fsync_dir(folder.parent)
    for name in ("journal", "runs"):
        if name not in disk.names(root):
            disk.mkdir(root / name)
            disk.fsync_dir(root)
    hold = disk.lock(root / ".lock")
    hold.describe(clock(), None)
    return hold
