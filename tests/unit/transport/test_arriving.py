"""A channel that is opened by a thread of its own: nothing moves before, and whoever waits for news hears of its end."""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from albor_pipeline.errors import UnreachableError
from albor_pipeline.model.manifest import Container, Machine
from albor_pipeline.transport.client import HELLO_TIMEOUT_S, AgentClient, Maker, SocketChannel
from albor_pipeline.transport.container import Arriving, start
from albor_pipeline.transport.faults import Unusable

# It takes longer to make a container than an agent has to say hello; inside is the same as outside.
SLOW_ENGINE = """#!/bin/sh
here=$(dirname "$0")
case $1 in
  container) [ -e "$here/made" ] || { echo "no such container" >&2; exit 1; }
    echo '[{"Id": "abc", "State": {"Running": true}, "Config": {"Labels": {}}}]' ;;
  run) sleep 1.5; touch "$here/made" ;;
  exec) while [ "$1" != /bin/sh ]; do shift; done; exec "$@" ;;
esac
"""


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


def test_an_image_that_takes_long_to_come_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "docker").write_text(SLOW_ENGINE)
    (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr("albor_pipeline.transport.client.HELLO_TIMEOUT_S", 1.0)
    said: list[str] = []
    box = Machine("box", "container", "box", workdir=str(tmp_path / "work"), container=Container("docker", "forjar-box", "image"))
    client = start(box, "tale", "~", "lineage", Maker(said.append))
    try:
        assert client.greet()["workdir"] == str(tmp_path / "work")
    finally:
        client.close()
    assert said == ["making the container forjar-box from image"]
