"""A channel that is opened by a thread of its own: nothing moves before, and whoever waits for news hears of its end."""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Callable

import pytest

from albor_pipeline.errors import UnreachableError
from albor_pipeline.transport.client import HELLO_TIMEOUT_S, AgentClient, SocketChannel
from albor_pipeline.transport.container import Arriving
from albor_pipeline.transport.faults import Unusable


class End(SocketChannel):
    """Our end of a pair, which notes that it was closed."""

    def __init__(self, ours: socket.socket) -> None:
        super().__init__(ours)
        self.closed = threading.Event()

    def close(self) -> None:
        self._socket.close()
        self.closed.set()

    def diagnosis(self) -> str:
        return "it went"


def readable(channel: Arriving, wait_s: float = 5.0) -> bool:
    return bool(select.select([channel], [], [], wait_s)[0])


@pytest.fixture
def gate() -> threading.Event:
    return threading.Event()


def behind(gate: threading.Event, found: Callable[[], tuple[End, bytes]]) -> Arriving:
    def arrive() -> tuple[End, bytes]:
        gate.wait(5)
        return found()

    return Arriving(arrive)


def test_nothing_moves_before_it_is_there_and_early_bytes_come_first(gate: threading.Event) -> None:
    ours, theirs = socket.socketpair()
    channel = behind(gate, lambda: (End(ours), b"early "))
    assert (channel.recv(10), channel.send([memoryview(b"x")]), readable(channel, 0)) == (None, 0, False)
    gate.set()
    assert readable(channel)
    theirs.sendall(b"later")
    assert channel.recv(10) == b"early "
    assert readable(channel) and channel.recv(10) == b"later"
    assert channel.send([memoryview(b"x")]) == 1 and theirs.recv(10) == b"x"
    channel.close()


def test_who_waits_for_an_answer_hears_why_there_is_none(gate: threading.Event) -> None:
    def fail() -> tuple[End, bytes]:
        raise Unusable("its engine is off", "start it")

    client = AgentClient(behind(gate, fail), "box")
    client.call()
    threading.Timer(0.2, gate.set).start()
    began = time.monotonic()
    with pytest.raises(UnreachableError) as caught:
        client.greet()
    (said,) = caught.value.diagnostics
    assert (said.message, said.notes) == ("box does not answer: its engine is off", ("start it",))
    assert time.monotonic() - began < HELLO_TIMEOUT_S / 2
    client.close()


def test_an_error_that_nobody_foresaw_is_told_too(gate: threading.Event) -> None:
    gate.set()
    client = AgentClient(behind(gate, lambda: 1 // 0), "box")  # type: ignore[arg-type,return-value]
    with pytest.raises(UnreachableError, match="ZeroDivisionError"):
        client.greet()


def test_one_that_arrives_after_it_was_closed_is_hung_up(gate: threading.Event) -> None:
    ours, _theirs = socket.socketpair()
    end = End(ours)
    channel = behind(gate, lambda: (end, b""))
    channel.close()
    gate.set()
    assert end.closed.wait(5)
