"""Audit: is what is recorded unchanged (integrity), and is all of it there (completeness)? Changes nothing and repairs nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from albor_pipeline.errors import StateError
from albor_pipeline.state.disk import Disk
from albor_pipeline.state.lines import Head
from albor_pipeline.state.load import MACHINE, MAIN, machine_folder
from albor_pipeline.state.lockfile import LockFile, decode
from albor_pipeline.state.reader import Reader


@dataclass(frozen=True)
class AuditReport:
    """`integrity` lists what was changed, `completeness` what is gone; `notes` are not faults."""

    lines: int
    segments: int
    head: Head
    integrity: tuple[str, ...] = ()
    completeness: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.integrity and not self.completeness


@dataclass
class _Findings:
    integrity: list[str]
    completeness: list[str]
    notes: list[str]


def audit(disk: Disk, root: Path, heads: Mapping[str, Head]) -> AuditReport:
    """Read every byte of the journal and the locks, and compare them with one another and with the machines' `heads`."""
    found = _Findings([], [], [])
    digests, reader, lines = _read_journal(disk, root, found)
    head = reader.mark.head
    for name, lock in _locks(disk, root, found):
        theirs = Head(lock.header["serial"], lock.header["digest"])
        _compare(f"{root.name}/{name}", theirs, head, digests, found)
    for machine, theirs in sorted(heads.items()):
        _compare(machine, theirs, head, digests, found)
    return AuditReport(
        lines, len(reader.numbers), head, tuple(found.integrity), tuple(found.completeness), tuple(found.notes)
    )


def _read_journal(disk: Disk, root: Path, found: _Findings) -> tuple[dict[int, str], Reader, int]:
    reader = Reader(disk, root / "journal")
    digests: dict[int, str] = {}
    lines = 0
    for line in reader.lines():
        if "segment" not in line:
            digests[line["serial"]] = line["digest"]
            lines += 1
        elif line["rebuilt"]:
            found.notes.append(f"the state was rebuilt after line {line['count']}")
        elif not digests and line["count"]:
            found.completeness.append(f"the journal begins only after line {line['count']}")
    for problem in reader.problems:
        (found.integrity if problem.kind == "damaged" else found.completeness).append(problem.text)
    if reader.torn_bytes:
        found.notes.append(f"{reader.torn_bytes} bytes of an unfinished write stand at the end of the journal")
    return digests, reader, lines


def _locks(disk: Disk, root: Path, found: _Findings) -> list[tuple[str, LockFile]]:
    if not disk.exists(root / MAIN):
        found.notes.append(f"there is no {root.name}/{MAIN}: the journal alone holds the state")
        return []
    main = _read(disk, root, MAIN, found)
    if main is None:
        return []
    names = [f"{machine_folder(root, machine).name}/{MACHINE}" for machine in main.header["machines"]]
    locks = [(name, _read(disk, root, name, found)) for name in names]
    return [(MAIN, main), *((name, lock) for name, lock in locks if lock is not None)]


def _read(disk: Disk, root: Path, name: str, found: _Findings) -> LockFile | None:
    data = disk.read(root / name)
    if data is None:
        found.completeness.append(f"{root.name}/{name} is gone")
        return None
    try:
        return decode(data, f"{root.name}/{name}")
    except StateError as error:
        found.integrity.append(error.diagnostics[0].message)
        return None


def _compare(name: str, theirs: Head, head: Head, digests: Mapping[int, str], found: _Findings) -> None:
    """A copy of the head against the journal."""
    if theirs.count > head.count:
        found.completeness.append(f"{name} knows line {theirs.count}, the journal ends at line {head.count}")
    elif theirs.count in digests and digests[theirs.count] != theirs.digest:
        found.integrity.append(f"{name} and the journal differ at line {theirs.count}")
