"""The kinds that exist, by the name that `type:` takes. Knows nothing else."""

from __future__ import annotations

from collections.abc import Mapping

from albor_pipeline.resources.base import Convergent, Kind
from albor_pipeline.resources.build import Build
from albor_pipeline.resources.cron import Cron
from albor_pipeline.resources.declared import Declared
from albor_pipeline.resources.docker import Docker
from albor_pipeline.resources.file import File, FileKind
from albor_pipeline.resources.github_release import GithubRelease
from albor_pipeline.resources.gpu import Gpu
from albor_pipeline.resources.image import Image
from albor_pipeline.resources.model import ModelKind
from albor_pipeline.resources.mount import Mount
from albor_pipeline.resources.network import Network
from albor_pipeline.resources.package import PackageKind
from albor_pipeline.resources.pepita import Pepita
from albor_pipeline.resources.python_env import PythonEnvKind
from albor_pipeline.resources.recipe import Recipe
from albor_pipeline.resources.service import Service
from albor_pipeline.resources.task import TaskKind
from albor_pipeline.resources.user import User

_CONVERGENT: Mapping[str, Convergent] = {kind.name: kind for kind in (FileKind(), ModelKind(), PackageKind(), PythonEnvKind())}
_DECLARED: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Declared("service", Service),
        Declared("mount", Mount),
        Declared("user", User),
        Declared("docker", Docker),
        Declared("pepita", Pepita),
        Declared("network", Network),
        Declared("cron", Cron),
        Declared("recipe", Recipe),
        Declared("gpu", Gpu),
        Declared("wasm_bundle", File),
        Declared("image", Image),
        Declared("build", Build),
        Declared("github_release", GithubRelease),
    )
}
KINDS: Mapping[str, Kind] = {TaskKind.name: TaskKind(), **_CONVERGENT, **_DECLARED}


def convergent(name: str) -> Convergent:
    """The kind of that name that is probed and converged; KeyError for any other name."""
    return _CONVERGENT[name]
