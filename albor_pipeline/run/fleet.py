"""Fleet: the agents of a run, one per machine, opened in one place and closed together. Knows no plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from albor_pipeline.errors import UnreachableError
from albor_pipeline.model.manifest import Machine, Manifest
from albor_pipeline.transport.client import AgentClient
from albor_pipeline.transport.connect import connect


class Fleet:
    """`agents` by machine name; a machine that does not answer is in `errors` with the reason."""

    def __init__(self, manifest: Manifest, lineage: str) -> None:
        self.agents: dict[str, AgentClient] = {}
        self.errors: dict[str, str] = {}
        self._manifest = manifest
        self.lineage = lineage

    def __enter__(self) -> Fleet:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def open(self, names: Sequence[str]) -> None:
        """Connect to machines that are not connected yet; one that does not answer is noted and never raises."""
        for name in names:
            if name in self.agents:
                continue
            machine = self._manifest.machines[name]
            try:
                self.agents[name] = connect(name, machine.addr, self.workdir(machine), self.lineage)
            except UnreachableError as error:
                self.errors[name] = error.diagnostics[0].message

    def workdir(self, machine: Machine) -> Path:
        """The folder that a machine's relative paths start from."""
        return Path(self._manifest.root) / machine.workdir if machine.workdir else Path(self._manifest.root)

    def probe(self, machine: str, items: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
        """The answers to all items, in their order, from one request."""
        results: Sequence[Mapping[str, Any]] = self.agents[machine].request("probe", items=list(items))["results"]
        return results

    def close(self) -> None:
        """Close every channel; attempts live on."""
        for agent in self.agents.values():
            agent.close()
        self.agents.clear()
