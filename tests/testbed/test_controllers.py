"""Controllers that are killed, and two that drive the same machines from two hosts: each task is started once."""

from __future__ import annotations

import random
import re
import time
from pathlib import Path
from typing import Any

import pytest

from testbed.bed import Bed
from testbed.conftest import Make
from testbed.pipeline import LADDER, Pipeline, task

pytestmark = pytest.mark.root
Rows = list[tuple[Any, ...]]
BEFORE = task("before", "lambda", "true")
STEPS = 8
KILLS = 6
MANY_KILLS = 10


def staircase() -> str:
    """Eight tasks, each after the one before it, on both machines in turns."""
    tasks = []
    for number in range(STEPS):
        after = [f"depends_on: [step{number - 1}]"] if number else []
        work = f"sleep 0.4; mkdir -p out; seq {number}000 > out/{number}.txt"
        tasks.append(task(f"step{number}", ("lambda", "intel")[number % 2], work, f"outputs: [out/{number}.txt]", *after))
    return "".join(tasks)


@pytest.fixture(scope="module")
def whole(the_bed: Bed, tmp_path_factory: pytest.TempPathFactory) -> Rows:
    """What the staircase ends with when nobody is killed."""
    project = Pipeline(tmp_path_factory.mktemp("whole"), the_bed).tasks(staircase())
    assert project.run("apply").exit == 0
    return project.proven()


def test_a_killed_controller_finds_its_attempt_again(project: Pipeline, undisturbed: Rows) -> None:
    project.kill(project.begin())
    project.goes_on().ends_as(undisturbed)


def killed(project: Pipeline, kills: int, seed: int, whole: Rows) -> None:
    """Kill the controller so often, at moments that the seed picks, then let the same command end."""
    moments = random.Random(seed)
    project.tasks(staircase())
    for _ in range(kills):
        process = project.start("apply")
        time.sleep(moments.uniform(0.2, 2.4))
        project.kill(process)
    said = project.run("apply")
    assert said.exit == 0, said
    project.ends_as(whole)


def test_killed_at_random_moments_of_a_run_on_two_machines(make: Make, whole: Rows) -> None:
    killed(make(), KILLS, 0, whole)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(1, 11))
def test_killed_a_hundred_times_at_random_moments(make: Make, whole: Rows, seed: int) -> None:
    killed(make(), MANY_KILLS, seed, whole)


def two(make: Make, tmp_path: Path) -> tuple[Pipeline, Pipeline]:
    """The same project with the same state on two hosts, before its ladder has begun."""
    laptop = make().tasks(BEFORE)
    assert laptop.run("apply").exit == 0
    folder = tmp_path / "at the tower"
    folder.mkdir()
    tower = laptop.copy(folder, laptop.bed.tower)
    return laptop.tasks(BEFORE + LADDER), tower.tasks(BEFORE + LADDER)


def test_a_second_controller_is_refused_with_the_name_of_the_first(make: Make, tmp_path: Path) -> None:
    laptop, tower = two(make, tmp_path)
    process = laptop.begin()
    said = tower.run("apply")
    assert said.exit == 5 and re.search(r"(lambda|intel) is in use by pid \d+ on laptop since", said.err), said
    laptop.go()
    assert laptop.end(process).exit == 0
    late = tower.run("apply")
    assert late.exit != 0 and "rebuild" in late.err, late
    assert laptop.starts() == {"before": 1, "first": 1, "second": 1, "third": 1}


@pytest.mark.parametrize("turn", [0, pytest.param(1, marks=pytest.mark.soak)])
def test_two_that_begin_at_the_same_moment_start_each_task_once(make: Make, tmp_path: Path, turn: int) -> None:
    laptop, tower = two(make, tmp_path)
    laptop.go()
    running = [(one, one.start("apply")) for one in ((laptop, tower), (tower, laptop))[turn]]
    ends = sorted(one.end(process).exit for one, process in running)
    assert ends[0] == 0 and ends[1] in (1, 5), ends
    assert laptop.starts() == {"before": 1, "first": 1, "second": 1, "third": 1}
