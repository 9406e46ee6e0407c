"""Another machine: the same agent as here, at the end of one SSH connection. Knows no verb.

A thread of its own dials, puts the agent there and then moves bytes between the connection and a socket pair, so that nobody
waits while a machine is being reached, any number of them are reached at once, and whoever waits can wait for a descriptor.
Test hook: ALBOR_TEST_SILENCE_S is QUIET_S and ANSWER_S, with a comma between them.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from albor_pipeline.errors import UnreachableError
from albor_pipeline.model.manifest import Machine
from albor_pipeline.transport import arrival
from albor_pipeline.transport.client import AgentClient, SocketChannel
from albor_pipeline.transport.dial import Dialled
from albor_pipeline.transport.faults import Unusable
from albor_pipeline.transport.local import greeted
from albor_pipeline.transport.sshconfig import Hop, import_library, route

QUIET_S, ANSWER_S = map(float, (os.environ.get("ALBOR_TEST_SILENCE_S") or "15,30").split(","))
ARRIVAL_S = 60.0
HANG_UP_WAIT_S = 2.0
PIECE_BYTES = 1 << 18
PACKET_BYTES = 1 << 15  # a channel takes no more at once; the rest would be copied for nothing


class SshChannel(SocketChannel):
    """The near end of the socket pair, and the threads that serve its far end."""

    def __init__(self, way: Callable[[], Sequence[Hop]], command: Callable[[], str]) -> None:
        self._way = way
        self._command = command
        self._dialled = Dialled()
        self._why = ""
        self._closing = False
        self._arrived = False
        ours, self._far = socket.socketpair()
        super().__init__(ours)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def diagnosis(self) -> str:
        return "the connection was closed here" if self._closing else self._why

    def close(self) -> None:
        """Hang up and wait for the agent to go, two seconds at most; a connection that is still being made is given up."""
        self._closing = True
        self._socket.close()
        if self._arrived:
            self._thread.join(HANG_UP_WAIT_S)
        self._dialled.close()

    def _serve(self) -> None:
        """The life of the connection; at its end `_why` says what ended it, before the other side of the pair sees that."""
        try:
            self._why = self._live()
        except Unusable as error:
            self._why = "\n".join((error.text, *error.ways))
        except Exception as error:  # nothing that a library raises in this thread may be lost
            self._why = f"{type(error).__name__}: {error}"
        finally:
            with suppress(OSError):
                self._far.shutdown(socket.SHUT_RDWR)
            self._far.close()
            self._dialled.close()

    def _live(self) -> str:
        self._dialled.dial(self._way())
        transport = self._dialled.transport
        channel = transport.open_session(timeout=ARRIVAL_S)
        channel.settimeout(ARRIVAL_S)
        channel.exec_command(self._command())
        try:
            early = arrival.settle(lambda: _received(channel), channel.sendall)
        except TimeoutError:
            raise Unusable(f"its shell said nothing for {ARRIVAL_S:.0f} s") from None
        except Unusable as error:
            raise Unusable(_said(channel) or error.text, *error.ways) from None
        self._arrived = True
        threading.Thread(target=self._up, args=(channel,), daemon=True).start()
        self._far.sendall(early)
        return self._down(transport, channel) or _said(channel) or _end(transport, channel)

    def _down(self, transport: Any, channel: Any) -> str:
        """Pass on what comes from the agent until nothing more does; why, where it is known here."""
        channel.settimeout(QUIET_S)
        while True:
            try:
                data = channel.recv(PIECE_BYTES)
            except TimeoutError:
                if channel.exit_status_ready():
                    return ""
                if not answers(transport):
                    return f"nothing came from it for {QUIET_S + ANSWER_S:g} s"
                continue
            if not data:
                return ""
            try:
                self._far.sendall(data)
            except OSError:
                return ""

    def _up(self, channel: Any) -> None:
        """Pass on what goes to the agent; at the end it sees the end of its input, and goes."""
        try:
            while data := self._far.recv(PIECE_BYTES):
                view = memoryview(data)
                while view:
                    try:
                        view = view[channel.send(bytes(view[:PACKET_BYTES])) :]
                    except TimeoutError:
                        continue
            channel.shutdown_write()
            channel.status_event.wait(HANG_UP_WAIT_S)
            channel.close()
        except (OSError, EOFError):
            return


def answers(transport: Any) -> bool:
    """Ask the other side for a sign of life; a connection without one is closed, whatever the network believes of it."""
    silent = threading.Timer(ANSWER_S, transport.close)
    silent.daemon = True
    silent.start()
    try:
        transport.global_request("keepalive@openssh.com", wait=True)
    except (OSError, EOFError):
        return False
    finally:
        silent.cancel()
    return bool(transport.is_active())


def _received(channel: Any) -> bytes:
    data: bytes = channel.recv(PIECE_BYTES)
    return data


def _said(channel: Any) -> str:
    """The last line that the machine wrote to stderr."""
    text = b""
    while channel.recv_stderr_ready():
        text += channel.recv_stderr(PIECE_BYTES)
    lines = [line.strip() for line in text.decode("utf-8", "replace").splitlines() if line.strip()]
    return lines[-1] if lines else ""


def _end(transport: Any, channel: Any) -> str:
    if channel.exit_status_ready() and channel.exit_status >= 0:
        return f"its agent ended with exit {channel.exit_status}"
    cause = transport.get_exception()
    return f"the connection was cut: {cause}" if cause is not None and str(cause) else "the connection was cut"


class SshTransport:
    """Starts agents on other machines."""

    def connect(self, machine: Machine, root: str, workdir: str, lineage: str, *, attempts: str = "all") -> AgentClient:
        """A client that has said hello. Raises UnreachableError."""
        return greeted(self.start(machine, root, workdir, lineage), attempts)

    def start(self, machine: Machine, root: str, workdir: str, lineage: str) -> AgentClient:
        """A client of a machine that is being reached; relative paths of the manifest are below `root`, `workdir` is for a machine without.

        Raises UnreachableError when there is no thread for it.
        """
        folder = machine.workdir or workdir
        import_library()
        try:
            channel = SshChannel(lambda: route(machine, root), lambda: arrival.command(folder, lineage, machine.name))
        except (OSError, RuntimeError) as error:
            raise UnreachableError.of("unreachable", f"{machine.name}: it cannot be reached: {error}") from None
        return AgentClient(channel, machine.name)
