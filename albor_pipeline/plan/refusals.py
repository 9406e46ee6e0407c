"""What a plan needs and this version cannot do: found before anything is looked at. Knows no field by name; reads no state."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from albor_pipeline.errors import Diagnostic, ManifestError
from albor_pipeline.model.manifest import Manifest
from albor_pipeline.model.resource import Key

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


def _place(item: Diagnostic) -> tuple[str, int, int]:
    return (item.span.source.name, item.span.line, item.span.column) if item.span is not None else ("", 0, 0)
