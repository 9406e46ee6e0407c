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
        task = manifest.resources[key.resource].fields_on(key.machine)
        if isinstance(task, Task) and task.stage is not None and not manifest.machines[key.machine].is_local:
            yield _not_sent(manifest.resources[key.resource], key)


def _not_sent(resource: Resource, key: Key) -> Diagnostic:
    message = f"`{resource.id}`, a stage, is on {key.machine}, and code is not sent to other machines yet"
    notes = ("put it on a machine with `addr: localhost`, or give a `command` that uses what lies on that machine",)
    return Diagnostic("error", "not-supported", message, resource.spans.get("stage") or resource.span, notes=notes)


def _place(item: Diagnostic) -> tuple[str, int, int]:
    return (item.span.source.name, item.span.line, item.span.column) if item.span is not None else ("", 0, 0)
