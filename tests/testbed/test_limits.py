"""Machines that run out of memory or disk, or whose clock is wrong: the cause is named, and the same command ends well once it is gone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from testbed.base import BedError
from testbed.clock import compiled, put_ahead, put_right
from testbed.conftest import Make
from testbed.machine import Machine
from testbed.pipeline import Pipeline, task

pytestmark = pytest.mark.root
Rows = list[tuple[Any, ...]]
MEMORY_BYTES = 200 << 20
HOG = "python3 -c 'b = b\"x\" * (600 << 20); open(\"first.txt\", \"w\").write(\"fits\")'"
WRITES = "mkdir -p out; head -c 20M /dev/zero > out/first.txt"


@pytest.mark.parametrize(
    "shell", [pytest.param("exec {}", id="instead of its shell", marks=pytest.mark.soak), pytest.param("{} && true", id="below its shell")]
)
def test_a_task_that_the_kernel_kills_for_memory_is_named_so(make: Make, box: Machine, shell: str) -> None:
    project = make().tasks(task("first", "lambda", shell.format(HOG), "outputs: [first.txt]"))
    box.limit_memory(MEMORY_BYTES)
    said = project.run("apply")
    assert said.exit == 3 and "out-of-memory killer" in said.err, said
    assert '"oom"' in project.run("status", "--json").out
    box.limit_memory(None)
    assert project.run("apply").exit == 0
    assert project.starts() == {"first": 2}


def test_a_task_that_fills_the_disk_is_told_so_at_once(make: Make, box: Machine) -> None:
    project = make()
    folder = f"$HOME/runs/{project.name}"
    box.do(f"mkdir -p {folder} && mount -t tmpfs -o size=12m tmpfs {folder}")
    try:
        project.tasks(task("first", "lambda", WRITES, "outputs: [out/first.txt]"))
        said = project.run("apply")
        assert said.exit == 3 and "exit 1, and the disk is full where it ran" in said.err, said
        box.do(f"mount -o remount,size=64m {folder}")
        assert project.run("apply").exit == 0
        assert project.starts() == {"first": 2}
        project.says("apply", out="Nothing to do: 1 unchanged.")
    finally:
        box.do(f"umount -l {folder}")


def test_a_disk_that_others_filled_to_the_last_byte_holds_an_end_back_until_there_is_room(make: Make, box: Machine) -> None:
    project = make()
    folder = f"$HOME/runs/{project.name}"
    box.do(f"mkdir -p {folder} && mount -t tmpfs -o size=12m tmpfs {folder}")
    try:
        project.tasks(task("first", "lambda", "rm -f $ALBOR_ATTEMPT/reserve; " + WRITES, "outputs: [out/first.txt]"))
        process = project.start("apply")
        project.wait(lambda: box.do(f"df --output=avail {folder} | tail -1").strip() == "0")
        box.do(f"mount -o remount,size=64m {folder}")
        assert project.end(process).exit == 3
        assert project.run("apply").exit == 0
    finally:
        box.do(f"umount -l {folder}")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What makes a clock wrong."""
    try:
        return compiled(tmp_path_factory.mktemp("clock"))
    except BedError as error:
        pytest.skip(str(error))


@pytest.fixture
def wrong_clock(box: Machine, library: Path) -> Iterator[Callable[[int], None]]:
    """From the call on, agents of lambda and what they start see a clock that is so many seconds ahead; 0 puts it right."""
    yield lambda seconds: put_ahead(box, library, seconds)
    put_right(box)


def test_a_clock_that_is_an_hour_ahead_and_then_put_right_decides_nothing(
    project: Pipeline, wrong_clock: Callable[[int], None], undisturbed: Rows
) -> None:
    wrong_clock(3600)
    doctor = project.run("doctor")
    assert "3,600 s ahead of ours" in doctor.out, doctor.out
    project.kill(project.begin())
    wrong_clock(0)
    project.goes_on().ends_as(undisturbed)


@pytest.mark.soak
def test_a_clock_that_goes_back_an_hour_under_a_running_task_decides_nothing(
    project: Pipeline, wrong_clock: Callable[[int], None], undisturbed: Rows
) -> None:
    project.kill(project.begin())
    wrong_clock(-3600)
    assert "3,600 s behind ours" in project.run("doctor").out
    project.goes_on().ends_as(undisturbed)
