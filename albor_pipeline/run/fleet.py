"""Fleet: the agents of a run, one per machine, opened in one place and closed together. Knows no plan."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from albor_pipeline.agent.layout import quote
from albor_pipeline.agent.liveness import identity
from albor_pipeline.errors import Diagnostic, UnreachableError
from albor_pipeline.model.manifest import Machine, Manifest
from albor_pipeline.run.lines import Lines
from albor_pipeline.transport.client import AgentClient, AgentError, Maker, Message, NotMade
from albor_pipeline.transport.faults import Unusable
from albor_pipeline.transport.local import LocalTransport, greeted, wait_readable

MAX_CLOSING = 16


class Fleet:
    """`agents` by machine name; a machine that does not answer is in `errors` with the reason, and in `faults` with what to do.

    `tokens`: what each machine's lease is known by, once it is held, and `unheard_s` for how long it had heard of no controller then,
    None where there had been none. `lines`: second connections, for much data. `indirect`: why a machine,
    named first, does not get through to another by itself. `unmade`: machines whose container is not there and would be made
    by a `maker`.
    """

    def __init__(self, manifest: Manifest, lineage: str, maker: Maker | None = None) -> None:
        self.agents: dict[str, AgentClient] = {}
        self.errors: dict[str, str] = {}
        self.faults: dict[str, Diagnostic] = {}
        self.tokens: dict[str, str] = {}
        self.unheard_s: dict[str, float | None] = {}
        self.indirect: dict[tuple[str, str], str] = {}
        self.unmade: set[str] = set()
        self._maker = maker
        self.lines = Lines(self._start_line)
        self._loading: dict[str, AgentClient] = {}
        self._manifest = manifest
        self.lineage = lineage

    @property
    def made(self) -> Collection[str]:
        """The machines that were made since this was opened: all that is there came with their image."""
        return self._maker.made if self._maker is not None else ()

    def __enter__(self) -> Fleet:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def launch(self, names: Sequence[str]) -> None:
        """Start the agents of machines that have none yet, and do not wait for them; one that cannot start is noted."""
        for name in names:
            if name in self.agents or name in self._loading or name in self.errors or name in self.unmade:
                continue
            try:
                self._loading[name] = self._start(self._manifest.machines[name])
            except UnreachableError as error:
                self.lose(name, error)
            except NotMade:
                self.unmade.add(name)

    def _start(self, machine: Machine) -> AgentClient:
        if machine.is_local:
            return LocalTransport().start(machine, self._manifest.root, self.lineage)
        folder = folder_of(self._manifest, machine)
        if machine.container is not None:
            from albor_pipeline.transport import container

            return container.start(machine, self._manifest.name, folder, self.lineage, self._maker)
        from albor_pipeline.transport.ssh import SshTransport

        return SshTransport().start(machine, self._manifest.root, folder, self.lineage)

    def _start_line(self, name: str) -> AgentClient:
        from albor_pipeline.transport import openssh

        machine = self._manifest.machines[name]
        return openssh.start(machine, self._manifest.root, folder_of(self._manifest, machine), self.lineage)

    def without_line(self, name: str) -> str:
        """Why an opened machine has no second connection for much data; empty where one could be made, which is hung up again."""
        try:
            greeted(self._start_line(name), "none").close()
        except Unusable as error:
            return error.text
        except UnreachableError as error:
            return error.diagnostics[0].message.removeprefix(f"{name} does not answer: ")
        return ""

    def carrier(self, name: str) -> AgentClient | None:
        """The agent of an opened machine for much data: that of its line where there can be one; None while the line is made."""
        if self._manifest.machines[name].by_ssh and self.lines.has(name, self.tokens[name]):
            return self.lines.ready(name)
        return self.agents[name]

    def crossing(self, source: str, target: str) -> Mapping[str, Any] | None:
        """How an opened machine reaches another by itself, for its agent; None where it may not, or did not get through in this run."""
        here, there = self._manifest.machines[source], self._manifest.machines[target]
        if not here.may_reach or not there.by_ssh or (source, target) in self.indirect:
            return None
        from albor_pipeline.transport import openssh

        try:
            return openssh.crossing(there, self._manifest.root, folder_of(self._manifest, there), self.lineage)
        except Unusable as error:
            self.indirect[source, target] = error.text
            return None

    def teller(self, name: str) -> AgentClient | None:
        """The agent to tell that it is to reach others: where ours is forwarded that of the line; None while the line is made."""
        return self.carrier(name) if self._manifest.machines[name].forward_agent else self.agents[name]

    def without_way(self, source: str, target: str) -> str:
        """Why an opened machine that may reach another does not get through to it; empty where it does."""
        to = self.crossing(source, target)
        if to is None:
            return self.indirect[source, target]
        try:
            if not self._manifest.machines[source].forward_agent:
                self.agents[source].request("reach", to=to)
                return ""
            line = greeted(self._start_line(source), "none")
            try:
                line.request("reach", to=to)
            finally:
                line.close()
        except Unusable as error:
            return error.text
        except AgentError as error:
            return error.message
        except UnreachableError as error:
            return error.diagnostics[0].message
        return ""

    def lose(self, name: str, error: UnreachableError) -> None:
        """Note that a machine does not answer, or not any more."""
        self.lines.close(name)
        for agents in (self.agents, self._loading):
            if name in agents:
                agents.pop(name).close()
        self.faults[name] = error.diagnostics[0]
        self.errors[name] = error.diagnostics[0].message.removeprefix(f"{name} does not answer: ")

    def require(self, name: str) -> AgentClient:
        """The agent of a machine that was opened. Raises UnreachableError with what to do when it does not answer."""
        if name in self.agents:
            return self.agents[name]
        if name in self.unmade:
            raise UnreachableError.of("not-made", f"the container of {name} is not there", "`apply` makes it")
        raise UnreachableError(self.faults[name])

    def call(self, known: Mapping[str, Mapping[str, Any]]) -> None:
        """Ask the launched agents for their hello and do not wait; `known` has attempts that need not be told (run/attempts.py)."""
        for name, client in list(self._loading.items()):
            try:
                client.call(known=known.get(name))
            except UnreachableError as error:
                self.lose(name, error)

    def open(self, names: Sequence[str]) -> None:
        """Connect to machines that are not connected yet; one that does not answer is noted."""
        self.launch(names)
        while self._loading:
            name, client = self._loading.popitem()
            try:
                self.agents[name] = greeted(client)
            except UnreachableError as error:
                self.lose(name, error)
            else:
                client.hello = {**client.hello, "attempts": [raw for raw in client.hello["attempts"] if self.continues(raw)]}

    def continues(self, raw: Mapping[str, Any]) -> bool:
        """Whether an attempt object is of this lineage (empty: any), or of another state of this pipeline."""
        others = raw["resource"] in self._manifest.resources and self._manifest.continues(raw["lineage"])
        return self.lineage in ("", raw["lineage"]) or others

    def ask(self, machine: str, items: Sequence[Mapping[str, Any]]) -> Callable[[], Sequence[Mapping[str, Any]]]:
        """Send one request for all items and do not wait; what is returned waits for the answers, which are in their order."""
        agent = self.agents[machine]
        number = agent.submit("probe", items=items)

        def answers() -> Sequence[Mapping[str, Any]]:
            results: Sequence[Mapping[str, Any]] = agent.answer(number)["results"]
            return results

        return answers

    def probe(self, machine: str, items: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
        """The answers to all items, in their order, from one request."""
        return self.ask(machine, items)()

    def poll(self, timeout_s: float) -> list[tuple[str, Message]]:
        """What the machines said, with the machine's name; waits at most so long for the first of them."""
        found = self._poll()
        if not found and self.agents:
            wait_readable([*self.agents.values(), *self.lines.clients], timeout_s)
            found = self._poll()
        return found

    def _poll(self) -> list[tuple[str, Message]]:
        return [(name, message) for name, agent in self.agents.items() for message in agent.poll(0)] + self.lines.poll()

    def close(self) -> None:
        """Close every channel; attempts live on."""
        self.lines.close_all()
        leaving = [*self.agents.values(), *self._loading.values()]
        if len(leaving) > 1:  # each waits for its agent to go
            from concurrent.futures import ThreadPoolExecutor

            with ThreadPoolExecutor(min(MAX_CLOSING, len(leaving))) as pool:
                list(pool.map(AgentClient.close, leaving))
        else:
            for agent in leaving:
                agent.close()
        for known in (self.agents, self._loading, self.errors, self.faults, self.tokens, self.unheard_s, self.indirect, self.unmade):
            known.clear()


def folder_of(manifest: Manifest, machine: Machine) -> str:
    """The folder that a machine's relative paths start from; `~` is the home folder there."""
    if machine.is_local:
        return str(Path(manifest.root, Path(machine.workdir or "").expanduser()))
    return machine.workdir or f"~/albor/{quote(manifest.name)}"


def holder() -> dict[str, Any]:
    """What a machine tells others of this controller, which holds its lease: for people, and so that a later process here can know it."""
    return {"holder": f"pid {os.getpid()} on {socket.gethostname()}", "process": identity(os.getpid())}


def newest_lineage(manifest: Manifest, fleet: Fleet) -> tuple[str, Mapping[str, Any] | None] | None:
    """The lineage of the newest attempt of this manifest's tasks, and the highest head kept of it; None when there is none."""
    newest: tuple[str, str] | None = None
    for agent in fleet.agents.values():
        for raw in agent.request("attempts", any_lineage=True)["attempts"]:
            if raw["resource"] in manifest.resources and manifest.continues(raw["lineage"]):
                newest = max(newest or ("", ""), (str(raw["started_utc"]), str(raw["lineage"])))
    if newest is None:
        return None
    heads = [agent.hello["heads"].get(newest[1]) for agent in fleet.agents.values()]
    return newest[1], max((head for head in heads if head), key=lambda head: int(head["count"]), default=None)
