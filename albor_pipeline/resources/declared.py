"""Declared: a kind whose fields are read and checked, and which cannot be brought about yet. Knows no kind in particular."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from albor_pipeline.resources.fields import Fields, keys_of


@dataclass(frozen=True)
class Declared:
    """The kind `name` with the fields of `model`; a plan that needs it is refused by name."""

    name: str
    model: type[Fields]
    names: Mapping[str, str] = field(default_factory=dict)

    @property
    def noun(self) -> str:
        """The type's own name."""
        return self.name

    @property
    def shown(self) -> tuple[str, ...]:
        """Every key of the model."""
        return keys_of(self.model)

    def defaults(self, name: str) -> Mapping[str, Any]:
        """None: nothing depends on the resource's name."""
        return {}
