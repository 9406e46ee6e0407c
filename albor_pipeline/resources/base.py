"""Kind: what a resource type must offer. Knows no kind in particular; the registry lists them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from albor_pipeline.errors import ManifestError, Span
from albor_pipeline.model.manifest import Machine
from albor_pipeline.model.observed import Observation
from albor_pipeline.model.resource import Resource
from albor_pipeline.resources.fields import Fields

Item = dict[str, Any]


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


class Convergent(Kind, Protocol):
    """A kind that describes a state of the machine: it is probed, compared and brought about."""

    def probes(self, resource: Resource, machine: Machine) -> list[Item]:
        """The agent's probe items that show the present state."""

    def observe(self, results: Sequence[Mapping[str, Any]]) -> Observation:
        """What the results of `probes` say, in the order of the items; never raises on odd results."""

    def wanted(self, resource: Resource, machine: Machine, root: Path) -> Mapping[str, str]:
        """The values that must be observed, by the same names and in the same form as Observation.values.

        May read files of the project below `root`; raises ManifestError when one is not there.
        """

    def converge(self, resource: Resource, machine: Machine, root: Path, observed: Observation) -> list[Item]:
        """The agent operations that bring the wanted state about, in order.

        Each has a `verb`: `put` (path, type, data, target, mode, owner, group) or `sh` (script, timeout_s).
        """

    def remove(self, resource: Resource, machine: Machine) -> list[Item]:
        """The agent operations that take the thing away, in the same form."""


def read_project_file(root: Path, path: str, owner: str, span: Span | None) -> bytes:
    """The bytes of a file of the project that a field names; ManifestError with its place when it cannot be read."""
    try:
        return (root / path).read_bytes()
    except OSError as error:
        reason = (error.strerror or "cannot be read").lower()
        raise ManifestError.of("unreadable", f"`{owner}` reads `{path}`: {reason}", span=span) from None


def probe_error(result: Mapping[str, Any]) -> str:
    """The sentence of a probe result that is an error."""
    error = result.get("error")
    return str(error.get("message", error)) if isinstance(error, Mapping) else "the probe gave no answer"
