"""Declared: a kind whose fields are read and checked, and which cannot be brought about yet. Knows no kind in particular."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from albor_pipeline.resources.base import Described
from albor_pipeline.resources.fields import Fields


@dataclass(frozen=True)
class Declared(Described):
    """The kind `name` with the fields of `model`; a plan that needs it is refused by name."""

    name: str
    model: type[Fields]
    names: Mapping[str, str] = field(default_factory=dict)
