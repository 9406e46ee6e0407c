"""The kinds that exist, by the name that `type:` takes; each is imported when it is first asked for. Knows nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module

from albor_pipeline.resources.base import Convergent, Kind
from albor_pipeline.resources.declared import Declared
from albor_pipeline.resources.fields import Fields

CLASSES = {
    "task": "TaskKind",
    "file": "FileKind",
    "python_env": "PythonEnvKind",
    "package": "PackageKind",
    "service": "ServiceKind",
    "mount": "MountKind",
    "user": "UserKind",
    "docker": "DockerKind",
    "pepita": "Pepita",
    "network": "NetworkKind",
    "cron": "CronKind",
    "recipe": "Recipe",
    "model": "ModelKind",
    "gpu": "GpuKind",
    "wasm_bundle": "WasmBundleKind",
    "image": "Image",
    "build": "Build",
    "github_release": "GithubReleaseKind",
}


class _Kinds(Mapping[str, Kind]):
    """The class of a kind is in the module of its name; a class of fields alone is a kind that is only declared."""

    def __init__(self) -> None:
        self._made: dict[str, Kind] = {}

    def __getitem__(self, name: str) -> Kind:
        if name not in self._made:
            class_name = CLASSES[name]
            made = getattr(import_module(f"albor_pipeline.resources.{name}"), class_name)
            self._made[name] = Declared(name, made) if issubclass(made, Fields) else made()
        return self._made[name]

    def __contains__(self, name: object) -> bool:
        return name in CLASSES

    def __iter__(self) -> Iterator[str]:
        return iter(CLASSES)

    def __len__(self) -> int:
        return len(CLASSES)


KINDS: Mapping[str, Kind] = _Kinds()


def convergent(name: str) -> Convergent:
    """The kind of that name that is probed and converged; KeyError for any other name."""
    kind = KINDS[name]
    if not isinstance(kind, Convergent):
        raise KeyError(name)
    return kind
