"""The kinds that exist, by the name that `type:` takes. Knows nothing else."""

from __future__ import annotations

from collections.abc import Mapping

from albor_pipeline.resources.base import Kind
from albor_pipeline.resources.task import TaskKind

KINDS: Mapping[str, Kind] = {kind.name: kind for kind in (TaskKind(),)}
