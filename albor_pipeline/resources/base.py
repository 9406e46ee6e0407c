"""Kind: what a resource type must offer. Knows no kind in particular; the registry lists them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

from albor_pipeline.model.manifest import Machine
from albor_pipeline.model.observed import Observation
from albor_pipeline.model.resource import Resource
from albor_pipeline.resources.fields import Fields

Item = dict[str, Any]
ABSENT = "absent"


class Kind(Protocol):
    """A resource type; `shown` are the keys that a diagnostic names, `names` maps another spelling to the field."""

    name: ClassVar[str]
    noun: ClassVar[str]
    model: ClassVar[type[Fields]]
    converges: ClassVar[bool]
    names: ClassVar[Mapping[str, str]]
    shown: ClassVar[tuple[str, ...]]


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
        """The agent operations that bring the wanted state about, in order; each has a `verb`."""

    def remove(self, resource: Resource, machine: Machine) -> list[Item]:
        """The agent operations that take the thing away."""
