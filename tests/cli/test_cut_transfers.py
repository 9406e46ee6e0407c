"""Transfers that are cut at many places, and controllers that are killed in them: what is sent afterwards is what was lacking."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from sshd import Box, Network

from cli.builder import Project, there
from cli.test_moves import BIG, HEAD, SIZE, applied

pytestmark = pytest.mark.slow
KILL_LIMIT_S = 20.0
IN_FLIGHT_BYTES = 8_000_000
OVERHEAD = 1.02, 1_000_000  # frames and ciphers, and what the agents are asked beside it


class Counted:
    """A port before that of a machine: `crossed` are the bytes that went to it; with a `limit` all its lines are cut after so many."""

    def __init__(self, port: int) -> None:
        self.crossed = 0
        self.limit: int | None = None
        self._port = port
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                ends = self._server.accept()[0], socket.create_connection(("127.0.0.1", self._port))
                self._open += ends
                for source, target, to_it in ((*ends, True), (*reversed(ends), False)):
                    threading.Thread(target=self._carry, args=(source, target, to_it), daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket, to_it: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                target.sendall(data)
                self.crossed += len(data) if to_it else 0
                if self.limit is not None and self.crossed >= self.limit:
                    self.limit = None
                    self.cut()
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        """End what is connected; new connections are taken."""
        ends, self._open = self._open, []
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Take no connection any more."""
        self._server.close()
        self.cut()


@pytest.fixture
def boxes(network: Network) -> tuple[Box, Box]:
    """lambda and intel, two machines with ids of their own."""
    return network.add("lambda", machine_id="1" * 32), network.add("intel", machine_id="2" * 32)


@pytest.fixture
def counted(network: Network, boxes: tuple[Box, Box]) -> Iterator[Counted]:
    """The way to intel."""
    way = Counted(boxes[1].port)
    boxes[1].port = way.port
    network.know(boxes[1].known)
    network.write()
    yield way
    way.close()


@pytest.mark.parametrize("offset", [0.05, 0.4, 0.95])
def test_one_that_is_cut_sends_what_was_lacking_and_no_byte_twice(
    project: Project, boxes: tuple[Box, Box], counted: Counted, offset: float
) -> None:
    project.manifest(BIG, HEAD).does("apply", "--target", "make")
    counted.limit = counted.crossed + int(SIZE * offset)
    said = project.run("apply")
    assert said.exit == 6 and "intel does not answer: the connection was cut" in said.err, said
    (part,) = there(boxes[1], ".albor/incoming").glob("*.part")
    lacking = SIZE - part.stat().st_size
    assert lacking - IN_FLIGHT_BYTES < SIZE - int(SIZE * offset) < lacking
    before = counted.crossed
    assert applied(project) == [("big.bin", "lambda", "intel", 1, lacking)]
    factor, more = OVERHEAD
    assert lacking <= counted.crossed - before < lacking * factor + more
    assert there(boxes[1], "big.bin").read_bytes() == there(boxes[0], "big.bin").read_bytes()


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
