"""The controller's end of an agent connection: requests, replies, events, data. Knows no machine type, no state and no text layout."""

from __future__ import annotations

import select
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from albor_pipeline.agent import wire
from albor_pipeline.agent.link import Link
from albor_pipeline.errors import UnreachableError

READ_BYTES = 1 << 18
HELLO_TIMEOUT_S = 60.0


class Channel(Protocol):
    """Bytes to and from an agent, never blocking."""

    def fileno(self) -> int:
        """What select() and poll() take."""
        ...

    def recv(self, limit: int) -> bytes | None:
        """Bytes, b"" once the other end is gone, None when there are none yet."""
        ...

    def send(self, data: Sequence[memoryview]) -> int:
        """How many bytes of these parts went, 0 when none would. Raises OSError once the other end is gone."""
        ...

    def close(self) -> None:
        """Hang up; attempts live on."""
        ...

    def diagnosis(self) -> str:
        """What is known of why the agent ended: one line, then lines that say what to do; empty when nothing is."""
        ...


class SocketChannel:
    """The part of a channel that moves bytes over a socket of ours."""

    def __init__(self, ours: socket.socket) -> None:
        self._socket = ours
        ours.setblocking(False)

    def fileno(self) -> int:
        return self._socket.fileno()

    def recv(self, limit: int) -> bytes | None:
        try:
            return self._socket.recv(limit)
        except BlockingIOError:
            return None

    def send(self, data: Sequence[memoryview]) -> int:
        try:
            return self._socket.sendmsg(data)
        except BlockingIOError:
            return 0


class NotMade(Exception):
    """The machine is not there yet, and would be made for the work on it."""


class Maker:
    """Who makes and starts containers, says so to `tell` from other threads, and notes in `made` which machines are new."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self.tell = tell
        self.made: set[str] = set()


class AgentError(Exception):
    """The agent refused a request: `code` is stable, `attempt` names what stands in the way where something does."""

    def __init__(self, code: str, message: str, attempt: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.attempt = attempt


@dataclass(frozen=True, slots=True)
class Message:
    """One thing that arrived. `kind`: reply (to request `id`), event, data (bytes of request `id`), end (of its data), closed."""

    kind: str
    id: int = 0
    body: Mapping[str, Any] = field(default_factory=dict)
    data: bytes | memoryview = b""

    @property
    def error(self) -> AgentError | None:
        """The refusal, when this is a reply that says no."""
        if self.kind != "reply" or self.body.get("ok"):
            return None
        error = self.body.get("error") or {}
        return AgentError(error.get("code", "bug"), error.get("message", "no reason given"), error.get("attempt"))


class AgentClient:
    """One connection to one agent. Used by one thread; both sides may write much without a deadlock."""

    def __init__(self, channel: Channel, machine: str, *, first: int = 1) -> None:
        """`first` is the number of the first request."""
        self.machine = machine
        self.hello: Mapping[str, Any] = {}
        self._channel = channel
        self._link = Link(magic=True)
        self._next = first - 1
        self._called: int | None = None
        self._held: set[int] = set()
        self._inbox: deque[Message] = deque()
        self._closed = False

    def call(self, attempts: str = "all", known: Mapping[str, Any] | None = None) -> None:
        """Ask hello and do not wait; `known` names attempts that need not be told. Raises UnreachableError."""
        self._called = self.submit("hello", attempts=attempts, known=known)

    def greet(self, attempts: str = "all") -> Mapping[str, Any]:
        """Keep the answer to hello in `hello`; asked now when it was not yet. Raises UnreachableError, AgentError."""
        if self._called is None:
            self.call(attempts)
        assert self._called is not None
        self.hello = self.answer(self._called, HELLO_TIMEOUT_S)
        return self.hello

    def submit(self, verb: str, *, data: bytes | None = None, **args: Any) -> int:
        """Send a request and return its id; the reply comes from poll(). Raises UnreachableError."""
        number = self.queue(verb, data=data, **args)
        if not self._flush():
            raise self._unreachable()
        return number

    def queue(self, verb: str, *, data: bytes | None = None, **args: Any) -> int:
        """As submit(), but the request goes with the next poll() or request(), together with others."""
        self._next += 1
        self._link.message(self._next, {"verb": verb, **args})
        if data is not None:
            self._link.data(self._next, data)
            self._link.end(self._next)
        return self._next

    def hold(self, number: int) -> None:
        """Data of this request is granted by taken() alone, so that no more of it comes than somebody takes."""
        self._held.add(number)

    def release(self, number: int) -> None:
        """Data of this request is dropped from now on, and so comes without limit until its agent stops."""
        self._held.discard(number)

    def taken(self, number: int, size_bytes: int) -> None:
        """So much data of a held request was used up: as much more may come."""
        self._link.taken(number, size_bytes)

    def feed(self, number: int, data: bytes | memoryview) -> None:
        """More data of a request that was queued; it goes with the next poll(), as far as the agent takes it."""
        self._link.data(number, data)

    def finish(self, number: int) -> None:
        """No more data follows on a request; an agent that still sends some stops."""
        self._link.end(number)

    def waiting(self, number: int) -> int:
        """Bytes of a request that the agent did not take yet."""
        return self._link.waiting(number)

    def request(
        self, verb: str, *, data: bytes | None = None, wait_s: float | None = None, **args: Any
    ) -> Mapping[str, Any]:
        """Send a request and wait for its reply; data that follows it is in `reply["data"]` as bytes.

        Messages that belong to others are kept for poll(). `wait_s` bounds the wait here; every other argument is sent.
        Raises AgentError, UnreachableError.
        """
        return self.answer(self.submit(verb, data=data, **args), wait_s)

    def answer(self, number: int, wait_s: float | None = None) -> Mapping[str, Any]:
        """Wait for the reply to what submit() sent, as request() does."""
        deadline = None if wait_s is None else time.monotonic() + wait_s
        others: list[Message] = []
        arrived, self._inbox = self._inbox, deque()
        reply: dict[str, Any] | None = None
        parts: list[bytes | memoryview] = []
        try:
            while True:
                while arrived:
                    message = arrived.popleft()
                    if message.kind == "closed":
                        others.append(message)
                        raise self._unreachable()
                    if message.id != number or message.kind == "event":
                        others.append(message)
                    elif message.kind == "data":
                        parts.append(message.data)
                    elif message.kind == "end" and reply is not None:
                        return {**reply, "data": b"".join(parts)}
                    elif message.kind == "reply":
                        if message.error is not None:
                            raise message.error
                        reply = dict(message.body)
                        if not reply.get("data"):
                            return reply
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    raise self._unreachable("did not answer in time")
                arrived.extend(self._take(left))
        finally:
            self._inbox.extendleft(reversed([*others, *arrived]))

    def poll(self, timeout_s: float | None = 0.0) -> list[Message]:
        """What has arrived; waits for the first so long (None: for ever). After a `closed` message nothing more comes."""
        if self._inbox:
            timeout_s = 0.0
        found = list(self._inbox)
        self._inbox.clear()
        return found + self._take(timeout_s)

    def _take(self, timeout_s: float | None) -> list[Message]:
        """Move bytes both ways until something arrived or the time is over."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            alive = self._flush()
            found = self._receive()
            if found or not alive:
                return found or self._hang_up()
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return []
            mask = select.POLLIN | (select.POLLOUT if self.wants_write else 0)
            poll = select.poll()
            poll.register(self._channel.fileno(), mask)
            poll.poll(None if left is None else left * 1000 + 0.5)

    def _hang_up(self) -> list[Message]:
        if self._closed:
            return []
        self._closed = True
        return [Message("closed", body={"machine": self.machine, "why": self._channel.diagnosis().partition("\n")[0]})]

    def _flush(self) -> bool:
        """Write what may go; False once the other end is gone and nothing more can arrive."""
        while not self._closed:
            data = self._link.output()
            if not data:
                break
            try:
                count = self._channel.send(data)
            except OSError:
                break
            if count == 0:
                break
            self._link.sent(count)
        return not self._closed

    def _receive(self) -> list[Message]:
        found: list[Message] = []
        while not self._closed:
            try:
                data = self._channel.recv(READ_BYTES)
            except OSError:
                data = b""
            if data is None:
                break
            if not data:
                return found + self._hang_up()
            try:
                frames = self._link.feed(data)
            except wire.FrameError:
                return found + self._hang_up()
            found += [self._message(*frame) for frame in frames]
            if len(found) > 1000:
                break
        return found

    def _message(self, kind: int, stream: int, payload: Any) -> Message:
        if kind == wire.DATA:
            if stream not in self._held:
                self._link.taken(stream, len(payload))
            return Message("data", stream, data=payload)
        if kind == wire.END:
            self._held.discard(stream)
            self._link.forget(stream)
            return Message("end", stream)
        if "event" in payload:
            return Message("event", 0, payload)
        return Message("reply", stream, payload)

    def _unreachable(self, why: str = "") -> UnreachableError:
        said = why or self._channel.diagnosis() or self._link.noise.decode("utf-8", "replace").strip()
        first, *ways = (said or "its agent ended").split("\n")
        ways = ways or ["attempts that run there go on; the same command continues them"]
        error = UnreachableError.of("unreachable", f"{self.machine} does not answer: {first}", *ways)
        assert isinstance(error, UnreachableError)
        return error

    @property
    def is_closed(self) -> bool:
        """True when nothing can be asked any more."""
        return self._closed

    @property
    def wants_write(self) -> bool:
        """True when bytes wait that the channel did not take; poll() writes them when it can."""
        return not self._closed and bool(self._link.output())

    def fileno(self) -> int:
        """For a selector: readable when poll() may have news, besides what poll(0) returns at once."""
        return self._channel.fileno()

    def close(self) -> None:
        """Hang up. Attempts live on."""
        self._closed = True
        self._channel.close()

    def put_code(self, digest: str, files: Mapping[str, bytes], executable: Iterable[str] = ()) -> str:
        """Lay out a code folder by digest unless it is there; its path relative to the workdir."""
        there = self.request("code_has", digest=digest)
        if there["present"]:
            return str(there["folder"])
        from albor_pipeline.agent.hashing import digest_bytes

        x = set(executable)
        items = [
            {"path": name, "digest": digest_bytes(body), "size_bytes": len(body), "x": name in x}
            for name, body in files.items()
        ]
        return str(self.request("code_put", digest=digest, files=items, data=b"".join(files.values()))["folder"])
