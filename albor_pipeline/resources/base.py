"""Kind: what a resource type must offer. Knows no kind in particular; the registry lists them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Protocol

from albor_pipeline.agent.hashing import digest_bytes
from albor_pipeline.errors import ManifestError, Span
from albor_pipeline.model.manifest import Machine
from albor_pipeline.model.observed import Observation
from albor_pipeline.model.resource import Resource
from albor_pipeline.resources.fields import Fields, keys_of
from albor_pipeline.resources.shell import Script, lines

Item = dict[str, Any]
SH_TIMEOUT_S = 60.0


class Kind(Protocol):
    """A resource type; `shown` are the keys that a diagnostic names, `names` maps another spelling to the field."""

    @property
    def name(self) -> str: ...
    @property
    def noun(self) -> str: ...
    @property
    def model(self) -> type[Fields]: ...
    @property
    def names(self) -> Mapping[str, str]: ...
    @property
    def shown(self) -> tuple[str, ...]: ...

    def defaults(self, name: str) -> Mapping[str, Any]:
        """Field values that depend on the resource's name, used where the manifest has none."""


@dataclass(frozen=True)
class Instance:
    """One resource on one machine, with the project folder that its `source` and the like are read from.

    `secret`: its content holds one. `deep`: what is costly to look at is looked at too. `gpu_needed`: a task that uses it needs a GPU.
    `lineage` keys the digests of what may be secret: the same value elsewhere has another. `before` are the values that it was proven with
    last, and `ours` names of what is inside it those that we made, None for all.
    `memo` is for its kind, to read what it needs once. `looked_for` is told each path of the project that is looked at; one of a
    folder whose names count ends with `/`.
    """

    resource: Resource
    machine: Machine
    root: Path
    secret: bool = False
    deep: bool = False
    gpu_needed: bool = False
    lineage: str = ""
    before: Mapping[str, str] = field(default_factory=dict)
    ours: frozenset[str] | None = None
    memo: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)
    looked_for: set[str] = field(default_factory=set, compare=False, repr=False)

    @cached_property
    def fields(self) -> Any:
        """The typed fields of this copy."""
        return self.resource.fields_on(self.machine.name)

    def place(self, field: str) -> Span | None:
        """Where a field stands in the manifest, else the resource."""
        return self.resource.spans.get(field, self.resource.span)

    def read(self, field: str, path: str) -> bytes:
        """The bytes of a file of the project that a field names; ManifestError with its place when it cannot be read."""
        self.looked_for.add(path)
        try:
            return (self.root / path).read_bytes()
        except OSError as error:
            reason = (error.strerror or "cannot be read").lower()
            message = f"`{self.resource.id}` reads `{path}`: {reason}"
            raise ManifestError.of("unreadable", message, span=self.place(field)) from None


@dataclass(frozen=True)
class Brought:
    """What converging puts at a path of the machine: bytes, None where nobody can tell before. Of one `name` a machine gets one."""

    path: str
    size_bytes: int | None
    name: str = ""


class Lack(str):
    """What stands against converging until a package resource brings it: nothing where one of the plan does so before."""

    __slots__ = ()


class Described:
    """What kinds have in common that differ in nothing but their fields."""

    @property
    def noun(self: Kind) -> str:
        """The type's own name."""
        return self.name

    @property
    def shown(self: Kind) -> tuple[str, ...]:
        """Every key of the model."""
        return keys_of(self.model)

    def defaults(self, name: str) -> Mapping[str, Any]:
        """None: nothing depends on the resource's name."""
        return {}


class Convergent(Described, ABC):
    """Base of the kinds that describe a state of the machine: it is probed, compared and brought about.

    Probe items and operations are mappings that the agent understands. Items: `{"op": "stat", "path"}`, `{"op": "tree", "path"}`,
    `{"op": "sh", "script", "timeout_s"}` and so on; equal items of one machine are asked once. Operations have a `verb`: `put` (path,
    type, data, target, mode, owner, group) or `sh` (script, timeout_s), and are done in order until one fails.
    """

    name: ClassVar[str]
    model: ClassVar[type[Fields]]
    names: ClassVar[Mapping[str, str]] = {}
    placed: ClassVar[tuple[str, ...]] = ("path",)
    """The fields that say which thing it is: with another value it is another thing, and the one before is not ours to change."""
    many: ClassVar[bool] = False
    """Whether each value is a thing of its own, as each of several packages is: some may have been there before."""
    precious: ClassVar[tuple[str, ...]] = ()
    """Values that cannot be had back once they are replaced; a plan that replaces one that we did not write is asked about."""
    exclusive: ClassVar[str] = ""
    """Operations with the same word here are done one after the other on a machine: what they change has no lock of its own."""

    def identity(self, fields: Any) -> dict[str, str]:
        """Which thing of its type on a machine it is, by the fields that say so."""
        found = {name: getattr(fields, name, None) for name in self.placed}
        return {name: str(value) for name, value in found.items() if value is not None}

    @abstractmethod
    def probes(self, one: Instance) -> list[Item]:
        """The agent's probe items that show the present state."""

    @abstractmethod
    def observe(self, one: Instance, results: Sequence[Mapping[str, Any]]) -> Observation:
        """What the results of `probes` say, in the order of the items; never raises on odd results."""

    @abstractmethod
    def wanted(self, one: Instance) -> Mapping[str, str]:
        """The values that must be observed, by the same names and in the same form as Observation.values.

        May read files of the project below its root; raises ManifestError when one is not there.
        """

    @abstractmethod
    def converge(self, one: Instance, observed: Observation) -> list[Item]:
        """The operations that bring the wanted state about: only what differs from what was observed."""

    def was_there(self, observed: Observation, wanted: Mapping[str, str]) -> bool:
        """Whether something that exists and is not as wanted was there before us, so that it stays when ours is taken away."""
        return observed.exists

    def made(self, one: Instance, observed: Observation) -> list[str]:
        """The names of what is inside it and ours, when what was observed is brought to what is wanted."""
        return []

    def leaves(self, one: Instance, observed: Observation) -> list[str]:
        """What is declared no more and stays all the same, a sentence each."""
        return []

    def again(self, one: Instance, observed: Observation) -> list[Item]:
        """The operations that do it once more although nothing differs, because a resource that triggers it changed."""
        return self.converge(one, Observation(False))

    @abstractmethod
    def remove(self, one: Instance) -> list[Item]:
        """The operations that take the thing away; nothing is left of it, and nothing else is touched."""

    def forecasts(self, one: Instance, observed: Observation) -> list[Item]:
        """Probe items that say whether converging can work at all; for `provision plan`."""
        return []

    def forecast(self, one: Instance, observed: Observation, results: Sequence[Mapping[str, Any]]) -> Sequence[str]:
        """What the results of `forecasts` say against it, a sentence each."""
        return []

    def weighs(self, one: Instance, observed: Observation) -> list[Item]:
        """Probe items that say how much converging would bring; for `provision plan`."""
        return []

    def brings(self, one: Instance, observed: Observation, results: Sequence[Mapping[str, Any]]) -> list[Brought]:
        """What converging would put on the machine: the files that are sent, and what the results of `weighs` say of the rest."""
        return sent(self.converge(one, observed))


def sent(operations: Sequence[Item]) -> list[Brought]:
    """The files that operations bring along."""
    return [Brought(each["path"], len(each["data"])) for each in operations if each.get("data")]


def keyed(one: Instance, value: str) -> str:
    """The digest of something that may be secret, as it may be shown and recorded."""
    return digest_bytes(f"{one.lineage} {value}".encode("utf-8", "surrogateescape"))


def sh(*commands: Script, timeout_s: float = SH_TIMEOUT_S) -> Item:
    """The operation that runs commands one after the other; the first that fails ends it."""
    return {"verb": "sh", "script": str(lines(*commands)), "timeout_s": timeout_s}


def look(*commands: Script, timeout_s: float = SH_TIMEOUT_S) -> Item:
    """The probe item that runs commands one after the other; its result has exit, stdout and stderr."""
    return {"op": "sh", "script": str(lines(*commands)), "timeout_s": timeout_s}


def probe_error(result: Mapping[str, Any]) -> str:
    """The sentence of a probe result that is an error."""
    error = result.get("error")
    return str(error.get("message", error)) if isinstance(error, Mapping) else "the probe gave no answer"
