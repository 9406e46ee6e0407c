"""The line between controller and machine fails in every way: the attempt lives on, and the same command attaches to it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from testbed.bed import Bed
from testbed.conftest import Make
from testbed.machine import Machine
from testbed.network import BRIDGE, Address
from testbed.pipeline import Pipeline

pytestmark = pytest.mark.root
Rows = list[tuple[Any, ...]]
GOES_ON = "the attempt goes on by itself"


def given_up(project: Pipeline, process: Any, why: str) -> None:
    """The controller ends by itself, and says which machine, why, and that nothing is lost."""
    said = project.end(process)
    assert said.exit == 6, said
    assert f"lambda does not answer: {why}" in said.err and GOES_ON in said.err, said


def test_a_cut_that_is_healed_soon_is_not_noticed(project: Pipeline, box: Machine, undisturbed: Rows) -> None:
    process = project.begin()
    box.link.cut()
    project.go()
    time.sleep(1.0)
    box.link.heal()
    said = project.end(process)
    assert said.exit == 0 and "does not answer" not in said.err, said
    project.ends_as(undisturbed)


def test_a_cut_longer_than_the_patience_costs_nothing_but_the_wait(impatient: Pipeline, box: Machine, undisturbed: Rows) -> None:
    process = impatient.begin()
    box.link.cut(carrier=False)
    given_up(impatient, process, "nothing came from it for 3 s")
    box.link.heal()
    impatient.goes_on().ends_as(undisturbed)


def test_a_task_that_ends_behind_the_cut_is_taken_over_as_done(impatient: Pipeline, box: Machine, undisturbed: Rows) -> None:
    process = impatient.begin()
    box.link.cut()
    impatient.go()
    given_up(impatient, process, "nothing came from it for")
    box.link.heal()
    assert impatient.run("apply").exit == 0
    impatient.ends_as(undisturbed)


@pytest.fixture
def roaming(bed: Bed) -> Iterator[Callable[[], None]]:
    """The laptop moves to another address; what it had open is left without a word, as when it changes networks."""
    here, there = f"{bed.desk.address.ip}/24", f"{Address(3).ip}/24"

    def move(old: str = here, new: str = there) -> None:
        bed.desk.do("ip", "addr", "del", old, "dev", BRIDGE)
        bed.desk.do("ip", "addr", "add", new, "dev", BRIDGE)

    yield move
    move(there, here)


@pytest.mark.soak
def test_a_laptop_that_changes_networks_waits_until_its_machine_knows(
    project: Pipeline, roaming: Callable[[], None], undisturbed: Rows
) -> None:
    """Nothing tells the machine that the first controller is gone: its lease ends by silence, and nobody has to type again."""
    process = project.begin()
    roaming()
    project.kill(process)
    project.go()
    again = project.run("apply")
    assert again.exit == 0, again
    project.ends_as(undisturbed)


@pytest.mark.soak
def test_a_connection_of_which_only_one_end_is_left_is_given_up(impatient: Pipeline, box: Machine, undisturbed: Rows) -> None:
    """The machine's end is killed while nothing that it says can arrive, not even a reset."""
    process = impatient.begin()
    box.link.cut()
    box.drop_sessions()
    given_up(impatient, process, "nothing came from it for")
    box.link.heal()
    impatient.goes_on().ends_as(undisturbed)


def test_sessions_that_are_killed_hold_the_step(project: Pipeline, box: Machine, undisturbed: Rows) -> None:
    process = project.begin()
    box.drop_sessions()
    given_up(project, process, "the connection was cut")
    project.goes_on().ends_as(undisturbed)


def test_a_restarted_sshd_does_not_disturb_a_run(project: Pipeline, box: Machine, undisturbed: Rows) -> None:
    process = project.begin()
    box.do("systemctl restart ssh")
    project.go()
    assert project.end(process).exit == 0
    project.ends_as(undisturbed)


@pytest.mark.soak
def test_losses_and_delay_change_nothing_but_the_time(project: Pipeline, box: Machine, undisturbed: Rows) -> None:
    box.link.slow(rtt_ms=40, rate_mbit=20, loss_percent=2)
    process = project.begin()
    project.go()
    assert project.end(process).exit == 0
    project.ends_as(undisturbed)


@pytest.mark.soak
@pytest.mark.parametrize("fault", ["cut", "half open", "frozen"])
def test_the_patience_that_users_have(make: Make, box: Machine, undisturbed: Rows, fault: str) -> None:
    """45 s of silence."""
    project = make().tasks()
    process = project.begin()
    began = time.monotonic()
    box.freeze() if fault == "frozen" else box.link.cut()
    if fault == "half open":
        box.drop_sessions()
    given_up(project, process, "nothing came from it for 45 s")
    assert time.monotonic() - began >= 30
    box.thaw()
    box.link.heal()
    project.goes_on().ends_as(undisturbed)
