"""Slots: what each machine can still give to tasks. Counts only; the machine-wide claim is the agent's."""

from __future__ import annotations

from dataclasses import dataclass, field

from albor_pipeline.model.manifest import Slots
from albor_pipeline.model.resource import Key


@dataclass
class MachineSlots:
    """One machine's slots; a task that needs more than the whole machine may run alone."""

    total: Slots
    held: dict[Key, tuple[Slots, tuple[int, ...]]] = field(default_factory=dict)

    def take(self, key: Key, needs: Slots) -> tuple[int, ...] | None:
        """The GPU ids given to `key`, or None when it must wait."""
        if not self.has_room(needs):
            return None
        gpus = tuple(self._free_gpus()[: needs.gpu])
        self.held[key] = (needs, gpus)
        return gpus

    def has_room(self, needs: Slots) -> bool:
        """True when a task with these needs may start now."""
        used = [slots for slots, _ in self.held.values()]
        fits = (
            sum(slots.cpu for slots in used) + needs.cpu <= self.total.cpu
            and sum(slots.memory_bytes for slots in used) + needs.memory_bytes <= self.total.memory_bytes
        )
        if not fits and used:
            return False
        return len(self._free_gpus()) >= needs.gpu or (not used and self.total.gpu < needs.gpu)

    def _free_gpus(self) -> list[int]:
        busy = {gpu for _, gpus in self.held.values() for gpu in gpus}
        return [gpu for gpu in range(self.total.gpu) if gpu not in busy]

    def give_back(self, key: Key) -> None:
        """The task is over."""
        self.held.pop(key, None)
