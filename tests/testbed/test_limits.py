"""Machines that run out of memory or disk, or whose clock is wrong: the cause is named, and the same command ends well once it is gone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from testbed.conftest import Make
from testbed.machine import Machine
from testbed.pipeline import Pipeline, task

pytestmark = pytest.mark.root
Rows = list[tuple[Any, ...]]
MEMORY_BYTES = 200 << 20
HOG = "python3 -c 'b = b\"x\" * (600 << 20); open(\"first.txt\", \"w\").write(\"fits\")'"
WRITES = "mkdir -p out; head -c 20M /dev/zero > out/first.txt"
# The library's processes share memory that the first of them removes at its end; here that is one that stays.
KEEPER = """
setsid --fork faketime -f {shift} sleep 86400 </dev/null >/dev/null 2>&1
until pgrep --full --exact 'sleep 86400' >/run/keeper; do sleep 0.05; done
"""
TWISTED = """#!/bin/sh
FAKETIME_SHARED=$(tr '\\0' '\\n' </proc/$(cat /run/keeper)/environ | sed -n 's/^FAKETIME_SHARED=//p')
FAKETIME={shift} FAKETIME_DONT_FAKE_MONOTONIC=1 LD_PRELOAD=$(echo /usr/lib/*/faketime/libfaketimeMT.so.1)
export FAKETIME_SHARED FAKETIME FAKETIME_DONT_FAKE_MONOTONIC LD_PRELOAD
exec /usr/bin/python3 "$@"
"""


@pytest.mark.parametrize("shell", ["exec {}", "{} && true"], ids=["instead of its shell", "below its shell"])
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


@contextmanager
def twisted(box: Machine, shift: str) -> Iterator[None]:
    """The agent, its spawner and the tasks see another time than the machine."""
    python = box.home().parent / "usr/local/bin/python3"
    box.do(KEEPER.replace("{shift}", shift))
    python.write_text(TWISTED.replace("{shift}", shift))
    python.chmod(0o755)
    try:
        yield
    finally:
        python.unlink()


@pytest.fixture
def shifted(box: Machine) -> Iterator[Machine]:
    """lambda, where clocks can be shifted."""
    yield box
    box.do("kill $(cat /run/keeper) && rm /run/keeper")


def test_a_clock_that_is_an_hour_ahead_and_then_put_right_decides_nothing(
    project: Pipeline, shifted: Machine, undisturbed: Rows
) -> None:
    with twisted(shifted, "+1h"):
        doctor = project.run("doctor")
        assert "3,600 s ahead of ours" in doctor.out, doctor.out
        project.kill(project.begin())
    project.goes_on().ends_as(undisturbed)


def test_a_clock_that_goes_back_an_hour_under_a_running_task_decides_nothing(
    project: Pipeline, shifted: Machine, undisturbed: Rows
) -> None:
    project.kill(project.begin())
    with twisted(shifted, "-1h"):
        assert "3,600 s behind ours" in project.run("doctor").out
        project.goes_on().ends_as(undisturbed)
