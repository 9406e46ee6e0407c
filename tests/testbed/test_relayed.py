"""Through the desk much data goes once, also when it is cut on its way: bytes are read from the interfaces of the machines."""

from __future__ import annotations

import json

import pytest

from testbed.bed import Bed
from testbed.conftest import Make
from testbed.machine import Machine
from testbed.network import BRIDGE, Desk
from testbed.pipeline import IMPATIENT
from testbed.test_direct import MAKE, SIZE, USE

pytestmark = pytest.mark.root
RATE_MBIT = 200.0
OVERHEAD = 1.08, 3_000_000  # headers of packets and frames, and what the agents are asked beside it


def counted(where: Machine | Desk) -> tuple[int, int]:
    """The bytes that an interface has received and sent."""
    said, name = (where.do("cat /proc/net/dev"), "eth0") if isinstance(where, Machine) else (where.do("cat", "/proc/net/dev"), BRIDGE)
    (line,) = [line for line in said.splitlines() if line.strip().startswith(f"{name}:")]
    words = line.partition(":")[2].split()
    return int(words[0]), int(words[8])


def once(carried: int, size: int = SIZE) -> bool:
    """Whether what an interface carried is so many bytes, and what comes with them."""
    factor, more = OVERHEAD
    return size <= carried < size * factor + more


def test_it_leaves_its_machine_once_and_arrives_once(make: Make, bed: Bed, box: Machine) -> None:
    project, target = make(), bed.machines["intel"]
    assert project.tasks(MAKE).run("apply", "--yes").exit == 0
    project.tasks(MAKE + USE)
    sent, taken, (came, went) = counted(box)[1], counted(target)[0], counted(bed.desk)
    said = project.run("apply", "--yes", "--json")
    assert said.exit == 0, said
    (one,) = json.loads(said.out)["moves"]
    assert (one["way"], one["size_bytes"]) == ("relayed", SIZE)
    assert once(counted(box)[1] - sent) and once(counted(target)[0] - taken)
    desk = counted(bed.desk)
    assert once(desk[0] - came) and once(desk[1] - went)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_cut_at_any_place_it_arrives_once(make: Make, bed: Bed, share: float) -> None:
    project, target = make(silence=IMPATIENT), bed.machines["intel"]
    assert project.tasks(MAKE).run("apply", "--yes").exit == 0
    project.tasks(MAKE + USE)
    target.link.slow(1.0, RATE_MBIT)
    taken, folder = counted(target)[0], project.there(target, ".albor/incoming")
    process = project.start("apply", "--yes")
    project.wait(lambda: any(path.stat().st_size > SIZE * share for path in folder.glob("*.part")))
    target.link.cut()
    said = project.end(process)
    assert said.exit == 6 and "intel does not answer" in said.err, said
    target.link.fast()
    target.link.heal()
    (part,) = folder.glob("*.part")
    had = part.stat().st_size
    before = counted(target)[0]
    said = project.run("apply", "--yes", "--json")
    assert said.exit == 0, said
    assert once(counted(target)[0] - before, json.loads(said.out)["moves"][0]["size_bytes"])
    assert had > SIZE * share and once(counted(target)[0] - taken)
    assert project.starts() == {"make": 1, "use": 1}
