"""Presence: which of some paths exist, seen from the project folder. Reads no file and asks no machine."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from albor_pipeline.model.manifest import Manifest


def present(manifest: Manifest, paths: Iterable[str]) -> frozenset[str]:
    """Those of the paths that exist."""
    root = Path(manifest.root)
    return frozenset(path for path in {*paths} if os.path.lexists(root / path))
