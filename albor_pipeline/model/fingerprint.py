"""Fingerprint: the named parts of a resource that decide whether it must run again. Knows no files and no digest code.

A part is a group (`command`, `config`, `code`, `env`, `python`, `inputs`, `fields`) and, inside it, names with a short text:
the value itself where it is short and public, a digest where it is not. Equal parts mean equal work; two fingerprints
are compared part by part, so the reason for a re-run is the comparison itself and cannot be wrong.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

Parts = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class PartChange:
    """One part that differs; None on a side means that the part is absent there."""

    group: str
    name: str
    old: str | None
    new: str | None

    @property
    def label(self) -> str:
        """`config.optimizer.lr`, `input data/mixed`, `code stages/export.py`, `command`."""
        if self.group == "config":
            return f"config.{self.name}"
        if not self.name:
            return self.group
        return f"{ {'inputs': 'input', 'fields': 'field'}.get(self.group, self.group) } {self.name}"


@dataclass(frozen=True)
class Fingerprint:
    """Named parts; `unknown` lists the parts whose value is not known yet (an input that an earlier step makes)."""

    parts: Parts
    unknown: tuple[str, ...] = ()

    @cached_property
    def canonical(self) -> bytes:
        """The bytes whose digest names this fingerprint: canonical JSON of the parts."""
        return json.dumps(self.parts, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()

    def digest(self, hasher: Callable[[bytes], str]) -> str:
        """The hex digest of the parts, by the one digest function of agent/hashing.py."""
        return hasher(self.canonical)

    def changes(self, old: Fingerprint) -> tuple[PartChange, ...]:
        """Every part that differs from `old`, in the order group, name; unknown parts of self are left out."""
        return () if self.parts == old.parts else tuple(self._changes(old))

    def _changes(self, old: Fingerprint) -> Iterator[PartChange]:
        for group in sorted({*self.parts, *old.parts}):
            mine, theirs = self.parts.get(group, {}), old.parts.get(group, {})
            for name in sorted({*mine, *theirs}):
                if mine.get(name) != theirs.get(name) and name not in self.unknown:
                    yield PartChange(group, name, theirs.get(name), mine.get(name))
