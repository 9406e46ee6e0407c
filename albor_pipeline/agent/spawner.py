"""The lean process that does all forks of attempts: one supervisor a request, and word of each end. Digests nothing itself, has no threads.

Requests come through a pipe as length and JSON; lines of JSON go back through another, each short enough to be written whole.
Both ends of the agent's side tell the rest: when the request pipe closes, the agent is gone and nothing more is started;
when the reply pipe closes, this process and every supervisor that had not yet claimed are gone, so what was not
answered was not started and may be asked again.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import struct
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, NoReturn

LENGTH = struct.Struct(">I")
MAX_LINE = 4000


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
        self._tokens: dict[int, int] = {}
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)

    def run(self) -> None:
        """Serve until the agent is gone."""
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        poll = select.poll()
        poll.register(self._requests, select.POLLIN)
        poll.register(self._wake_read, select.POLLIN)
        while True:
            ready = dict(poll.poll())
            if self._wake_read in ready:
                self._drain()
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

    def _reap(self) -> None:
        while self._tokens:
            try:
                pid, _status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            reply(self._replies, {"token": self._tokens.pop(pid, 0), "gone": True})

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
        body = json.loads(data)
        try:
            pid = os.fork()
        except OSError as error:
            reply(self._replies, {"token": body["token"], "code": "io", "message": "cannot fork: %s" % error.strerror})
            return
        if pid == 0:
            self._become_supervisor(body["token"], body["spec"])
        self._tokens[pid] = body["token"]

    def _become_supervisor(self, token: int, spec: Mapping[str, Any]) -> NoReturn:
        from albor_pipeline.agent import supervisor

        status = 1
        try:
            signal.set_wakeup_fd(-1)
            for descriptor in (self._requests, self._wake_read, self._wake_write):
                os.close(descriptor)

            def report(body: Mapping[str, Any]) -> None:
                reply(self._replies, {"token": token, **body})
                os.close(self._replies)

            supervisor.supervise(self._layout, self._machine, spec, report)
            status = 0
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(status)


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
