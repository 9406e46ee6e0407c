"""Machines that lose their power, hang, or are off: nothing runs twice at once, and the others are not held up."""

from __future__ import annotations

from typing import Any

import pytest

from testbed.bed import Bed
from testbed.machine import Machine
from testbed.pipeline import Pipeline

pytestmark = pytest.mark.root
Rows = list[tuple[Any, ...]]


def flat(text: str) -> str:
    """Without line ends and indents, so that a sentence can be looked for."""
    return " ".join(text.split())


def test_a_reboot_in_the_middle_of_a_task_is_known_by_the_boot_and_the_task_runs_again(
    project: Pipeline, box: Machine, undisturbed: Rows
) -> None:
    process = project.begin()
    box.reboot()
    said = project.end(process)
    assert said.exit == 6, said
    plan = project.run("plan")
    assert "(boot id changed)" in plan.out, plan
    project.go()
    assert project.run("apply").exit == 0
    project.ends_as(undisturbed, first=2)


def test_a_machine_that_hangs_is_given_up_and_found_again_when_it_goes_on(impatient: Pipeline, box: Machine, undisturbed: Rows) -> None:
    process = impatient.begin()
    box.freeze()
    said = impatient.end(process)
    assert said.exit == 6 and "lambda does not answer: nothing came from it for" in said.err, said
    box.thaw()
    impatient.goes_on().ends_as(undisturbed)


def test_a_machine_that_is_off_leaves_the_others_planned(project: Pipeline, bed: Bed, undisturbed: Rows) -> None:
    bed.machines["intel"].off()
    plan = project.run("plan")
    assert plan.exit == 6, plan
    assert "+ first task lambda run" in flat(plan.out) and "? third task intel unknown" in flat(plan.out)
    assert "intel does not answer (10.77.0.12:22, timed out after 3 s)" in flat(plan.out), plan
    said = project.go().run("apply")
    assert said.exit == 6 and "2 done" in said.out, said
    bed.machines["intel"].on()
    assert project.run("apply").exit == 0
    project.ends_as(undisturbed)
