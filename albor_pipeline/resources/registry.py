"""The kinds that exist, by the name that `type:` takes. Knows nothing else."""

from __future__ import annotations

from collections.abc import Mapping

from albor_pipeline.resources.base import Convergent, Kind
from albor_pipeline.resources.file import FileKind
from albor_pipeline.resources.python_env import PythonEnvKind
from albor_pipeline.resources.task import TaskKind

_CONVERGENT: Mapping[str, Convergent] = {kind.name: kind for kind in (FileKind(), PythonEnvKind())}
KINDS: Mapping[str, Kind] = {TaskKind.name: TaskKind(), **_CONVERGENT}


def convergent(name: str) -> Convergent:
    """The kind of that name that is probed and converged; KeyError for a task or an unknown name."""
    return _CONVERGENT[name]
