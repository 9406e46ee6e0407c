"""Inputs: which paths count for a task, and which earlier task makes each. Looks at declarations only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath

from albor_pipeline.model.manifest import Manifest
from albor_pipeline.model.resource import Key
from albor_pipeline.plan.graph import Graph
from albor_pipeline.resources.file import File
from albor_pipeline.resources.task import Task


@dataclass(frozen=True)
class Input:
    """One input path; `producer` makes it (or a folder that holds it), `whole` when the path is a declared output of a task."""

    path: str
    producer: Key | None = None
    whole: bool = False


class Inputs:
    """The inputs of every task of a manifest."""

    def __init__(self, manifest: Manifest, graph: Graph) -> None:
        self._manifest = manifest
        self._graph = graph
        self._cache: dict[Key, tuple[Input, ...]] = {}

    def of(self, key: Key) -> tuple[Input, ...]:
        """The inputs of one task, in declared order, each path once."""
        if key not in self._cache:
            found: dict[str, Input] = {}
            for item in self._find(key):
                found.setdefault(item.path, item)
            self._cache[key] = tuple(found.values())
        return self._cache[key]

    def _find(self, key: Key) -> Iterator[Input]:
        resource = self._manifest.resources[key.resource]
        task = resource.fields_on(key.machine)
        if not isinstance(task, Task):
            return
        if not task.inputs:
            for up in self._graph.before[key]:
                yield from self._outputs(up)
            return
        references = {ref.text: ref for ref in resource.depends_on if ref.text in task.inputs}
        for text in task.inputs:
            if text in references:
                ref = references[text]
                for up in self._graph.before[key]:
                    if up.resource == ref.resource and ref.machine in (None, up.machine):
                        yield from self._outputs(up, ref.output)
            else:
                yield self._path(text, key)

    def _outputs(self, up: Key, name: str | None = None) -> Iterator[Input]:
        fields = self._manifest.resources[up.resource].fields_on(up.machine)
        if isinstance(fields, Task):
            for output in fields.outputs:
                if not output.volatile and (name is None or name in output.names):
                    yield Input(output.path, up, whole=True)

    def _path(self, text: str, key: Key) -> Input:
        path = PurePosixPath(self._relative(text))
        for candidate in (path, *path.parents):
            producer = self._producers.get((key.machine, str(candidate)))
            if producer is not None and producer != key:
                task = isinstance(self._manifest.resources[producer.resource].fields, Task)
                return Input(text, producer, whole=task and candidate == path)
        return Input(text)

    def _relative(self, path: str) -> str:
        """A path from the project folder where it lies in it, so that both ways of writing it are one."""
        pure, root = PurePosixPath(path), self._manifest.root
        return str(pure.relative_to(root)) if pure.is_relative_to(root) else str(pure)

    @cached_property
    def _producers(self) -> Mapping[tuple[str, str], Key]:
        found: dict[tuple[str, str], Key] = {}
        for resource in self._manifest.resources.values():
            for key in resource.copies():
                fields = resource.fields_on(key.machine)
                if isinstance(fields, File):
                    found[(key.machine, self._relative(fields.path))] = key
                for output in fields.outputs if isinstance(fields, Task) else ():
                    if not output.volatile:
                        found[(key.machine, self._relative(output.path))] = key
        return found

