"""Resource: one declared thing on one machine, and its key. Knows no kind in particular."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from albor_pipeline.errors import Diagnostic, Span


class Key(NamedTuple):
    """A resource on a machine: the node of the graph, the row of the state."""

    resource: str
    machine: str

    def __str__(self) -> str:
        return f"{self.resource}@{self.machine}"


@dataclass(frozen=True)
class Reference:
    """What one resource says of another: `name`, `name@machine`, or `name.output` in a task's inputs; `text` as written."""

    text: str
    resource: str
    machine: str | None = None
    output: str | None = None
    span: Span | None = None


@dataclass(frozen=True)
class Resource:
    """A declared resource; `fields` is the typed model of its kind (resources/<kind>.py), `spans` place each field by its dotted path.

    `store` says that its outputs are kept whatever that costs, `hooks` are the commands on its machine before and after it.
    `triggers` are the resources whose change does this one again, which comes after them; `ignore_drift` names fields whose
    drift is left alone.
    `fields_by_machine` differs from `fields` only where a template names `machine.self` and there are several machines.
    `not_yet` is what is declared and has no effect in this version: a plan that needs the resource is refused with it.
    """

    id: str
    kind: str
    machines: tuple[str, ...]
    fields: Any
    depends_on: tuple[Reference, ...] = ()
    triggers: tuple[Reference, ...] = ()
    tags: tuple[str, ...] = ()
    span: Span | None = None
    spans: Mapping[str, Span] = field(default_factory=dict, repr=False)
    fields_by_machine: Mapping[str, Any] = field(default_factory=dict)
    group: str | None = None
    sudo: bool = False
    store: bool = False
    hooks: Mapping[str, str] = field(default_factory=dict)
    prevent_destroy: bool = False
    ignore_drift: tuple[str, ...] = ()
    not_yet: tuple[Diagnostic, ...] = field(default=(), repr=False)

    def fields_on(self, machine: str) -> Any:
        """The typed fields of the copy on `machine`."""
        return self.fields_by_machine.get(machine, self.fields)

    @property
    def before(self) -> tuple[Reference, ...]:
        """All that comes before it."""
        return (*self.depends_on, *self.triggers)

    def copies(self) -> tuple[Key, ...]:
        """One key for each machine, in the declared order."""
        return tuple(Key(self.id, machine) for machine in self.machines)
