"""Containers that machines are: what a plan says of those that are not there, and which of them go when everything is destroyed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from albor_pipeline.errors import AlborError, Diagnostic, UnreachableError
from albor_pipeline.model.manifest import Container, Machine, Manifest
from albor_pipeline.model.observed import Observed
from albor_pipeline.model.state import State
from albor_pipeline.run.fleet import Fleet
from albor_pipeline.transport.faults import Unusable


def unmade(manifest: Manifest, fleet: Fleet) -> Iterator[Diagnostic]:
    """Of each container that is not there yet what the plan takes it for."""
    for name in sorted(fleet.unmade):
        machine = manifest.machines[name]
        text = f"the container of {name} is not there: `apply` makes it from {_of(machine).image}"
        yield Diagnostic("warning", "not-made", text, machine.span, notes=("until then the plan takes it for an empty machine",))


def of_destroy(manifest: Manifest) -> list[str]:
    """The machines that go themselves when everything is destroyed."""
    return sorted(name for name, machine in manifest.machines.items() if machine.container is not None and machine.container.ephemeral)


def going(manifest: Manifest, fleet: Fleet, observed: Observed) -> tuple[str, ...]:
    """Those of them that are there, were made by this pipeline, and in which nothing of it runs. Raises UnreachableError."""
    from albor_pipeline.plan.undo import LIVE
    from albor_pipeline.transport import engine

    found = []
    for name in of_destroy(manifest):
        if name in fleet.agents and not any(attempt.liveness in LIVE for attempt in observed.machines[name].attempts):
            try:
                seen = engine.look(_of(manifest.machines[name]))
            except Unusable as error:
                raise _unreachable(name, error) from None
            if seen is not None and seen.pipeline == manifest.name:
                found.append(name)
    return tuple(found)


def remove(manifest: Manifest, names: Sequence[str], state: State) -> list[str]:
    """Remove the containers of these machines, but for those of which something is still recorded; what was done, in a line each.

    Raises UnreachableError when an engine does not.
    """
    from albor_pipeline.transport import engine

    said = []
    for name in names:
        if any(key.machine == name for key in state.entries):
            continue
        container = _of(manifest.machines[name])
        try:
            engine.remove(container)
        except Unusable as error:
            raise _unreachable(name, error) from None
        said.append(f"removed the container {container.name}")
    return said


def _unreachable(name: str, error: Unusable) -> AlborError:
    return UnreachableError.of("unreachable", f"{name}: {error.text}", *error.ways)


def _of(machine: Machine) -> Container:
    assert machine.container is not None
    return machine.container
