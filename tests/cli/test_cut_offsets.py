"""Transfers that are cut at several places: what is sent afterwards is what was lacking, and no byte twice."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest
from sshd import Box, Network

from cli.builder import Project, there
from cli.test_moves import BIG, HEAD, SIZE, applied

pytestmark = pytest.mark.slow
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
        self._taker = threading.Thread(target=self._accept, daemon=True)
        self._taker.start()

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
        """Take no connection any more: a thread left in accept() would take those of the next port with this one's number."""
        self._server.shutdown(socket.SHUT_RDWR)
        self._taker.join()
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
    project.wait(lambda: not boxes[1].sessions())
    before = counted.crossed
    assert applied(project) == [("big.bin", "lambda", "intel", 1, lacking)]
    factor, more = OVERHEAD
    assert lacking <= counted.crossed - before < lacking * factor + more
    assert there(boxes[1], "big.bin").read_bytes() == there(boxes[0], "big.bin").read_bytes()
