"""Unchanged: what a plan that found nothing to do depended on, kept, so that the same command again costs a stat a path.

A plan is a function of the command, the manifest, files of the project, the state and what the machines answer. Where stamps
tell a change in all of them, the same stamps mean the same plan: it is not made again, only its last words are said again.
Not kept: what depends on a secret or a data source, a task on a machine elsewhere, an attempt that runs, or a file younger than
2 s. Losing the note costs time only. Machines elsewhere are reached by the system's `ssh`, which spares the import of another.
"""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from albor_pipeline.agent.hashing import RACY_NS, digest_bytes
from albor_pipeline.errors import UnreachableError
from albor_pipeline.model.attempt import Liveness
from albor_pipeline.model.manifest import Machine
from albor_pipeline.state.hold import take
from albor_pipeline.transport.client import AgentClient, AgentError
from albor_pipeline.transport.faults import Unusable
from albor_pipeline.transport.local import LocalTransport

if TYPE_CHECKING:
    from albor_pipeline.run.session import Session

PATIENCE_S = 4.0  # for a machine elsewhere; who is slower answers to the plan that is made then
NOTE = Path(".albor") / "cache" / "unchanged.json"
VERSION = 2
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
    with ExitStack() as stack, suppress(UnreachableError, AgentError, Unusable):
        if note["ssh"] != _ways() and any(known["login"] for known in note["machines"].values()):
            return None
        clients = {}
        for name, known in note["machines"].items():
            clients[name] = _started(name, known, root, note["lineage"])
            stack.callback(clients[name].close)
        sent = {name: _asked(client, note["machines"][name]) for name, client in clients.items()}
        if any(_stamp(path) != stamp for path, stamp in note["files"].items()):
            return None
        stack.callback(take(Path(note["state"]) / ".lock").release)
        if all(_same(clients[name], sent[name], known) for name, known in note["machines"].items()):
            return Said(note["out"], note["err"])
    return None


def remember(session: Session, asked: Mapping[str, Any], said: Said) -> None:
    """Keep what the plan that was just made, and has nothing to do, depends on; where that is not all told by stamps, nothing."""
    from albor_pipeline.run.fleet import folder_of

    observer = session.observer
    assert observer is not None
    if not _told_by_stamps(session):
        return
    state = session.folder.root
    root = session.manifest.root
    files = [*session.manifest.files, *(f"{Path(root, path)}{'/' * path.endswith('/')}" for path in sorted(observer.looked_for))]
    files += map(str, [state / "albor.lock.yaml", *sorted(state.glob("*/state.lock.yaml")), *sorted(state.glob("journal/*"))])
    stamps = {path: _stamp(path, session.began_ns) for path in files}
    if None in stamps.values():
        return
    machines = {}
    for name, agent in session.fleet.agents.items():
        machine = session.manifest.machines[name]
        try:
            login = [] if machine.is_local else _login(machine, root)
        except Unusable:
            return
        told = {key: agent.hello.get(key) for key in IDENTITY}
        place = machine.workdir if machine.is_local else folder_of(session.manifest, machine)
        machines[name] = {**told, "place": place, "login": login, "watch": agent.request("watch")["id"]}
    if not all(machine["watch"] for machine in machines.values()):
        return
    note = {
        "version": VERSION, "asked": _question(asked, session.manifest.environ), "environ": sorted(session.manifest.environ),
        "program": _program(), "lineage": session.state.lineage, "state": str(state), "files": stamps, "machines": machines,
        "ssh": _ways(), "out": said.out, "err": said.err,
    }  # fmt: skip
    _save(Path(session.manifest.root), note)


def _told_by_stamps(session: Session) -> bool:
    manifest = session.manifest
    machines = session.observed.machines.values()
    tasks = {key.machine for resource in manifest.resources.values() if resource.kind == "task" for key in resource.copies()}
    return (
        not (manifest.data or manifest.secrets.names)
        and all(view.error is None for view in machines)
        and all(manifest.machines[name].is_local for name in tasks)
        and all(machine.container is None for machine in manifest.machines.values())
        and all(attempt.liveness in (Liveness.ENDED, Liveness.DEAD) for view in machines for attempt in view.attempts)
    )


def _started(name: str, known: Mapping[str, Any], root: Path, lineage: str) -> AgentClient:
    if known["login"]:
        from albor_pipeline.transport import openssh

        return openssh.reach(known["login"], name, known["place"], lineage)
    return LocalTransport().start(Machine(name, "localhost", name, workdir=known["place"]), str(root), lineage)


def _asked(client: AgentClient, known: Mapping[str, Any]) -> tuple[int, int]:
    return client.submit("hello", attempts="none"), client.submit("unchanged", watch=known["watch"])


def _same(client: AgentClient, sent: Sequence[int], known: Mapping[str, Any]) -> bool:
    hello = client.answer(sent[0], PATIENCE_S if known["login"] else None)
    unchanged = client.answer(sent[1])
    return bool(unchanged["same"]) and all(hello.get(key) == known[key] for key in IDENTITY)


def _login(machine: Machine, root: str) -> list[str]:
    """The command line of a login, which gives up early. Raises Unusable, also where a program decides what it is."""
    from albor_pipeline.transport import openssh, sshconfig

    if sshconfig.runs_programs(sshconfig.config_texts().values()):
        raise Unusable("a program decides what the SSH configuration says")
    hops = [replace(hop, connect_s=min(hop.connect_s, PATIENCE_S)) for hop in sshconfig.route(machine, root)]
    return openssh.login(hops)


def _ways() -> str:
    """A digest of what the SSH configuration says."""
    from albor_pipeline.transport.sshconfig import config_texts

    return digest_bytes("\n".join(f"{path}\n{text}" for path, text in config_texts().items()).encode())


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


def _stamp(path: str, before_ns: int | None = None) -> str | None:
    """What moves when a file does, or what a folder with a `/` holds; None for one not older than `before_ns` by what a stamp can tell."""
    try:
        info = Path(path).stat()
    except OSError:
        return "absent"
    if not stat.S_ISREG(info.st_mode) and not path.endswith("/"):
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
