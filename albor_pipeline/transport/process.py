"""An agent at the other end of a child process, whose stdin and stdout are one socket. Knows no machine and no verb."""

from __future__ import annotations

import signal
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from typing import IO

from albor_pipeline.transport.client import SocketChannel

HANG_UP_WAIT_S = 2.0
BUFFER_BYTES = 1 << 20


class ProcessChannel(SocketChannel):
    """The child and our end of the socket. The child has a session of its own, out of reach of the terminal's Ctrl-C."""

    def __init__(self, command: Sequence[str], hang_up_wait_s: float = HANG_UP_WAIT_S) -> None:
        """Start the child, which may take so long to end by itself once it is hung up on. Raises OSError."""
        self._hang_up_wait_s = hang_up_wait_s
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (close() closes it)
        try:
            self._process = subprocess.Popen(
                command, stdin=theirs.fileno(), stdout=theirs.fileno(), stderr=self._errors, start_new_session=True
            )
        except BaseException:
            ours.close()
            self._errors.close()
            raise
        finally:
            theirs.close()
        super().__init__(ours)

    @property
    def pid(self) -> int:
        """The child's pid."""
        return self._process.pid

    def diagnosis(self) -> str:
        """The last line that the child wrote to stderr, else how it ended."""
        try:
            code = self._process.wait(HANG_UP_WAIT_S)
        except subprocess.TimeoutExpired:
            return "its agent closed the connection"
        if self._errors.closed:
            return "the connection was closed here"
        self._errors.seek(0)
        lines = [line for line in self._errors.read().decode("utf-8", "replace").splitlines() if line.strip()]
        if lines:
            return lines[-1].strip()
        return (
            f"its agent was killed by {signal.Signals(-code).name}" if code < 0 else f"its agent ended with exit {code}"
        )

    def close(self) -> None:
        """Hang up and wait for the child to go; one that does not is ended, which attempts outlive."""
        self._socket.close()
        for end, wait_s in ((None, self._hang_up_wait_s), (self._process.terminate, HANG_UP_WAIT_S), (self._process.kill, None)):
            if end is not None:
                end()
            try:
                self._process.wait(wait_s)
                break
            except subprocess.TimeoutExpired:
                continue
        self._errors.close()
