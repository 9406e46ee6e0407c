"""Paths against paths: outputs that are the same or nested, and inputs inside one's own outputs. Looks at declarations only, at no disk."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase

from albor_pipeline.errors import Problems, Span
from albor_pipeline.model.resource import Resource
from albor_pipeline.resources.task import Task

MAGIC = frozenset("*?[")


def _clean(path: str) -> str:
    return posixpath.normpath(path)


def _parents(path: str) -> Iterator[str]:
    while (parent := posixpath.dirname(path)) not in (path, ""):
        yield parent
        path = parent
    if not path.startswith("/") and path != ".":
        yield "."


def _overlap(mine: str, other: str) -> bool:
    """True when one of two clean paths or globs surely lies in the other, or a glob matches the other path."""
    if mine == other:
        return True
    for inner, outer in ((mine, other), (other, mine)):
        if not MAGIC & set(outer) and outer in _parents(inner):
            return True
        if MAGIC & set(outer) and any(fnmatchcase(path, outer) for path in (inner, *_parents(inner))):
            return outer.count("/") <= inner.count("/")
    return False


def check_outputs(resources: Mapping[str, Resource], problems: Problems) -> None:
    """Note two tasks whose outputs are the same or nested on one machine, and a task whose input lies in its own outputs."""
    taken: dict[tuple[str, str], tuple[str, str, Span | None]] = {}
    folders: dict[tuple[str, str], tuple[str, str, Span | None]] = {}
    for resource in resources.values():
        for machine in resource.machines:
            fields = resource.fields_on(machine)
            if not isinstance(fields, Task):
                continue
            for index, output in enumerate(fields.outputs):
                path = _clean(output.path)
                span = resource.spans.get(f"outputs.{index}", resource.span)
                _check_one(resource, machine, path, span, taken, folders, problems)
            _check_inputs(resource, fields, problems)


def _check_one(
    resource: Resource,
    machine: str,
    path: str,
    span: Span | None,
    taken: dict[tuple[str, str], tuple[str, str, Span | None]],
    folders: dict[tuple[str, str], tuple[str, str, Span | None]],
    problems: Problems,
) -> None:
    mine = (resource.id, path, span)
    clash = taken.get((machine, path)) or folders.get((machine, path))
    for parent in _parents(path):
        clash = clash or taken.get((machine, parent))
        folders.setdefault((machine, parent), mine)
    taken.setdefault((machine, path), mine)
    if clash is not None and clash[0] != resource.id:
        other, theirs, place = clash
        what = "is also an output of" if theirs == path else f"overlaps `{theirs}`, an output of"
        line = f", declared at line {place.line}" if place is not None else ""
        problems.error("output-overlap", f"output `{path}` of `{resource.id}` {what} `{other}`{line}", span)


def _check_inputs(resource: Resource, task: Task, problems: Problems) -> None:
    references = {ref.text for ref in resource.depends_on}
    outputs = [_clean(output.path) for output in task.outputs]
    for index, word in enumerate(task.inputs):
        path = _clean(word)
        if word in references:
            continue
        inside = next((output for output in outputs if _overlap(path, output)), None)
        if inside is not None:
            message = f"input `{word}` of `{resource.id}` and its own output `{inside}` lie in one another"
            note = "what a task reads must not change while it runs; its own saved state belongs in $ALBOR_WORK"
            span = resource.spans.get(f"inputs.{index}", resource.span)
            problems.error("input-in-output", message, span, "", (note,))
