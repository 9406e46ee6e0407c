"""Loading a state folder: the lock files, then the journal lines after them. Writes nothing and takes no lock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from albor_pipeline.errors import Diagnostic, StateError
from albor_pipeline.state.book import Book
from albor_pipeline.state.disk import Disk
from albor_pipeline.state.lines import Head
from albor_pipeline.state.lockfile import Damaged, LockFile, damaged, decode
from albor_pipeline.state.reader import Mark, Reader, read_header, segments

MAIN = "albor.lock.yaml"
MACHINE = "state.lock.yaml"
RESERVED = ("journal", "runs", "environments")
_MAIN_KEYS = frozenset(
    (
        "lineage",
        "pipeline",
        "serial",
        "digest",
        "segment",
        "offset",
        "machines",
        "last_run",
        "last_run_utc",
        "outputs",
        "manifest",
    )
)


@dataclass
class Loaded:
    """The state as it was found: rows, where the journal goes on, and the digests by serial that were seen on the way."""

    book: Book
    mark: Mark = field(default_factory=Mark)
    torn_bytes: int = 0
    replayed: int = 0
    warnings: list[Diagnostic] = field(default_factory=list)
    digests: dict[int, str] = field(default_factory=dict)


def machine_folder(root: Path, machine: str) -> Path:
    """The folder of a machine: its name with everything but letters, digits, `_`, `-` and inner dots escaped as %XX."""
    name = quote(machine, safe="", encoding="utf-8", errors="surrogatepass").replace("~", "%7E")
    if name.startswith(".") or name in RESERVED or name == MAIN:
        name = f"%{ord(name[0]):02X}{name[1:]}"
    return root / name


def load(disk: Disk, root: Path, pipeline: str) -> Loaded | None:
    """The state in `root`, or None when there is none.

    A lock file that is damaged is passed over when the journal is whole. Raises Damaged, or StateError when the state
    belongs to another pipeline or was written by a newer version.
    """
    try:
        loaded = _from_locks(disk, root, pipeline)
    except Damaged as error:
        loaded = _healed(disk, root, error)
    if loaded is not None and loaded.book.pipeline != pipeline:
        raise StateError.of(
            "other-pipeline",
            f"{root.name}/ holds the state of pipeline `{loaded.book.pipeline}`, not of `{pipeline}`",
            "give this pipeline another state folder with --state-dir",
            f"if it was renamed, set `name: {loaded.book.pipeline}` back, or move {root.name}/ away and let plan adopt what is there",
        )
    return loaded


def _from_locks(disk: Disk, root: Path, pipeline: str) -> Loaded | None:
    main = _read(disk, root / MAIN, MAIN)
    if main is None:
        return _from_journal(disk, root)
    try:
        return _with_tail(disk, root, main.header)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise damaged(f"{root.name}/ holds a row that cannot be read ({type(error).__name__}: {error})") from error


def _with_tail(disk: Disk, root: Path, header: Mapping[str, Any]) -> Loaded:
    extra = {key: value for key, value in header.items() if key not in _MAIN_KEYS}
    book = Book(
        header["lineage"],
        header["pipeline"],
        last_run=header["last_run"],
        last_run_utc=header["last_run_utc"],
        outputs=header["outputs"],
        manifest=header["manifest"],
        extra=extra,
    )
    heads = {machine: _load_machine(disk, root, book, machine) for machine in header["machines"]}
    start = Mark(header["segment"], header["offset"], Head(header["serial"], header["digest"]))
    loaded = Loaded(book, start, digests={start.head.count: start.head.digest})
    _replay(loaded, disk, root, start, {machine: head.count for machine, head in heads.items()})
    _go_on_after_a_cut(loaded, disk, root, max(heads.values(), key=lambda head: head.count, default=start.head))
    return loaded


def _load_machine(disk: Disk, root: Path, book: Book, machine: str) -> Head:
    path = machine_folder(root, machine) / MACHINE
    lock = _read(disk, path, f"{path.parent.name}/{MACHINE}")
    if lock is None:
        raise damaged(f"{root.name}/{path.parent.name}/{MACHINE} is gone")
    for text in lock.rows:
        book.rows.add_text(text, machine)
    if lock.header["machine_id"] is not None:
        book.machine_ids[machine] = lock.header["machine_id"]
    return Head(lock.header["serial"], lock.header["digest"])


def _replay(loaded: Loaded, disk: Disk, root: Path, start: Mark | None, newer: Mapping[str, int]) -> None:
    """Apply every line after `start`; the machines in `newer` skip the lines that their lock, of that serial, already holds."""
    reader = Reader(disk, root / "journal", start)
    for line in reader.lines():
        if "segment" in line:
            if line["rebuilt"]:
                loaded.book.clear(line["lineage"])
                newer = {}
            loaded.book.lineage, loaded.book.pipeline = line["lineage"], line["pipeline"]
            continue
        loaded.digests[line["serial"]] = line["digest"]
        loaded.replayed += 1
        if line["serial"] > newer.get(line.get("machine", ""), 0):
            loaded.book.replay(line)
    if reader.problems:
        raise damaged(f"{root.name}/{reader.problems[0].text}")
    loaded.mark, loaded.torn_bytes = reader.mark, reader.torn_bytes


def _go_on_after_a_cut(loaded: Loaded, disk: Disk, root: Path, newest: Head) -> None:
    """The locks know more than the journal: nothing of the state is lost, and a new segment goes on from them."""
    mark = loaded.mark
    byte = disk.read(root / "journal" / f"{mark.segment:04d}.jsonl", mark.offset - 1, 1) if mark.offset else b"\n"
    if byte == b"\n" and mark.head.count >= newest.count:
        return
    head = newest if newest.count > mark.head.count else mark.head
    numbers = segments(disk, root / "journal")
    loaded.mark, loaded.torn_bytes = Mark(max((*numbers, mark.segment)) + 1, 0, head), 0
    loaded.warnings.append(
        Diagnostic(
            "warning",
            "journal-cut",
            f"{root.name}/journal ends before line {head.count}, which the lock files know; the history has a gap",
        )
    )


def _from_journal(disk: Disk, root: Path) -> Loaded | None:
    """Everything from the journal alone, from the last place where the state was rebuilt; None when there is no journal."""
    folder = root / "journal"
    headers = [(number, read_header(disk, folder, number)) for number in segments(disk, folder)]
    starts = [(number, header) for number, header in headers if header is not None]
    if not starts:
        return None
    number, header = next((item for item in reversed(starts) if item[1]["rebuilt"]), starts[0])
    if header["count"] and not header["rebuilt"]:
        raise damaged(f"{root.name}/journal begins only after line {header['count']}")
    head = Head(header["count"], header["prev"])
    loaded = Loaded(Book(header["lineage"], header["pipeline"]), Mark(number, 0, head))
    loaded.digests[head.count] = head.digest
    _replay(loaded, disk, root, loaded.mark, {})
    return loaded


def _healed(disk: Disk, root: Path, error: Damaged) -> Loaded:
    loaded = _from_journal(disk, root)
    if loaded is None or loaded.mark.head.count < _known_count(disk, root):
        raise error
    loaded.warnings.append(
        Diagnostic("warning", "state-healed", f"{error.diagnostics[0].message}; the whole journal was read instead")
    )
    return loaded


def _known_count(disk: Disk, root: Path) -> int:
    """The serial that the main lock file tells, when it can be read."""
    try:
        main = _read(disk, root / MAIN, MAIN)
        return 0 if main is None else int(main.header["serial"])
    except (StateError, KeyError, TypeError, ValueError):
        return 0


def _read(disk: Disk, path: Path, shown: str) -> LockFile | None:
    data = disk.read(path)
    return None if data is None else decode(data, f"{path.parent.name}/{path.name}" if shown == MAIN else shown)


def header_of(book: Book, mark: Mark) -> dict[str, Any]:
    """The header of the main lock file: what is known of the pipeline, and where the journal goes on."""
    return {
        "lineage": book.lineage,
        "pipeline": book.pipeline,
        "serial": mark.head.count,
        "digest": mark.head.digest,
        "segment": mark.segment,
        "offset": mark.offset,
        "machines": sorted(book.machines()),
        "last_run": book.last_run,
        "last_run_utc": book.last_run_utc,
        "outputs": book.outputs,
        "manifest": book.manifest,
        **book.extra,
    }


def machine_lock(book: Book, machine: str, head: Head) -> LockFile:
    """A machine's lock file, rows in the order of their names."""
    rows = sorted(key for key in book.rows if key.machine == machine)
    header = {
        "lineage": book.lineage,
        "machine": machine,
        "machine_id": book.machine_ids.get(machine),
        "serial": head.count,
        "digest": head.digest,
    }
    return LockFile(header, tuple(book.rows.text(key) for key in rows))
