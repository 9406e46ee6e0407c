"""What a kind says of a recorded answer: the same for what is kept as for what is recorded anew, whatever the tool's version."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from resources.test_cases import resource_of

from albor_pipeline.resources.registry import convergent

Verdict = tuple[bool, str | None, dict[str, str]]


def verdict(found: dict[str, Any], root: Path) -> Verdict:
    """Whether it is there, what could not be told, and what is seen."""
    kind = convergent(found["kind"])
    seen = kind.observe(resource_of(found, found["kind"], root), found["probe"])
    return seen.exists, seen.error, dict(seen.values)


def as_made(found: dict[str, Any], root: Path) -> Verdict:
    """The verdict on a thing that was made as it is declared."""
    return True, None, dict(convergent(found["kind"]).wanted(resource_of(found, found["kind"], root)))
