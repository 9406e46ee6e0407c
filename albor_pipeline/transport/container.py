"""A machine that is a container of this one: the same agent as anywhere, at the end of the engine's `exec`. Knows no verb."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from albor_pipeline.agent.facts import MACHINE_ID
from albor_pipeline.model.manifest import Container, Machine
from albor_pipeline.transport import arrival, engine
from albor_pipeline.transport.client import AgentClient, Channel, Maker, NotMade
from albor_pipeline.transport.faults import Lacking, Unusable
from albor_pipeline.transport.process import ProcessChannel

ARRIVAL_S = 60.0
PIECE_BYTES = 1 << 18


class Arriving:
    """A channel that a thread of its own opens; until it is there nothing moves."""

    def __init__(self, arrive: Callable[[], tuple[Channel, bytes]]) -> None:
        """`arrive` gives the channel and the bytes that were read from it already, or raises Unusable."""
        self._news, self._end = os.pipe()
        self._arrived = threading.Event()
        self._closing = threading.Lock()
        self._closed = False
        self._channel: Channel | None = None
        self._early = b""
        self._why = ""
        threading.Thread(target=self._open, args=(arrive,), daemon=True).start()

    def _open(self, arrive: Callable[[], tuple[Channel, bytes]]) -> None:
        try:
            self._channel, self._early = arrive()
        except Unusable as error:
            self._why = "\n".join((error.text, *error.ways))
        except Exception as error:  # nothing that is raised in this thread may be lost
            self._why = f"{type(error).__name__}: {error}"
        with self._closing:
            self._arrived.set()
            os.close(self._end)  # who waits for news wakes up
            if self._closed and self._channel is not None:
                self._channel.close()

    def wait(self) -> None:
        """Until it is there, or is known not to come."""
        self._arrived.wait()

    def fileno(self) -> int:
        return self._channel.fileno() if self._arrived.is_set() and self._channel is not None else self._news

    def recv(self, limit: int) -> bytes | None:
        if not self._arrived.is_set():
            return None
        if self._channel is None:
            return b""
        early, self._early = self._early, b""
        return early or self._channel.recv(limit)

    def send(self, data: Sequence[memoryview]) -> int:
        if not self._arrived.is_set():
            return 0
        if self._channel is None:
            raise BrokenPipeError
        return self._channel.send(data)

    def diagnosis(self) -> str:
        return self._channel.diagnosis() if self._channel is not None else self._why

    def close(self) -> None:
        """Hang up; a container that is being made is made to its end."""
        with self._closing:
            if not self._closed:
                os.close(self._news)
            self._closed = True
            if self._arrived.is_set() and self._channel is not None:
                self._channel.close()


class _Patient(AgentClient):
    """A client whose agent has as long to say hello as any, counted from when its container is there: an image may take an hour to come."""

    def __init__(self, channel: Arriving, machine: str) -> None:
        super().__init__(channel, machine)
        self._arriving = channel

    def greet(self, attempts: str = "all") -> Mapping[str, Any]:
        self._arriving.wait()
        return super().greet(attempts)


def start(machine: Machine, pipeline: str, workdir: str, lineage: str, maker: Maker | None) -> AgentClient:
    """A client of a container that is being reached, and with a `maker` is made and started where need be.

    Raises NotMade where there is none and no maker.
    """
    container = machine.container
    assert container is not None
    if maker is None and _is_to_be_made(container):
        raise NotMade
    folder = machine.workdir or workdir
    return _Patient(Arriving(lambda: _arrive(machine, container, pipeline, folder, lineage, maker)), machine.name)


def _is_to_be_made(container: Container) -> bool:
    try:
        return container.image is not None and engine.look(container) is None
    except Unusable:  # which is found again, and told, by who arrives
        return False


def _arrive(
    machine: Machine, container: Container, pipeline: str, folder: str, lineage: str, maker: Maker | None
) -> tuple[Channel, bytes]:
    """The agent in the container, once it runs; what a container of ours lacks for it is installed. Raises Unusable."""
    seen = _running(machine.name, container, pipeline, maker) if maker is not None else _found(container)
    line = engine.enter(container, machine.user, variables=[f"{MACHINE_ID}={seen.id}"])
    provided: set[str] = set()
    while True:
        channel = ProcessChannel([*line, "/bin/sh", "-c", arrival.command(folder, lineage, machine.name)])
        try:
            return channel, arrival.settle(lambda: _received(channel), lambda data: _send(channel, data))  # noqa: B023 (called at once)
        except Lacking as error:
            channel.close()
            if maker is None or not seen.pipeline or error.what in provided:
                raise
            maker.tell(f"{machine.name}: {error.text}; installing {error.what} in its container {container.name}")
            provided.add(error.what)
            engine.provide(container, error.what)
        except Unusable as error:
            why = channel.diagnosis()
            channel.close()
            raise Unusable(why or error.text, *error.ways) from None


def _found(container: Container) -> engine.Seen:
    """The container, which runs. Raises Unusable."""
    seen = engine.look(container)
    if seen is None:
        raise Unusable(f"there is no container {container.name}", "make it, or give an `image` to make it from")
    engine.check(container, seen)
    if not seen.running:
        way = f"`apply` starts it; so does {container.runtime} start {container.name}"
        raise Unusable(f"its container {container.name} is stopped", way)
    return seen


def _running(name: str, container: Container, pipeline: str, maker: Maker) -> engine.Seen:
    """The container, made or started where it is not there or does not run. Raises Unusable."""
    seen = engine.look(container)
    if seen is None and container.image is not None:
        maker.tell(f"making the container {container.name} from {container.image}")
        engine.make(container, pipeline)
        maker.made.add(name)
    elif seen is not None and not seen.running:
        engine.check(container, seen)
        maker.tell(f"starting the container {container.name}")
        engine.start(container)
    else:
        return _found(container)
    seen = engine.look(container)
    if seen is None or not seen.running:
        raise Unusable(f"its container {container.name} ended as soon as it ran", f"see why: {container.runtime} logs {container.name}")
    return seen


def _received(channel: ProcessChannel) -> bytes:
    if not select.select([channel], [], [], ARRIVAL_S)[0]:
        raise Unusable(f"its shell said nothing for {ARRIVAL_S:.0f} s")
    return channel.recv(PIECE_BYTES) or b""


def _send(channel: ProcessChannel, data: bytes) -> None:
    left = memoryview(data)
    while left:
        if not select.select([], [channel], [], ARRIVAL_S)[1]:
            raise Unusable(f"its shell took nothing for {ARRIVAL_S:.0f} s")
        try:
            left = left[channel.send([left]) :]
        except OSError:
            raise Unusable("its shell ended before the agent was there") from None
