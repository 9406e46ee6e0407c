"""The kinds that exist, by the name that `type:` takes. Knows nothing else."""

from __future__ import annotations

from collections.abc import Mapping

from albor_pipeline.resources.base import Convergent, Kind
from albor_pipeline.resources.build import Build
from albor_pipeline.resources.cron import CronKind
from albor_pipeline.resources.declared import Declared
from albor_pipeline.resources.docker import DockerKind
from albor_pipeline.resources.file import FileKind
from albor_pipeline.resources.github_release import GithubReleaseKind
from albor_pipeline.resources.gpu import GpuKind
from albor_pipeline.resources.image import Image
from albor_pipeline.resources.model import ModelKind
from albor_pipeline.resources.mount import MountKind
from albor_pipeline.resources.network import NetworkKind
from albor_pipeline.resources.package import PackageKind
from albor_pipeline.resources.pepita import Pepita
from albor_pipeline.resources.python_env import PythonEnvKind
from albor_pipeline.resources.recipe import Recipe
from albor_pipeline.resources.service import ServiceKind
from albor_pipeline.resources.task import TaskKind
from albor_pipeline.resources.user import UserKind
from albor_pipeline.resources.wasm_bundle import WasmBundleKind

KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        TaskKind(),
        FileKind(),
        PythonEnvKind(),
        PackageKind(),
        ServiceKind(),
        MountKind(),
        UserKind(),
        DockerKind(),
        Declared("pepita", Pepita),
        NetworkKind(),
        CronKind(),
        Declared("recipe", Recipe),
        ModelKind(),
        GpuKind(),
        WasmBundleKind(),
        Declared("image", Image),
        Declared("build", Build),
        GithubReleaseKind(),
    )
}
_CONVERGENT: Mapping[str, Convergent] = {name: kind for name, kind in KINDS.items() if isinstance(kind, Convergent)}


def convergent(name: str) -> Convergent:
    """The kind of that name that is probed and converged; KeyError for any other name."""
    return _CONVERGENT[name]
