"""Reads a JSON object from a file and trusts nothing in it; knows no schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from stages.lib.stage import StageError


def read_object(path: Path) -> dict[str, Any]:
    """The object in `path`. StageError when it is missing, not JSON, not an object, or has one key twice."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_once_each)
    except OSError as fault:
        raise StageError(f"cannot read {path}: {fault.strerror}") from None
    except ValueError as fault:
        raise StageError(f"{path} is not good JSON: {fault}") from None
    if not isinstance(value, dict):
        raise StageError(f"{path} holds no JSON object")
    return value


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = sorted({key for key, _ in pairs if sum(key == other for other, _ in pairs) > 1})
        raise ValueError(f"key {', '.join(twice)} stands there twice")
    return found
