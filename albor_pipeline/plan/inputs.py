"""Inputs: which paths count for a task, and which earlier task makes each. Looks at declarations only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from albor_pipeline.model.manifest import Manifest
from albor_pipeline.model.resource import Key, Reference
from albor_pipeline.plan.graph import Graph
from albor_pipeline.plan.makers import Makers
from albor_pipeline.resources.places import Place, Places
from albor_pipeline.resources.task import Output, Task


@dataclass(frozen=True)
class Input:
    """One input path; `makers` make it, a folder that holds it, or something in it.

    `output` is the declared output of the one maker that it is as a whole; else its bytes are looked at when all makers are done.
    """

    path: str
    makers: tuple[Key, ...] = ()
    output: str | None = None


class Inputs:
    """The inputs of every task of a manifest."""

    def __init__(self, manifest: Manifest, graph: Graph) -> None:
        self._manifest = manifest
        self._graph = graph
        self.places = Places(manifest.root, manifest.machines, manifest.resources)
        self._cache: dict[Key, tuple[Input, ...]] = {}

    def of(self, key: Key) -> tuple[Input, ...]:
        """The inputs of one task, in declared order, each path once."""
        if key not in self._cache:
            found: dict[str, Input] = {}
            for item in self._find(key):
                found.setdefault(item.path, item)
            self._cache[key] = tuple(found.values())
        return self._cache[key]

    def elsewhere(self, key: Key) -> dict[str, Key]:
        """The inputs that lie on another machine, not even mounted on this one, with who makes them: only their digests count here."""
        return {
            item.path: item.makers[0]
            for item in self.of(key)
            if item.output is not None
            and item.makers[0].machine != key.machine
            and self.places.of(key.machine, item.path) != self.places.of(item.makers[0].machine, item.output)
        }

    def _find(self, key: Key) -> Iterator[Input]:
        resource = self._manifest.resources[key.resource]
        task = resource.fields_on(key.machine)
        if not isinstance(task, Task):
            return
        if not task.inputs:
            for up in self._graph.before[key]:
                yield from self._outputs(up)
            return
        references: dict[str, list[Reference]] = {}
        for ref in resource.depends_on:
            references.setdefault(ref.text, []).append(ref)
        for text in task.inputs:
            for ref in references.get(text, ()):
                for up in self._graph.before[key]:
                    if up.resource == ref.resource and ref.machine in (None, up.machine):
                        yield from self._outputs(up, ref.output)
            if text not in references:
                yield self._path(text, key)

    def _outputs(self, up: Key, name: str | None = None) -> Iterator[Input]:
        fields = self._manifest.resources[up.resource].fields_on(up.machine)
        if isinstance(fields, Task):
            for output in fields.outputs:
                if not output.volatile and (name is None or name in output.names):
                    yield Input(output.path, (up,), output.path)

    def makers(self, machine: str, path: str) -> tuple[Key, ...]:
        """What makes this path, a folder that holds it, or something in it; a volatile output counts here too."""
        return self._everything.of(self.places.of(machine, path))

    def is_made(self, path: str) -> bool:
        """Whether something makes this path of the project folder on any machine."""
        return bool(self._anywhere.of(("", path)))

    @cached_property
    def _anywhere(self) -> Makers:
        made = self._others | {place: key for place, key, _ in self.outputs()}
        return Makers({("", path): key for (_, path), key in made.items()})

    def _path(self, text: str, key: Key) -> Input:
        place = self.places.of(key.machine, text)
        exact = self._outputs_at.get(place)
        if exact is not None:
            return Input(text, (exact[0],), exact[1])
        return Input(text, self._lasting.of(place))

    @cached_property
    def _outputs_at(self) -> Mapping[Place, tuple[Key, str]]:
        """The task and the declared text of each output, by place."""
        return {place: (key, output.path) for place, key, output in self.outputs() if not output.volatile}

    @cached_property
    def _lasting(self) -> Makers:
        """What makes each path whose bytes count."""
        return Makers(self._others | {place: key for place, (key, _) in self._outputs_at.items()})

    @cached_property
    def _everything(self) -> Makers:
        return Makers(self._others | {place: key for place, key, _ in self.outputs()})

    @cached_property
    def _others(self) -> dict[Place, Key]:
        """The `path` of everything that is no task; what lies on a mount was not made by the mount."""
        found: dict[Place, Key] = {}
        for key, fields in self._declared():
            path = None if isinstance(fields, Task) else getattr(fields, "path", None)
            if isinstance(path, str) and self._manifest.resources[key.resource].kind != "mount":
                found[self.places.of(key.machine, path)] = key
        return found

    def outputs(self) -> Iterator[tuple[Place, Key, Output]]:
        """Every declared output of every task, and its place."""
        for key, fields in self._declared():
            for output in fields.outputs if isinstance(fields, Task) else ():
                yield self.places.of(key.machine, output.path), key, output

    def _declared(self) -> Iterator[tuple[Key, Any]]:
        for resource in self._manifest.resources.values():
            for key in resource.copies():
                yield key, resource.fields_on(key.machine)
