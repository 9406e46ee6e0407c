"""Sending: the project's files to the machines that are to run tasks, all machines side by side, before the first task starts.

A machine that has them already costs one round trip; else its agent says which files it lacks, and gets those.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from albor_pipeline.errors import UnreachableError
from albor_pipeline.model.events import NoteEvent
from albor_pipeline.run.fleet import Fleet
from albor_pipeline.run.project import Project, ProjectFile
from albor_pipeline.transport.client import AgentError

BATCH_BYTES = 16 << 20
Request = tuple[str, bytes | None, Mapping[str, Any]]


@dataclass(frozen=True)
class Delivery:
    """What one machine got: files and bytes sent, files taken away, where what was in the way is now; `error` when it has not all."""

    machine: str
    sent: int = 0
    size_bytes: int = 0
    gone: int = 0
    kept: tuple[str, ...] = ()
    error: str = ""


def send(project: Project, fleet: Fleet, machines: Iterable[str], run: str) -> list[Delivery]:
    """Bring these machines, on which we hold the lease, to the state of the project. Raises AlborError when the project changed since."""
    talks = {name: _talk(project, name, run) for name in machines}
    replies: dict[str, Mapping[str, Any] | None] = dict.fromkeys(talks)
    done: list[Delivery] = []
    while talks:
        asked: dict[str, int] = {}
        for name, talk in list(talks.items()):
            try:
                verb, data, args = talk.send(replies[name])
                asked[name] = fleet.agents[name].submit(verb, data=data, **args)
            except StopIteration as end:
                done.append(end.value)
                del talks[name]
            except UnreachableError as error:
                done.append(Delivery(name, error=error.diagnostics[0].message))
                del talks[name]
        for name, number in asked.items():
            try:
                replies[name] = fleet.agents[name].answer(number)
            except UnreachableError as error:
                done.append(Delivery(name, error=error.diagnostics[0].message))
                del talks[name]
            except AgentError as error:
                done.append(Delivery(name, error=f"{name} does not take the project's files: {error.message}"))
                del talks[name]
    return done


def events(got: Delivery, files: int) -> Iterator[NoteEvent]:
    """What a user is told of a delivery; nothing where the machine had it all."""
    if got.sent or got.gone:
        gone = f", {got.gone} taken away" if got.gone else ""
        yield NoteEvent(f"{got.machine}: {got.sent:,} of {files:,} project files sent, {got.size_bytes / 1e6:,.1f} MB{gone}")
    if got.error:
        yield NoteEvent(got.error)
    for path in got.kept:
        yield NoteEvent(f"what lay in the way of a project file on {got.machine} is now {path}")


def _talk(project: Project, machine: str, run: str) -> Generator[Request, Any, Delivery]:
    """What is asked of one machine, each request after the reply to the one before."""
    if (yield "project", None, {"digest": project.digest})["same"]:
        return Delivery(machine)
    files = project.look()
    items = [(file.path, file.letter, int(file.executable), file.digest, file.size_bytes) for file in files]
    lacking: list[int] = (yield "project_list", json.dumps(items).encode(), {})["lacking"]
    kept: list[str] = []
    for batch in _batches(lacking, files):
        data = b"".join(project.read(files[number]) for number in batch)
        kept += (yield "project_put", data, {"files": batch, "run": run})["kept"]
    gone = (yield "project_done", None, {"digest": project.digest})["gone"]
    return Delivery(machine, len(lacking), sum(files[number].size_bytes for number in lacking), gone, tuple(kept))


def _batches(numbers: Sequence[int], files: Sequence[ProjectFile]) -> Iterator[list[int]]:
    batch: list[int] = []
    size = 0
    for number in numbers:
        batch.append(number)
        size += files[number].size_bytes
        if size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
