"""Makers: which resource makes a path, a folder that holds it, or something in it. Looks at declarations only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from albor_pipeline.model.resource import Key
from albor_pipeline.resources.places import MAGIC, Place, fixed, folders, meets, parts


class Makers:
    """An index over places and what makes each."""

    def __init__(self, producers: Mapping[Place, Key]) -> None:
        self._producers = producers
        self._inside: dict[Place, list[str]] = {}
        self._globs: dict[Place, list[str]] = {}
        for machine, path in producers:
            for folder in folders(path):
                self._inside.setdefault((machine, folder), []).append(path)
            if MAGIC & set(path):
                self._globs.setdefault((machine, fixed(path)), []).append(path)

    def of(self, place: Place) -> tuple[Key, ...]:
        """The makers of a place, those of the folders above it first."""
        machine, path = place
        above = list(folders(path))
        found = {maker: None for folder in (path, *above) if (maker := self._producers.get((machine, folder))) is not None}
        for made in self._near(machine, path, above):
            if meets(parts(path), parts(made)):
                found[self._producers[machine, made]] = None
        return tuple(found)

    def _near(self, machine: str, path: str, above: Iterable[str]) -> list[str]:
        near = list(self._inside.get((machine, fixed(path)), ()))
        for folder in above:
            near += self._globs.get((machine, folder), ())
        return near
