"""Controllers that are killed again and again in one transfer: it ends as if nothing had been."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time

import pytest
from sshd import Box, Network

from cli.builder import Project, there
from cli.test_moves import BIG, HEAD, SIZE

pytestmark = pytest.mark.slow
KILL_LIMIT_S = 20.0


@pytest.fixture
def boxes(network: Network) -> tuple[Box, Box]:
    """lambda and intel, two machines with ids of their own."""
    return network.add("lambda", machine_id="1" * 32), network.add("intel", machine_id="2" * 32)


@pytest.mark.parametrize("kills", [5, pytest.param(20, marks=pytest.mark.soak)])
def test_a_controller_killed_at_random_moments_of_a_transfer_ends_as_if_nothing_had_been(
    project: Project, boxes: tuple[Box, Box], kills: int
) -> None:
    source, target = boxes
    project.manifest(BIG.replace("command: b2sum", "command: echo use >> ../starts; b2sum"), HEAD).does("apply")
    undisturbed = [there(target, name).read_bytes() for name in ("big.bin", "sum.txt")]
    shutil.rmtree(there(target))
    (target.home / "albor/starts").unlink()
    dice, folder = random.Random(kills), there(target, ".albor/incoming")
    for _ in range(kills):
        had = max((part.stat().st_size for part in folder.glob("*.part")), default=0)
        until = had + dice.randint(1, SIZE // (2 * kills))
        process, limit = project.start("apply", "--yes"), time.monotonic() + KILL_LIMIT_S
        while not any(part.stat().st_size > until for part in folder.glob("*.part")):
            assert process.poll() is None and time.monotonic() < limit, process.communicate()
            time.sleep(0.002)
        assert process.poll() is None, "it is still in the transfer"
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    project.wait(lambda: not target.programs())
    project.does("apply", "--yes")
    assert [there(target, name).read_bytes() for name in ("big.bin", "sum.txt")] == undisturbed
    assert (target.home / "albor/starts").read_text() == "use\n"
    assert there(source, "big.bin").read_bytes() == undisturbed[0]
