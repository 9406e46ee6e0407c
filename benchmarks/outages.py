"""The faults of faults.py: what strikes a run on two machines, when, and what ends it. Runs and measures nothing.

Most strike the ladder of the test bed 4 s after its first task began, which takes 20 s; those of a transfer strike when half of 96 MB has
gone from one machine to the other at 200 Mbit/s.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.common import ROOT

sys.path.insert(0, str(ROOT / "tests"))
from testbed.bed import Bed
from testbed.clock import compiled, put_ahead, put_right
from testbed.machine import Machine
from testbed.pipeline import LADDER, WAIT, Pipeline, task

Act = Callable[[Pipeline], object]
TASK_S, STRIKE_S = 20.0, 4.0
SIZE, RATE_MBIT = 96_000_000, 200.0
STAIRS = LADDER.replace(WAIT, f"sleep {TASK_S:g}")
HOG = "python3 -c 'b = b\"x\" * (600 << 20)'"
HUNGRY = LADDER.replace(WAIT, f"sleep {STRIKE_S + 1:g}; {HOG} || exit $?; sleep {TASK_S - STRIKE_S - 1:g}")
MOVING = task("first", "lambda", f"seq 20000000 | head -c {SIZE} > big.txt", "outputs: [big.txt]") + task(
    "second", "intel", "b2sum < big.txt > sum.txt", "inputs: [first]", "outputs: [sum.txt]"
)
MEMORY_BYTES = 200 << 20
HOST_KEY = "/etc/ssh/ssh_host_ed25519_key"


@dataclass(frozen=True)
class Fault:
    """What strikes, and what ends it after `lasts_s`; `before` and `after` are what it needs of a machine for the whole run.

    `when` is asked until it is time to strike, None: STRIKE_S after the first task began. `second`: another host types `apply` then.
    """

    name: str
    strike: Act
    heal: Act | None = None
    lasts_s: float = 0.0
    kills_controller: bool = False
    second: bool = False
    resources: str = STAIRS
    before: Act | None = None
    after: Act | None = None
    when: Callable[[Pipeline], bool] | None = None


def faults(bed: Bed, where: Path) -> list[Fault]:
    """Every fault that takes time, and those of memory, disks, clocks, keys, transfers and other controllers."""
    return [*_of_lines(bed), *_of_machines(bed, where), *_of_transfers(bed)]


def _plain(act: Callable[[], object]) -> Act:
    return lambda project: act()


def _of_lines(bed: Bed) -> list[Fault]:
    box = bed.machines["lambda"]
    cut, heal = _plain(box.link.cut), _plain(box.link.heal)

    def half_open(project: Pipeline) -> None:
        box.link.cut()
        box.drop_sessions()

    return [
        Fault("connection cut for 5 s", cut, heal, 5),
        Fault("connection cut for 48 s", cut, heal, 48),
        Fault("connection cut for 60 s", cut, heal, 60),
        Fault("cable out for 60 s", lambda project: box.link.cut(carrier=False), heal, 60),
        Fault("half open: the machine's end killed, silence for 60 s", half_open, heal, 60),
        Fault("its sessions killed", _plain(box.drop_sessions)),
        Fault("its sshd restarted", lambda project: box.do("systemctl restart ssh")),
        Fault("frozen for 5 s", _plain(box.freeze), _plain(box.thaw), 5),
        Fault("frozen for 60 s", _plain(box.freeze), _plain(box.thaw), 60),
        Fault("power cut, on again at once", _plain(box.reboot)),
        Fault("power cut, on again after 30 s", _plain(box.off), _plain(box.on), 30),
        Fault("controller killed (kill -9)", lambda project: None, kills_controller=True),
    ]


def _of_machines(bed: Bed, where: Path) -> list[Fault]:
    box, disk = bed.machines["lambda"], _Disk(bed.machines["lambda"], 12)

    def another_key(project: Pipeline) -> None:
        box.do(f"mv {HOST_KEY} {HOST_KEY}.kept && ssh-keygen -q -t ed25519 -N '' -f {HOST_KEY} <<< y && systemctl restart ssh")
        box.drop_sessions()

    def its_key(project: Pipeline) -> None:
        box.do(f"mv {HOST_KEY}.kept {HOST_KEY} && systemctl restart ssh")

    return [
        Fault("memory: the kernel kills the task, room again after 5 s", lambda project: box.limit_memory(MEMORY_BYTES),
              lambda project: box.limit_memory(None), 5, resources=HUNGRY),
        Fault("disk full under the task, room again after 18 s", disk.fill, disk.free, 18, before=disk.mount, after=disk.unmount),
        Fault("clock an hour ahead for 10 s, and the controller killed", lambda project: put_ahead(box, compiled(where), 3600),
              lambda project: put_right(box), 10, kills_controller=True),
        Fault("another host key for 10 s, and the sessions killed", another_key, its_key, 10),
        Fault("a second controller on another host", lambda project: None, second=True),
    ]  # fmt: skip


def _of_transfers(bed: Bed) -> list[Fault]:
    target = bed.machines["intel"]
    disk = _Disk(target, 300)

    def begun(project: Pipeline) -> bool:
        said = target.do(f"stat -c %s $HOME/runs/{project.name}/.albor/incoming/*.part 2>/dev/null || true")
        return any(int(word) > SIZE // 2 for word in said.split())

    def slow(project: Pipeline) -> None:
        target.link.slow(1.0, RATE_MBIT)

    def moving(name: str, strike: Act, heal: Act | None = None, lasts_s: float = 0.0) -> Fault:
        return Fault(f"{name}, in a transfer", strike, heal, lasts_s, resources=MOVING, before=slow, when=begun)

    def small(project: Pipeline) -> None:
        slow(project)
        disk.mount(project)

    cut, heal = _plain(target.link.cut), _plain(target.link.heal)
    return [
        moving("connection cut for 5 s", cut, heal, 5),
        moving("connection cut for 60 s", cut, heal, 60),
        moving("the target's sessions killed", _plain(target.drop_sessions)),
        Fault("the target's disk full for 5 s, in a transfer", disk.fill, disk.free, 5, resources=MOVING, before=small,
              after=disk.unmount, when=begun),
    ]  # fmt: skip


class _Disk:
    """A file system of so many MiB that a project's folder on a machine lies on."""

    def __init__(self, machine: Machine, size_mib: int) -> None:
        self._machine = machine
        self._size_mib = size_mib

    def mount(self, project: Pipeline) -> None:
        folder = f"$HOME/runs/{project.name}"
        self._machine.do(f"mkdir -p {folder} && mount -t tmpfs -o size={self._size_mib}m tmpfs {folder}")

    def fill(self, project: Pipeline) -> None:
        """Others take all that is left."""
        self._machine.do(f"cat /dev/zero > $HOME/runs/{project.name}/filled 2>/dev/null || true")

    def free(self, project: Pipeline) -> None:
        self._machine.do(f"rm -f $HOME/runs/{project.name}/filled")

    def unmount(self, project: Pipeline) -> None:
        self._machine.do(f"umount -l $HOME/runs/{project.name}")
