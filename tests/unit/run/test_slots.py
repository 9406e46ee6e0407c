"""Slots of a machine: never more given than there is, a task that is larger than its machine runs alone, GPUs are told apart."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from albor_pipeline.model.manifest import Slots
from albor_pipeline.model.resource import Key
from albor_pipeline.run.slots import MachineSlots

NEEDS = st.builds(Slots, gpu=st.integers(0, 1), cpu=st.integers(1, 3), memory_bytes=st.sampled_from([0, 0, 30, 70]))


def key(number: int) -> Key:
    return Key(f"t{number}", "m")


@given(st.lists(st.tuples(NEEDS, st.booleans()), min_size=3, max_size=12))
def test_what_is_held_at_once_fits_the_machine_or_is_alone(asked: list[tuple[Slots, bool]]) -> None:
    machine = MachineSlots(Slots(gpu=2, cpu=4, memory_bytes=64))
    for number, (needs, ends) in enumerate(asked):
        if machine.take(key(number), needs) and ends:
            machine.give_back(key(number))
        held = list(machine.held.values())
        assert len(held) <= 1 or sum(slots.cpu for slots in held) <= 4
        assert len(held) <= 1 or sum(slots.memory_bytes for slots in held) <= 64
        assert sum(slots.gpu for slots in held) <= 2


def test_a_task_larger_than_the_machine_waits_until_it_is_alone() -> None:
    machine = MachineSlots(Slots(cpu=2))
    assert machine.take(key(1), Slots(cpu=1))
    assert not machine.take(key(2), Slots(cpu=16))
    machine.give_back(key(1))
    assert machine.take(key(2), Slots(cpu=16))
    assert not machine.take(key(3), Slots(cpu=1))


def test_two_tasks_that_name_one_card_are_never_there_together() -> None:
    machine = MachineSlots(Slots(gpu=2, cpu=4))
    assert machine.take(key(1), Slots(gpu=1, gpu_device=0))
    assert not machine.take(key(2), Slots(gpu=1, gpu_device=0)) and machine.take(key(3), Slots(gpu=1, gpu_device=1))
    machine.give_back(key(1))
    assert machine.take(key(2), Slots(gpu=1, gpu_device=0))


def test_one_that_the_machine_sent_away_leaves_its_slots_to_others_and_waits() -> None:
    machine = MachineSlots(Slots(gpu=1, cpu=2))
    assert machine.take(key(1), Slots(gpu=1, cpu=2))
    machine.refuse(key(1))
    assert machine.take(key(2), Slots(cpu=2)) and not machine.has_room(key(1), Slots(gpu=1))
    machine.give_back(key(2))
    assert not machine.has_room(key(1), Slots(gpu=1))
    del machine.refused[key(1)]
    assert machine.take(key(1), Slots(gpu=1))
