"""Context: where a resource is declared: at the top of a manifest, or inside an instance of a recipe. Data only."""

from __future__ import annotations

from dataclasses import dataclass

from albor_pipeline.errors import Span
from albor_pipeline.manifest.conditions import Condition
from albor_pipeline.manifest.scope import Scope


@dataclass(frozen=True)
class Context:
    """What the instances around a resource add to it; `prefix` is its name space (`web/`), empty at the top.

    `machines` takes the place of its own, `outer` is what the instances depend on (word, name space, place), and `files`
    are the recipe files from the outermost to this one.
    """

    scope: Scope
    prefix: str = ""
    machines: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    group: str | None = None
    conditions: tuple[Condition, ...] = ()
    outer: tuple[tuple[str, str, Span], ...] = ()
    files: tuple[str, ...] = ()
