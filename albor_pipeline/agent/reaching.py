"""Reaching another machine from this one: its agent at the end of this machine's own `ssh`, to which one tree is given. Decides nothing.

The controller says the words of the login and which host key to believe, and has put the agent there before. Nobody is asked for
anything; what `ssh` may believe lies in a file without a name, which ends with this process. No process is left when this is closed.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import time
from collections import deque

from albor_pipeline.agent import wire
from albor_pipeline.agent.attempts import AttemptError
from albor_pipeline.agent.layout import write_all
from albor_pipeline.agent.link import Link

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

    from albor_pipeline.agent.giving import Giver

NO_WAY = "no-way"
PROGRAM = "ssh"
PATIENCE_S = 20.0
HANG_UP_WAIT_S = 1.0
MOMENT_S = 0.2
PROGRESS_S = 0.5
BUFFER_BYTES = 1 << 20
READ_BYTES = 1 << 18


class Refused(Exception):
    """The other machine's agent says no: `code` and `message` as it said them."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Reach:
    """A connection of this machine's own to another's agent, to be closed. One thread's, which also moves the bytes."""

    def __init__(self, to: Mapping[str, Any], is_wanted: Callable[[], bool]) -> None:
        """`to`: the `words` for `ssh`, the lines of `known_hosts`. It goes on for as long as it `is_wanted`.

        Raises AttemptError `no-way`.
        """
        import shutil
        import subprocess

        program = shutil.which(PROGRAM)
        if program is None:
            raise AttemptError(NO_WAY, "%s is not installed there" % PROGRAM)
        self._is_wanted = is_wanted
        self._link = Link(magic=True)
        self._replies: deque[dict[str, Any]] = deque()
        self._number = 0
        self._fed = 0
        self._limit_s = time.monotonic() + PATIENCE_S
        self._meanwhile: Callable[[], None] = lambda: None
        self._told_s = time.monotonic()
        self._known, self._errors = (os.memfd_create(name, os.MFD_CLOEXEC) for name in ("known_hosts", "errors"))
        self._socket, theirs = socket.socketpair()
        try:
            write_all(self._known, to["known_hosts"].encode())
            for end in (self._socket, theirs):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
            self._socket.setblocking(False)
            believed = "UserKnownHostsFile=/proc/%d/fd/%d" % (os.getpid(), self._known)
            command = [program, "-o", believed, *to["words"]]
            self._process = subprocess.Popen(command, stdin=theirs.fileno(), stdout=theirs.fileno(), stderr=self._errors)
        except BaseException as error:
            self._let_go()
            if isinstance(error, OSError):
                raise AttemptError(NO_WAY, "%s cannot be started there: %s" % (PROGRAM, error)) from None
            raise
        finally:
            theirs.close()

    def __enter__(self) -> Reach:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def settle(self, verb: str, **args: Any) -> None:
        """Ask for what the rest needs, and wait no longer than a login may take. Raises AttemptError `no-way`."""
        try:
            self._begin(verb, args)
            self._reply()
        except Refused as error:
            raise AttemptError(NO_WAY, error.message) from None
        self._limit_s = float("inf")

    def give(self, giver: Giver, request: Mapping[str, Any], tell: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        """Let the other machine take a tree; its last reply. `tell` gets what it asks for, and how many bytes of that went.

        Raises Refused; AttemptError as the giver does and `no-way`; OSError.
        """
        self._begin("take", request)
        self._write(giver.listing())
        first = self._fed
        last: dict[str, Any] = {}

        def asked() -> Iterator[bytes]:
            while not last:
                reply = self._reply()
                if reply.get("done"):
                    last.update(reply)
                else:
                    tell({"files": reply["files"], "size_bytes": reply["size_bytes"]})
                    yield json.dumps(reply["wants"]).encode() + b"\n"

        self._meanwhile = lambda: tell({"passed_bytes": max(0, self._fed - self._link.waiting(self._number) - first)})
        giver.serve(asked(), self._write)
        return {name: value for name, value in last.items() if name not in ("id", "ok")}

    def _begin(self, verb: str, args: Mapping[str, Any]) -> None:
        self._number += 1
        self._link.message(self._number, {"verb": verb, **args})

    def _reply(self) -> dict[str, Any]:
        while not self._replies:
            self._turn(MOMENT_S)
        return self._replies.popleft()

    def _write(self, data: bytes) -> None:
        """Data of the last request; waits while more than a window lies here."""
        self._link.data(self._number, data)
        self._fed += len(data)
        self._turn(0.0)
        while self._link.waiting(self._number) > wire.WINDOW_BYTES:
            self._turn(MOMENT_S)

    def _turn(self, wait_s: float) -> None:
        """Move bytes both ways, after so long a wait at most. Raises Refused, AttemptError `no-way`."""
        if not self._is_wanted():
            raise AttemptError(NO_WAY, "the controller was not heard any more")
        if time.monotonic() > self._limit_s:
            raise AttemptError(NO_WAY, "it did not answer in %.0f s" % PATIENCE_S)
        if time.monotonic() - self._told_s >= PROGRESS_S:
            self._told_s = time.monotonic()
            self._meanwhile()
        data = self._link.output()
        poll = select.poll()
        poll.register(self._socket, select.POLLIN | (select.POLLOUT if data else 0))
        poll.poll(wait_s * 1000)
        try:
            self._link.sent(self._socket.sendmsg(data) if data else 0)
        except OSError:  # full, or the end of it, which reading tells
            pass
        try:
            came = self._socket.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            came = b""
        if not came:
            raise AttemptError(NO_WAY, self._why())
        try:
            frames = self._link.feed(came)
        except wire.FrameError as error:
            raise AttemptError(NO_WAY, str(error)) from None
        for kind, _number, payload in frames:
            if kind == wire.MESSAGE:
                self._take(payload)

    def _take(self, reply: dict[str, Any]) -> None:
        if not reply.get("ok"):
            raise Refused(reply["error"]["code"], reply["error"]["message"])
        self._replies.append(reply)

    def _why(self) -> str:
        """The last line that `ssh`, or the other machine, wrote to stderr."""
        import subprocess

        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(HANG_UP_WAIT_S)
        lines = [line.strip() for line in os.pread(self._errors, 1 << 16, 0).decode("utf-8", "replace").splitlines()]
        said = [line for line in lines if line]
        return said[-1] if said else "%s ended with exit %s" % (PROGRAM, self._process.returncode)

    def close(self) -> None:
        """Hang up and end what is left, at once: all that was to be said has been said."""
        self._process.kill()
        self._process.wait()
        self._let_go()

    def _let_go(self) -> None:
        self._socket.close()
        os.close(self._known)
        os.close(self._errors)
