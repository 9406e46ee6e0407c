"""Paths against paths: outputs that are the same or nested, and inputs inside one's own outputs. Looks at declarations only, at no disk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from posixpath import dirname
from typing import NamedTuple

from albor_pipeline.errors import Problems, Span
from albor_pipeline.model.resource import Key, Resource
from albor_pipeline.resources.file import File
from albor_pipeline.resources.places import MAGIC, Place, Places, fixed, folders, overlaps, parts
from albor_pipeline.resources.task import Task

FILES = ("file", "wasm_bundle")
FROM = ("content", "source")
SAME = ("state", *FROM, "target", "mode", "owner", "group")
MAX_COMPARED = 100_000  # globs against other paths in one manifest; thousands of them in one folder would take minutes


class _Made(NamedTuple):
    """An output as declared; its place in the file is looked up only when it must be told."""

    key: Key
    text: str
    resource: Resource
    number: int

    @property
    def span(self) -> Span | None:
        return self.resource.spans.get(f"outputs.{self.number}", self.resource.span)


def check_outputs(resources: Mapping[str, Resource], places: Places, problems: Problems) -> None:
    """Note two tasks whose outputs are the same or nested in one place, an input in one's own outputs, a file declared in two ways."""
    taken = _Taken()
    files: dict[Place, tuple[Resource, File]] = {}
    for resource in resources.values():
        for key in resource.copies():
            task = resource.fields_on(key.machine)
            if isinstance(task, File) and resource.kind in FILES:
                first, declared = files.setdefault(places.of(key.machine, task.path), (resource, task))
                fields = () if first is resource else _contradict(declared, task)
                if fields:
                    _note_same_file(resource, first, task.path, fields[0], problems)
            if not isinstance(task, Task):
                continue
            for index, output in enumerate(task.outputs):
                made = _Made(key, output.path, resource, index)
                place = places.of(key.machine, output.path)
                other = taken.clash(place, key)
                if other is not None:
                    _note(made, other, taken.same(place, other), problems)
                taken.add(place, made)
            _check_inputs(resource, key, task, places, problems)


class _Taken:
    """The outputs seen so far, by place, by the folders above them, and the globs by their part without a wildcard."""

    def __init__(self) -> None:
        self._at: dict[Place, _Made] = {}
        self._below: dict[Place, list[Place]] = {}
        self._globs: dict[Place, list[Place]] = {}
        self._left = MAX_COMPARED
        self._folder = ""
        self._folders: tuple[str, ...] = ()

    def add(self, place: Place, made: _Made) -> None:
        if place in self._at:
            return
        self._at[place] = made
        machine, path = place
        for folder in self._above(path):
            self._below.setdefault((machine, folder), []).append(place)
        if MAGIC & set(path):
            self._globs.setdefault((machine, fixed(path)), []).append(place)

    def clash(self, place: Place, key: Key) -> _Made | None:
        """An output of another task that surely is, holds or lies in this one."""
        for near in self._near(place):
            made = self._at.get(near)
            if made is not None and made.key.resource != key.resource and overlaps(parts(near[1]), parts(place[1])):
                return made
            if made is not None and made.key != key and near == place:
                return made
        return None

    def same(self, place: Place, made: _Made) -> bool:
        return self._at.get(place) is made

    def _near(self, place: Place) -> Iterator[Place]:
        machine, path = place
        yield place
        for folder in self._above(path):
            yield machine, folder
            if self._globs:
                yield from self._some(self._globs.get((machine, folder), ()))
        yield from self._some(self._below.get((machine, fixed(path)), ()))

    def _above(self, path: str) -> tuple[str, ...]:
        """The folders above a path; those of a path in the same folder as the last one are known."""
        folder = dirname(path)
        if folder != self._folder or not folder:
            self._folder, self._folders = folder, tuple(folders(path))
        return self._folders

    def _some(self, places: Sequence[Place]) -> Sequence[Place]:
        chosen = places[: max(self._left, 0)] if len(places) > 1 else places
        self._left -= len(chosen)
        return chosen


def _note(made: _Made, other: _Made, same: bool, problems: Problems) -> None:
    what = "is also an output of" if same else f"overlaps `{other.text}`, an output of"
    whom = other.key.resource if other.key.resource != made.key.resource else str(other.key)
    line = f", declared at line {other.span.line}" if other.span is not None else ""
    problems.error("output-overlap", f"output `{made.text}` of `{made.key.resource}` {what} `{whom}`{line}", made.span)


def _contradict(one: File, two: File) -> tuple[str, ...]:
    """The fields that cannot both be as two declarations of one file say; what only one of them names is no contradiction."""
    pairs = ((name, getattr(one, name), getattr(two, name)) for name in SAME)
    several = len({name for name in FROM for each in (one, two) if getattr(each, name) is not None}) > 1
    return (*(name for name, first, second in pairs if None not in (first, second) and first != second), *(FROM if several else ()))


def _note_same_file(resource: Resource, first: Resource, path: str, field: str, problems: Problems) -> None:
    message = f"`{resource.id}` and `{first.id}` are one file, `{path}`, with another `{field}`: each would undo what the other one did"
    note = f"`{first.id}` is declared at {first.span}; leave one of them, or let both say the same"
    problems.error("same-file", message, resource.spans.get(field, resource.spans.get("path", resource.span)), "", (note,))


def _check_inputs(resource: Resource, key: Key, task: Task, places: Places, problems: Problems) -> None:
    references = {ref.text for ref in resource.depends_on}
    outputs = [(output.path, places.of(key.machine, output.path)) for output in task.outputs] if task.inputs else []
    for index, word in enumerate(task.inputs):
        if word in references:
            continue
        machine, path = places.of(key.machine, word)
        lies = (text for text, place in outputs if place[0] == machine and overlaps(parts(place[1]), parts(path)))
        inside = next(lies, None)
        if inside is not None:
            message = f"input `{word}` of `{resource.id}` and its own output `{inside}` lie in one another"
            note = "what a task reads must not change while it runs; its own saved state belongs in $ALBOR_WORK"
            span = resource.spans.get(f"inputs.{index}", resource.span)
            problems.error("input-in-output", message, span, "", (note,))
