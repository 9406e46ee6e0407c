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
        gpus = machine.take(key(number), needs)
        if gpus is not None and ends:
            machine.give_back(key(number))
        held = list(machine.held.values())
        assert len(held) <= 1 or sum(slots.cpu for slots, _ in held) <= 4
        assert len(held) <= 1 or sum(slots.memory_bytes for slots, _ in held) <= 64
        given_out = [gpu for _, gpus in held for gpu in gpus]
        assert len(set(given_out)) == len(given_out) and set(given_out) <= {0, 1}


def test_gpus_are_given_by_number_and_come_back() -> None:
    machine = MachineSlots(Slots(gpu=2, cpu=8))
    assert machine.take(key(1), Slots(gpu=1)) == (0,)
    assert machine.take(key(2), Slots(gpu=2)) is None
    assert machine.take(key(3), Slots(gpu=1)) == (1,)
    machine.give_back(key(1))
    assert machine.take(key(4), Slots(gpu=1)) == (0,)
    machine.give_back(key(9))


def test_a_task_larger_than_the_machine_waits_until_it_is_alone() -> None:
    machine = MachineSlots(Slots(cpu=2))
    assert machine.take(key(1), Slots(cpu=1)) == ()
    assert machine.take(key(2), Slots(cpu=16)) is None
    machine.give_back(key(1))
    assert machine.take(key(2), Slots(cpu=16)) == ()
    assert machine.take(key(3), Slots(cpu=1)) is None
