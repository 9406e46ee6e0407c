"""Unchanged: what a plan that found nothing to do depended on, kept, so that the same command again costs a stat a path.

A plan is a function of the command, the manifest, files of the project, the state and what the machines answer. Where stamps
tell a change in all of them, the same stamps mean the same plan: it is not made again, only its last words are said again.
Not kept: what depends on a secret or a data source, a machine elsewhere, a resource that is no task, an attempt that runs, or a
file younger than 2 s. Losing the note costs time only.
"""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from albor_pipeline.agent.hashing import RACY_NS, digest_bytes
from albor_pipeline.errors import UnreachableError
from albor_pipeline.model.attempt import Liveness
from albor_pipeline.model.manifest import Machine
from albor_pipeline.state.hold import take
from albor_pipeline.transport.client import AgentClient, AgentError
from albor_pipeline.transport.local import LocalTransport

if TYPE_CHECKING:
    from albor_pipeline.run.session import Session

NOTE = Path(".albor") / "cache" / "unchanged.json"
VERSION = 1
IDENTITY = ("machine_id", "workdir", "python", "head")


@dataclass(frozen=True)
class Said:
    """What a command wrote to stdout and to stderr."""

    out: str
    err: str = ""


def recall(root: Path, asked: Mapping[str, Any]) -> Said | None:
    """What the same command said last, when nothing of what that depended on has moved; None where that is not known.

    Raises LockedError while another command writes the state.
    """
    note = _load(root)
    if note is None or note["asked"] != _question(asked, note["environ"]) or note["program"] != _program():
        return None
    with ExitStack() as stack, suppress(UnreachableError, AgentError):
        clients = {name: _started(name, known, root, note["lineage"]) for name, known in note["machines"].items()}
        for client in clients.values():
            stack.callback(client.close)
        sent = {name: _asked(client, note["machines"][name]) for name, client in clients.items()}
        if any(_stamp(Path(path)) != stamp for path, stamp in note["files"].items()):
            return None
        stack.callback(take(Path(note["state"]) / ".lock").release)
        if all(_same(clients[name], sent[name], known) for name, known in note["machines"].items()):
            return Said(note["out"], note["err"])
    return None


def remember(session: Session, asked: Mapping[str, Any], said: Said) -> None:
    """Keep what the plan that was just made, and has nothing to do, depends on; where that is not all told by stamps, nothing."""
    observer = session.observer
    assert observer is not None
    if not _told_by_stamps(session):
        return
    state = session.folder.root
    files = [*session.manifest.files, *(session.manifest.root + "/" + path for path in sorted(observer.looked_for))]
    files += map(str, [state / "albor.lock.yaml", *sorted(state.glob("*/state.lock.yaml")), *sorted(state.glob("journal/*"))])
    stamps = {path: _stamp(Path(path), session.began_ns) for path in files}
    if None in stamps.values():
        return
    machines = {}
    for name, agent in session.fleet.agents.items():
        told = {key: agent.hello.get(key) for key in IDENTITY}
        machines[name] = {**told, "place": session.manifest.machines[name].workdir, "watch": agent.request("watch")["id"]}
    if not all(machine["watch"] for machine in machines.values()):
        return
    note = {
        "version": VERSION, "asked": _question(asked, session.manifest.environ), "environ": sorted(session.manifest.environ),
        "program": _program(), "lineage": session.state.lineage, "state": str(state), "files": stamps, "machines": machines,
        "out": said.out, "err": said.err,
    }  # fmt: skip
    _save(Path(session.manifest.root), note)


def _told_by_stamps(session: Session) -> bool:
    manifest = session.manifest
    machines = session.observed.machines.values()
    return (
        not (manifest.data or manifest.secrets.names)
        and all(manifest.machines[view.name].is_local and view.error is None for view in machines)
        and not session.observed.wanted
        and all(attempt.liveness in (Liveness.ENDED, Liveness.DEAD) for view in machines for attempt in view.attempts)
    )


def _started(name: str, known: Mapping[str, Any], root: Path, lineage: str) -> AgentClient:
    return LocalTransport().start(Machine(name, "localhost", name, workdir=known["place"]), str(root), lineage)


def _asked(client: AgentClient, known: Mapping[str, Any]) -> tuple[int, int]:
    return client.submit("hello", attempts="none"), client.submit("unchanged", watch=known["watch"])


def _same(client: AgentClient, sent: Sequence[int], known: Mapping[str, Any]) -> bool:
    hello, unchanged = map(client.answer, sent)
    return bool(unchanged["same"]) and all(hello.get(key) == known[key] for key in IDENTITY)


def _question(asked: Mapping[str, Any], names: Iterable[str]) -> str:
    """A digest of the command with all that it takes from around it."""
    ours = {name for name in os.environ if name == "HOME" or name.startswith(("ALBOR_", "XDG_"))}
    around = {name: os.environ.get(name) for name in {*ours, *names}}
    return digest_bytes(json.dumps([str(Path.cwd()), dict(asked), around], sort_keys=True, default=str).encode())


def _program() -> str:
    """This interpreter, and when the newest file of this program came here."""
    folders = [Path(__file__).parent.parent, *_folders(Path(__file__).parent.parent)]
    newest = max(entry.stat().st_ctime_ns for folder in folders for entry in os.scandir(folder) if entry.name.endswith(".py"))
    return f"{newest} {sys.version}"


def _folders(folder: Path) -> Iterable[Path]:
    return (Path(entry.path) for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith(("_", ".")))


def _stamp(path: Path, before_ns: int | None = None) -> str | None:
    """What moves when a file does; None for one that is not older than `before_ns` by what a stamp can tell."""
    try:
        info = path.stat()
    except OSError:
        return "absent"
    if not stat.S_ISREG(info.st_mode):
        return "there"
    if before_ns is not None and info.st_ctime_ns + RACY_NS >= before_ns:
        return None
    return f"{info.st_dev} {info.st_ino} {info.st_size} {info.st_mtime_ns} {info.st_ctime_ns}"


def _load(root: Path) -> dict[str, Any] | None:
    try:
        note = json.loads((root / NOTE).read_text())
    except (OSError, ValueError):
        return None
    return note if isinstance(note, dict) and note.get("version") == VERSION else None


def _save(root: Path, note: Mapping[str, Any]) -> None:
    path = root / NOTE
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_text(json.dumps(note))
        temporary.replace(path)
