"""Inputs: which paths count for a task, and which earlier task makes each. Looks at declarations only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from itertools import takewhile
from posixpath import dirname, normpath
from typing import Any

from albor_pipeline.model.manifest import Manifest
from albor_pipeline.model.resource import Key, Reference
from albor_pipeline.plan.graph import Graph
from albor_pipeline.resources.file import File
from albor_pipeline.resources.task import Task

MAGIC = frozenset("*?[")


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
        self._root = normpath(manifest.root)
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

    def _path(self, text: str, key: Key) -> Input:
        relative = self._relative(text)
        exact = self._outputs_at.get((key.machine, relative))
        if exact is not None:
            return Input(text, (exact[0],), exact[1])
        folders = list(_folders(relative))
        above = (self._producers.get((key.machine, folder)) for folder in (relative, *folders))
        makers = {maker: None for maker in above if maker is not None}
        near = [*self._inside.get((key.machine, _fixed(relative)), ())]
        near += [glob for folder in folders for glob in self._globs.get((key.machine, folder), ())]
        for made in near:
            if _meets(_parts(relative), _parts(made)):
                makers[self._producers[key.machine, made]] = None
        return Input(text, tuple(makers))

    def _relative(self, path: str) -> str:
        """A path from the project folder where it lies in it, so that both ways of writing it are one."""
        path = normpath(path)
        return path[len(self._root) + 1 :] if path.startswith(self._root + "/") else path

    @cached_property
    def _outputs_at(self) -> Mapping[tuple[str, str], tuple[Key, str]]:
        """The task and the declared text of each output, by machine and path."""
        return {
            (key.machine, self._relative(output.path)): (key, output.path)
            for key, fields in self._declared()
            if isinstance(fields, Task)
            for output in fields.outputs
            if not output.volatile
        }

    @cached_property
    def _producers(self) -> Mapping[tuple[str, str], Key]:
        """What makes each path: a task or a file resource."""
        files = {(key.machine, self._relative(fields.path)): key for key, fields in self._declared() if isinstance(fields, File)}
        return files | {place: key for place, (key, _) in self._outputs_at.items()}

    @cached_property
    def _inside(self) -> Mapping[tuple[str, str], list[str]]:
        """The paths that are made below each folder."""
        found: dict[tuple[str, str], list[str]] = {}
        for machine, path in self._producers:
            for folder in _folders(path):
                found.setdefault((machine, folder), []).append(path)
        return found

    @cached_property
    def _globs(self) -> Mapping[tuple[str, str], list[str]]:
        """The globs that are made, by the folder that their fixed part names."""
        found: dict[tuple[str, str], list[str]] = {}
        for machine, path in self._producers:
            if MAGIC & set(path):
                found.setdefault((machine, _fixed(path)), []).append(path)
        return found

    def _declared(self) -> Iterator[tuple[Key, Any]]:
        for resource in self._manifest.resources.values():
            for key in resource.copies():
                yield key, resource.fields_on(key.machine)


def _folders(path: str) -> Iterator[str]:
    """The folders above a normal path, nearest first; a relative one ends with `.`."""
    above = dirname(path)
    while above and above != path:
        yield above
        path, above = above, dirname(above)
    if not path.startswith("/"):
        yield "."


def _parts(path: str) -> Sequence[str]:
    return () if path == "." else path.split("/")


def _fixed(path: str) -> str:
    """The part of a path before its first wildcard."""
    return normpath("/".join(takewhile(lambda part: not MAGIC & set(part), path.split("/"))) or ("/" if path[:1] == "/" else "."))


def _meets(one: Sequence[str], two: Sequence[str]) -> bool:
    """True when of two paths or globs, as parts, one may mean something at or below the other."""
    if not one or not two or "**" in (one[0], two[0]):
        return True
    both_open = bool(MAGIC & set(one[0])) and bool(MAGIC & set(two[0]))
    same = both_open or fnmatchcase(one[0], two[0]) or fnmatchcase(two[0], one[0])
    return same and _meets(one[1:], two[1:])
