"""Slots: what each machine can still give to tasks of this run. Counts only; what all pipelines hold is the agent's to say."""

from __future__ import annotations

from dataclasses import dataclass, field

from albor_pipeline.model.manifest import Slots
from albor_pipeline.model.resource import Key


@dataclass
class MachineSlots:
    """One machine's slots; a task that needs more than the whole machine may run alone.

    `refused` are those that the machine itself sent away because other pipelines hold what they need.
    """

    total: Slots
    held: dict[Key, Slots] = field(default_factory=dict)
    refused: dict[Key, Slots] = field(default_factory=dict)

    def take(self, key: Key, needs: Slots) -> bool:
        """Give `key` its slots; False when it must wait."""
        if not self.has_room(key, needs):
            return False
        self.held[key] = needs
        return True

    def has_room(self, key: Key, needs: Slots) -> bool:
        """True when `key`, with these needs, may start now."""
        if key in self.refused:
            return False
        used = list(self.held.values())
        if needs.gpu_device is not None and any(slots.gpu_device == needs.gpu_device for slots in used):
            return False
        fits = (
            sum(slots.gpu for slots in used) + needs.gpu <= self.total.gpu
            and sum(slots.cpu for slots in used) + needs.cpu <= self.total.cpu
            and sum(slots.memory_bytes for slots in used) + needs.memory_bytes <= self.total.memory_bytes
        )
        return fits or not used

    def refuse(self, key: Key) -> None:
        """The machine sent the task away: it waits until look() finds room."""
        self.refused[key] = self.held.pop(key)

    def give_back(self, key: Key) -> None:
        """The task is over."""
        self.held.pop(key, None)
