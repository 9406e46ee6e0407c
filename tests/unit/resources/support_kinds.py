"""A kind at work on this machine, by the agent's own hands: a resource of a manifest is looked at, converged and removed in a folder."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from albor_pipeline.agent.converging import converge
from albor_pipeline.agent.layout import Layout
from albor_pipeline.agent.probe import Prober
from albor_pipeline.manifest.load import load
from albor_pipeline.model.observed import Observation
from albor_pipeline.resources.base import Instance, Item
from albor_pipeline.resources.registry import convergent
from albor_pipeline.run.converge import sendable


class Bench:
    """One resource `it` of a project folder, on this machine."""

    def __init__(self, root: Path, kind: str, fields: dict[str, Any] | None = None, **how: Any) -> None:
        path = root / "m.yaml"
        resource = json.dumps({"type": kind, **(fields or {})}, ensure_ascii=False)
        path.write_text(f'version: "1.0"\nname: x\nresources:\n  it: {resource}\n')
        manifest = load(path)
        self.root = root
        self.kind = convergent(kind)
        self.one = Instance(manifest.resources["it"], manifest.machines["localhost"], root, **how)
        self._layout = Layout(str(root))
        self._look = Prober(self._layout).look

    @property
    def seen(self) -> Observation:
        """What a probe finds now."""
        return self.kind.observe(self.one, self._look(self.kind.probes(self.one)))

    @property
    def off(self) -> dict[str, str]:
        """The wanted values that are not there, as they are found."""
        seen = self.seen
        wanted = self.kind.wanted(self.one)
        return {name: seen.values.get(name, "nothing") for name, value in wanted.items() if seen.values.get(name) != value}

    def converge(self) -> str:
        """Bring it about; what the machine said when it could not, empty when it could."""
        return self.do(self.kind.converge(self.one, self.seen))

    def remove(self) -> str:
        """Take it away; what the machine said when it could not."""
        return self.do(self.kind.remove(self.one))

    def do(self, operations: Iterable[Item]) -> str:
        """Do operations; the words of the one that failed."""
        told, data = sendable(list(operations))
        reply = converge(self._layout, self._look, {"operations": told, "probes": []}, iter([data]))
        failed = reply.get("failed")
        return "" if failed is None else str(failed["stderr"] or failed["stdout"] or failed)

    def says(self) -> list[str]:
        """What stands against converging it."""
        seen = self.seen
        return self.kind.forecast(self.one, seen, self._look(self.kind.forecasts(self.one, seen)))

    def brings(self) -> dict[str, int | None]:
        """How many bytes converging would put where."""
        seen = self.seen
        found = self.kind.brings(self.one, seen, self._look(self.kind.weighs(self.one, seen)))
        return {each.path.removeprefix(f"{self.root}/"): each.size_bytes for each in found}
