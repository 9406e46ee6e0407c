"""The agent's loop: one thread that moves frames and never waits, workers for whatever reads or hashes. The verbs are in verbs.py."""

from __future__ import annotations

import os
import queue
import select
import threading
import time

from albor_pipeline.agent import attempts, files, liveness, scripts, wire
from albor_pipeline.agent.layout import BadName, Layout
from albor_pipeline.agent.lease import Lease, boot_time
from albor_pipeline.agent.link import Link
from albor_pipeline.agent.probe import Prober, new_cache
from albor_pipeline.agent.project import Project
from albor_pipeline.agent.results import Results
from albor_pipeline.agent.starts import POLL_S, Spawning, Starts, Tail

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

    from albor_pipeline.agent.project import Item

    Verb = Callable[["Server", "Stream", Mapping[str, Any]], "dict[str, Any] | None"]

MAX_WORKERS = 8
CLOSE_WAIT_S = 0.5


class Stream:
    """One request as its verb sees it: bytes that come with it, bytes that go back. read() and write() are for workers only."""

    def __init__(self, server: Server, number: int) -> None:
        self._server = server
        self.number = number
        self.inbox: queue.SimpleQueue[memoryview | ConnectionError | None] = queue.SimpleQueue()
        self.sends = False
        self.ended = False
        self._heard_s = boot_time()

    def is_wanted(self) -> bool:
        """False once the other side wants no more of it, or has sent nothing on this stream for as long as a lease lasts."""
        return not self.ended and boot_time() - self._heard_s <= self._server.lease.limit_s

    def read(self) -> Iterator[memoryview]:
        """The request's data, part by part. Raises ConnectionError when the other side goes away in between."""
        while True:
            part = self.inbox.get()
            if part is None:
                return
            if isinstance(part, ConnectionError):
                raise part
            self._server.taken(self.number, len(part))
            yield part

    def put(self, part: memoryview | ConnectionError | None) -> None:
        """Data of the request came, or its end; after the end nobody waits for what this stream still sends."""
        self._heard_s = boot_time()
        self.ended = part is None or isinstance(part, ConnectionError)
        self.inbox.put(part)

    def write(self, data: bytes) -> None:
        """Send data after the reply; waits while the other side does not take it. Raises ConnectionError when it wants no more."""
        self._server.write(self, data)


class Server:
    """State of one agent: connection, attempts under way, workers."""

    def __init__(
        self, layout: Layout, lineage: str, machine: str, spawning: Spawning, verbs: Mapping[str, tuple[Verb, bool]]
    ) -> None:
        self.layout = layout
        self.lineage = lineage
        self.machine = machine
        self.lease = Lease(layout, lineage)
        self.prober = Prober(layout)
        self.results = Results(layout, new_cache(layout))
        self.project = Project(layout, new_cache(layout))
        self.listed: list[Item] = []
        self.store_lock = threading.Lock()
        self.network_fs = liveness.is_network(layout.workdir)
        self.head_lock = threading.Lock()
        self.head_request = 0
        self._verbs = verbs
        self._link = Link(magic=False)
        self._room = threading.Condition()
        self._streams: dict[int, Stream] = {}
        self._tails: dict[int, Tail] = {}
        self._jobs: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._workers = 0
        self._idle = 0
        self._timeout: float | None = None
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._loop_thread = threading.get_ident()
        self.starts = Starts(layout, spawning, self.answer, self.event)

    def run(self, incoming: int, outgoing: int) -> None:
        """Serve until the other side closes. Raises FrameError, OSError when the connection is of no use any more."""
        os.set_blocking(incoming, False)
        os.set_blocking(outgoing, False)
        self._link.raw(wire.MAGIC)
        while True:
            self._write_out(outgoing)
            ready = self._poll(incoming, outgoing)
            if self.starts.spawning.requests in ready:
                self.starts.spawning.flush()
            if self._wake_read in ready:
                self._drain_wake()
            if self.starts.spawning.replies in ready:
                self.starts.hear()
            if incoming in ready and not self._read_in(incoming):
                return
            dues = [due for due in (self.starts.tick(), self.lease.tick(bool(self._streams))) if due is not None]
            self._timeout = min(dues, default=None)
            if self._follow():
                self._timeout = 0.0

    def _poll(self, incoming: int, outgoing: int) -> set[int]:
        spawning = self.starts.spawning
        with self._room:
            blocked = bool(self._link.output())
        reading = [incoming, spawning.replies, self._wake_read]
        writing = ([outgoing] if blocked else []) + ([spawning.requests] if spawning.wants_write else [])
        timeout_s = self._timeout
        if self._tails:
            timeout_s = POLL_S if timeout_s is None else min(timeout_s, POLL_S)
        poll = select.poll()
        for descriptor in {*reading, *writing}:
            mask = (select.POLLIN if descriptor in reading else 0) | (select.POLLOUT if descriptor in writing else 0)
            poll.register(descriptor, mask)
        return {descriptor for descriptor, _events in poll.poll(None if timeout_s is None else timeout_s * 1000 + 0.5)}

    def _write_out(self, outgoing: int) -> None:
        with self._room:
            while True:
                data = self._link.output()
                if not data:
                    break
                try:
                    self._link.sent(os.writev(outgoing, data))
                except BlockingIOError:
                    break
            self._room.notify_all()

    def _drain_wake(self) -> None:
        try:
            os.read(self._wake_read, 65536)
        except BlockingIOError:
            pass

    def _read_in(self, incoming: int) -> bool:
        try:
            data = os.read(incoming, 1 << 18)
        except BlockingIOError:
            return True
        except ConnectionResetError:
            return False
        if not data:
            return False
        self.lease.heard()
        with self._room:
            frames = self._link.feed(data)
        for kind, number, payload in frames:
            if kind == wire.MESSAGE:
                self._request(number, payload)
            elif number in self._streams:
                self._streams[number].put(payload if kind == wire.DATA else None)
        return True

    def _request(self, number: int, body: Mapping[str, Any]) -> None:
        name = body.get("verb")
        found = self._verbs.get(str(name))
        if found is None:
            self.answer(number, None, "unknown-verb", "this agent knows no verb %r" % (name,))
            return
        verb, in_worker = found
        stream = Stream(self, number)
        self._streams[number] = stream
        if in_worker:
            self.later(lambda: self._serve(verb, stream, body))
        else:
            self._serve(verb, stream, body)

    def _serve(self, verb: Verb, stream: Stream, body: Mapping[str, Any]) -> None:
        try:
            found = verb(self, stream, body)
            if found is not None:
                self.answer(stream.number, found)
        except (attempts.AttemptError, files.FileError) as error:
            self.answer(stream.number, None, error.code, error.message, getattr(error, "attempt", None))
        except BadName as error:
            self.answer(stream.number, None, "bad-spec", str(error))
        except OSError as error:
            text = "%s: %s" % (error.filename, error.strerror) if error.filename else error.strerror or str(error)
            self.answer(stream.number, None, "io", text)
        except Exception as error:
            self.answer(stream.number, None, "bug", "%s: %s: %s" % (body.get("verb"), type(error).__name__, error))
        finally:
            if stream.sends:
                self.end(stream.number)
            self._streams.pop(stream.number, None)

    def later(self, job: Callable[[], None]) -> None:
        """Give a job to a worker."""
        self._jobs.put(job)
        if self._jobs.qsize() > self._idle and self._workers < MAX_WORKERS:
            self._workers += 1
            threading.Thread(target=self._work, daemon=True).start()

    def _work(self) -> None:
        while True:
            with self._room:
                self._idle += 1
            job = self._jobs.get()
            with self._room:
                self._idle -= 1
            job()

    def answer(
        self,
        number: int,
        body: Mapping[str, Any] | None,
        code: str = "",
        message: str = "",
        attempt: Mapping[str, Any] | None = None,
    ) -> None:
        """Reply to a request: with `body`, or with an error."""
        if body is not None:
            reply: dict[str, Any] = {"id": number, "ok": True, **body}
        else:
            reply = {"id": number, "ok": False, "error": {"code": code, "message": message}}
            if attempt:
                reply["error"]["attempt"] = attempt
        self._send(number, reply)

    def event(self, name: str, attempt: Mapping[str, Any]) -> None:
        """Tell the controller something that it did not just ask for."""
        self._send(0, {"event": name, **attempt})

    def _send(self, number: int, body: Mapping[str, Any]) -> None:
        with self._room:
            self._link.message(number, body)
        self._wake()

    def _wake(self) -> None:
        if threading.get_ident() != self._loop_thread:
            try:
                os.write(self._wake_write, b"w")
            except BlockingIOError:
                pass

    def write(self, stream: Stream, data: bytes) -> None:
        """Queue data of a worker; waits while more than a window is queued."""
        with self._room:
            while self._link.waiting(stream.number) > wire.WINDOW_BYTES and not stream.ended:
                self._room.wait()
            if stream.ended:
                raise ConnectionError("the other side wants no more of it")
            self._link.data(stream.number, data)
        self._wake()

    def end(self, number: int) -> None:
        """No more data follows on a stream."""
        with self._room:
            self._link.end(number)
        self._wake()

    def taken(self, number: int, size_bytes: int) -> None:
        """A worker used up received data."""
        with self._room:
            self._link.taken(number, size_bytes)
        self._wake()

    def follow(self, number: int, tail: Tail) -> None:
        """Send a log's bytes on a stream from now on, until its attempt has ended and all is sent."""
        self._tails[number] = tail

    def _follow(self) -> bool:
        """Queue what followed logs have; True when there may be more at once."""
        more = False
        for number, tail in list(self._tails.items()):
            if self._link.waiting(number) > wire.WINDOW_BYTES // 2:
                continue
            ended = not liveness.lock_is_held(os.path.join(tail.folder, "alive"))
            data = tail.read(wire.WINDOW_BYTES // 2)
            if data:
                more = True
                with self._room:
                    self._link.data(number, data)
            elif ended and attempts.state_of(tail.folder)[0] not in attempts.RUNNING:
                del self._tails[number]
                self.end(number)
        return more

    def close(self) -> None:
        """Leave nothing of this agent behind but the attempts, which live on."""
        scripts.kill_all()
        for stream in list(self._streams.values()):
            stream.put(ConnectionError("the connection closed"))
        with self._room:
            self._room.notify_all()
        deadline = time.monotonic() + CLOSE_WAIT_S
        while self._streams and time.monotonic() < deadline:
            time.sleep(0.005)
        self.lease.let_go()
