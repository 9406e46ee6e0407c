"""The lean process that does all forks of attempts and passes on word of each end. Digests nothing itself, has no threads.

Requests come through a pipe as length and JSON; lines of JSON go back through another, each short enough to be written whole.
Both ends of the agent's side tell the rest: when the request pipe closes, the agent is gone and nothing more is started;
when the reply pipe closes, this process and every supervisor that had not yet claimed are gone, so what was not
answered was not started and may be asked again. That is why a supervisor holds the reply pipe only from request to claim.

A supervisor whose attempt is proven and has left nothing behind waits for another (a fork of an interpreter costs more
than a short task): it is asked through a socket of its own, which also carries the reply pipe, and ends when that closes.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import socket
import struct
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, NoReturn

LENGTH = struct.Struct(">I")
MAX_LINE = 4000
MAX_IDLE = 8
FREE = b"f"


def request(token: int, spec: Mapping[str, Any]) -> bytes:
    """The bytes that ask the spawner for one attempt."""
    data = json.dumps({"token": token, "spec": spec}, separators=(",", ":")).encode("ascii")
    return LENGTH.pack(len(data)) + data


def reply(descriptor: int, body: Mapping[str, Any]) -> None:
    """Write one line to the agent, which may be gone."""
    data = json.dumps(body, separators=(",", ":")).encode("ascii") + b"\n"
    if len(data) > MAX_LINE:
        attempt = body.get("attempt") or {}
        short = {key: attempt.get(key) for key in ("resource", "number", "fingerprint", "liveness")}
        kept = {
            "token": body["token"],
            "code": body.get("code"),
            "message": str(body.get("message"))[:1000],
            "attempt": short,
        }
        data = json.dumps(kept).encode("ascii") + b"\n"
    try:
        os.write(descriptor, data)
    except BrokenPipeError:
        pass


def close_others(keep: set[int]) -> None:
    """Close every descriptor above 2 that is not in `keep`."""
    for name in os.listdir("/proc/self/fd"):
        descriptor = int(name)
        if descriptor > 2 and descriptor not in keep:
            try:
                os.close(descriptor)
            except OSError:
                pass


class Worker:
    """A supervisor process: what it was asked last (0: told as ended), and the socket through which it is asked again."""

    def __init__(self, pid: int, token: int, line: socket.socket) -> None:
        self.pid = pid
        self.token = token
        self.line = line

    def ask(self, token: int, data: bytes, replies: int) -> bool:
        """Give it another request; False when it is gone."""
        try:
            socket.send_fds(self.line, [LENGTH.pack(len(data))], [replies])
            self.line.sendall(data)
        except OSError:
            return False
        self.token = token
        return True


class Spawner:
    """The loop: requests in, supervisors out, ends reported."""

    def __init__(self, workdir: str, machine: str, requests: int, replies: int) -> None:
        from albor_pipeline.agent.layout import Layout

        self._layout = Layout(workdir)
        self._machine = machine
        self._requests = requests
        self._replies = replies
        self._parent = os.getppid()
        self._buffer = bytearray()
        self._workers: dict[int, Worker] = {}
        self._lines: dict[int, Worker] = {}
        self._idle: list[Worker] = []
        self._poll = select.poll()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)

    def run(self) -> None:
        """Serve until the agent is gone."""
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        self._poll.register(self._requests, select.POLLIN)
        self._poll.register(self._wake_read, select.POLLIN)
        while True:
            ready = dict(self._poll.poll())
            if self._wake_read in ready:
                self._drain()
            self._hear(ready)
            if self._wake_read in ready:
                self._reap()
            if self._requests in ready:
                data = os.read(self._requests, 1 << 20)
                if not data:
                    return
                self._buffer += data
                self._start_all()

    def _drain(self) -> None:
        try:
            os.read(self._wake_read, 65536)
        except BlockingIOError:
            pass

    def _hear(self, ready: Mapping[int, int]) -> None:
        """Take back the supervisors that say they are free, forget the lines of those that are gone."""
        for worker in [self._lines[descriptor] for descriptor in ready if descriptor in self._lines]:
            if self._said(worker) == FREE:
                self._tell_gone(worker)
                self._idle.append(worker)
            if worker.token or len(self._idle) > MAX_IDLE:
                self._let_go(worker)

    def _said(self, worker: Worker) -> bytes:
        try:
            return worker.line.recv(1)
        except OSError:
            return b""

    def _let_go(self, worker: Worker) -> None:
        """Never ask this one again; it ends by itself, if it has not, and its end is reported then."""
        if self._lines.pop(worker.line.fileno(), None) is not None:
            self._poll.unregister(worker.line)
            worker.line.close()
        if worker in self._idle:
            self._idle.remove(worker)

    def _tell_gone(self, worker: Worker) -> None:
        if worker.token:
            reply(self._replies, {"token": worker.token, "gone": True})
            worker.token = 0

    def _reap(self) -> None:
        while self._workers:
            try:
                pid, _status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            worker = self._workers.pop(pid, None)
            if worker is not None:
                self._let_go(worker)
                self._tell_gone(worker)

    def _start_all(self) -> None:
        while len(self._buffer) >= LENGTH.size:
            (length,) = LENGTH.unpack_from(self._buffer)
            end = LENGTH.size + length
            if len(self._buffer) < end:
                return
            data = bytes(self._buffer[LENGTH.size : end])
            del self._buffer[:end]
            if os.getppid() != self._parent:
                return
            self._start(data)
            self._reap()

    def _start(self, data: bytes) -> None:
        token = json.loads(data)["token"]
        while self._idle:
            worker = self._idle.pop()
            if worker.ask(token, data, self._replies):
                return
            self._let_go(worker)
        ours, theirs = socket.socketpair()
        try:
            pid = os.fork()
        except OSError as error:
            ours.close()
            theirs.close()
            reply(self._replies, {"token": token, "code": "io", "message": "cannot fork: %s" % error.strerror})
            return
        if pid == 0:
            ours.close()
            self._become_supervisor(data, theirs)
        theirs.close()
        self._workers[pid] = Worker(pid, token, ours)
        self._lines[ours.fileno()] = self._workers[pid]
        self._poll.register(ours, select.POLLIN)

    def _become_supervisor(self, data: bytes, line: socket.socket) -> NoReturn:
        from albor_pipeline.agent import supervisor

        status = 1
        try:
            signal.set_wakeup_fd(-1)
            for descriptor in (self._requests, self._wake_read, self._wake_write):
                os.close(descriptor)
            for worker in self._lines.values():
                worker.line.close()
            supervisor.begin()
            replies = self._replies
            while True:
                body = json.loads(data)

                def report(answer: Mapping[str, Any], token: int = body["token"], descriptor: int = replies) -> None:
                    reply(descriptor, {"token": token, **answer})
                    os.close(descriptor)

                if not supervisor.supervise(self._layout, self._machine, body["spec"], report):
                    break
                line.sendall(FREE)
                data, replies = next_request(line)
            status = 0
        except ConnectionError:
            status = 0
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(status)


def next_request(line: socket.socket) -> tuple[bytes, int]:
    """What a free supervisor is asked next: the request, and the reply pipe. Raises ConnectionError when nobody asks any more."""
    head, descriptors, _flags, _address = socket.recv_fds(
        line, LENGTH.size, 1, socket.MSG_WAITALL | socket.MSG_CMSG_CLOEXEC
    )
    if len(head) < LENGTH.size or not descriptors:
        raise ConnectionResetError("no more requests")
    (left,) = LENGTH.unpack(head)
    data = bytearray()
    while len(data) < left:
        part = line.recv(left - len(data))
        if not part:
            raise ConnectionResetError("the request is not whole")
        data += part
    return bytes(data), descriptors[0]


def run_spawner(workdir: str, machine: str, requests: int, replies: int) -> NoReturn:
    """Become the spawner; never returns. Loads all that supervisors need first, so that each fork has it."""
    status = 1
    try:
        null = os.open("/dev/null", os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(null, 1)
        close_others({requests, replies})
        spawner = Spawner(workdir, machine, requests, replies)
        import ctypes  # noqa: F401 (loaded here once, used by every supervisor)

        import albor_pipeline.agent.supervisor  # noqa: F401 (the same)
        from albor_pipeline.agent import hashing

        hashing.load_module()
        gc.collect()
        gc.freeze()
        spawner.run()
        status = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(status)
