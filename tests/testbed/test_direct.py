"""Between two machines that may log in at each other much data takes the line between them and not the desk's; cut, it is gone on with."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from testbed.bed import Bed
from testbed.conftest import Make
from testbed.machine import Machine
from testbed.network import BRIDGE, Desk
from testbed.pipeline import IMPATIENT, Pipeline, task

pytestmark = pytest.mark.root
SIZE = 96_000_000
MAKE = task("make", "lambda", f"head -c {SIZE} /dev/urandom > big.bin", "outputs: [big.bin]")
USE = task("use", "intel", "b2sum < big.bin > sum.txt", "inputs: [make]", "outputs: [sum.txt]")


@pytest.fixture
def target(bed: Bed, box: Machine) -> Iterator[Machine]:
    """intel, which takes a key that lambda has."""
    intel = bed.machines["intel"]
    box.do("ssh-keygen -q -t ed25519 -N '' -f ~/.ssh/id_ed25519")
    public = box.do("cat ~/.ssh/id_ed25519.pub").strip()
    intel.do(f"cp ~/.ssh/authorized_keys kept; echo '{public}' >> ~/.ssh/authorized_keys")
    yield intel
    intel.do("mv kept ~/.ssh/authorized_keys")
    box.do("rm -f ~/.ssh/id_ed25519 ~/.ssh/id_ed25519.pub")


def carried(desk: Desk) -> int:
    """The bytes that the desk has sent and received."""
    (line,) = [line for line in desk.do("cat", "/proc/net/dev").splitlines() if line.strip().startswith(f"{BRIDGE}:")]
    words = line.partition(":")[2].split()
    return int(words[0]) + int(words[8])


def moved(said: str) -> tuple[str, str, int]:
    (one,) = json.loads(said)["moves"]
    return one["way"], one.get("not_direct", ""), one["size_bytes"]


def test_it_goes_from_one_to_the_other_and_not_by_the_desk(make: Make, bed: Bed, target: Machine) -> None:
    project = make()
    project.fields["lambda"] = ", direct: true"
    assert project.tasks(MAKE).run("apply", "--yes").exit == 0
    project.tasks(MAKE + USE)
    before = carried(bed.desk)
    said = project.run("apply", "--yes", "--json")
    assert said.exit == 0 and moved(said.out) == ("direct", "", SIZE), said
    assert carried(bed.desk) - before < SIZE // 10
    assert not bed.machines["lambda"].do("pgrep -x ssh || true").strip()


def test_when_the_line_of_the_target_is_out_for_long_the_same_command_sends_the_rest(make: Make, bed: Bed, target: Machine) -> None:
    project: Pipeline = make(silence=IMPATIENT)
    project.fields["lambda"] = ", direct: true"
    assert project.tasks(MAKE).run("apply", "--yes").exit == 0
    project.tasks(MAKE + USE)
    target.link.slow(1.0, 200.0)
    process = project.start("apply", "--yes")
    folder = project.there(target, ".albor/incoming")
    project.wait(lambda: any(path.stat().st_size > SIZE // 4 for path in folder.glob("*.part")))
    target.link.cut()
    said = project.end(process)
    assert said.exit == 6 and "intel does not answer" in said.err, said
    project.wait(lambda: not bed.machines["lambda"].do("pgrep -x ssh || true").strip())
    target.link.fast()
    target.link.heal()
    (part,) = folder.glob("*.part")
    size = part.stat().st_size
    said = project.run("apply", "--yes", "--json")
    assert said.exit == 0, said
    way, why, sent = moved(said.out)
    assert (way, why) == ("direct", "") and 0 < sent <= SIZE - size, "what was on the line may have come after the cut"
