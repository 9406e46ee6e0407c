"""What a plan needs and this version cannot do: found before anything is looked at. Knows no field by name; reads no state."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from albor_pipeline.errors import Diagnostic, ManifestError
from albor_pipeline.model.manifest import Manifest
from albor_pipeline.model.resource import Key, Resource
from albor_pipeline.resources.task import Task

WAY_OUT = "take out what is not supported, or choose resources that do not need it: --target, --machine, --tag, --group"


def check_supported(manifest: Manifest, keys: Iterable[Key]) -> None:
    """Raise ManifestError naming everything without effect that these resources, their machines or the policy ask for."""
    found = {str(item.span): item for item in _asked(manifest, set(keys))}
    if found:
        *others, last = sorted(found.values(), key=_place)
        raise ManifestError((*others, replace(last, notes=(*last.notes, WAY_OUT))))


def _asked(manifest: Manifest, keys: set[Key]) -> Iterator[Diagnostic]:
    yield from manifest.policy.not_yet
    for name in {key.machine for key in keys} & manifest.machines.keys():
        yield from manifest.machines[name].not_yet
    for name in {key.resource for key in keys}:
        yield from manifest.resources[name].not_yet
    for key in keys:
        if not manifest.machines[key.machine].is_local:
            yield from _elsewhere(manifest, manifest.resources[key.resource], key)


def _elsewhere(manifest: Manifest, resource: Resource, key: Key) -> Iterator[Diagnostic]:
    """What needs the project's code or an environment of its own, on a machine that has neither yet."""
    task = resource.fields_on(key.machine)
    if resource.kind == "python_env":
        yield _not_there(resource, key, "type", f"`{resource.id}`, a python_env,")
    if not isinstance(task, Task):
        return
    if task.stage is not None:
        yield _not_there(resource, key, "stage", f"`{resource.id}`, a stage,")
    elif task.python is not None and task.python in manifest.resources:
        yield _not_there(resource, key, "python", f"`{resource.id}` with `python: {task.python}`")


def _not_there(resource: Resource, key: Key, field: str, what: str) -> Diagnostic:
    message = f"{what} is on {key.machine}, and code and environments are not sent to other machines yet"
    notes = ("put it on a machine with `addr: localhost`, or give a `command` that uses what lies on that machine",)
    return Diagnostic("error", "not-supported", message, resource.spans.get(field) or resource.span, notes=notes)


def _place(item: Diagnostic) -> tuple[str, int, int]:
    return (item.span.source.name, item.span.line, item.span.column) if item.span is not None else ("", 0, 0)
