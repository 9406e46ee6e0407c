"""This machine: the same agent as anywhere, as a process of its own session, through a socket pair. Knows no verb."""

from __future__ import annotations

import os
import select
import shlex
import sys
import time
from pathlib import Path

from albor_pipeline.errors import UnreachableError
from albor_pipeline.model.manifest import Machine
from albor_pipeline.transport.bundle import ensure_bundle
from albor_pipeline.transport.client import AgentClient, AgentError
from albor_pipeline.transport.process import ProcessChannel


class LocalTransport:
    """Starts the agent with this interpreter, out of reach of the terminal's Ctrl-C."""

    def connect(self, machine: Machine, root: str, lineage: str, *, attempts: str = "all") -> AgentClient:
        """A client that has said hello; the workdir is the machine's, else `root`. Raises UnreachableError."""
        return greeted(self.start(machine, root, lineage), attempts)

    def start(self, machine: Machine, root: str, lineage: str) -> AgentClient:
        """A client of an agent that may still be loading: its hello is to be asked for. Raises UnreachableError."""
        workdir = str(Path(root, Path(machine.workdir).expanduser())) if machine.workdir else root
        try:
            return AgentClient(self._start(workdir, lineage, machine.name), machine.name)
        except OSError as error:
            raise UnreachableError.of("unreachable", f"{machine.name}: the agent cannot be started: {error}") from None

    def _start(self, workdir: str, lineage: str, name: str) -> ProcessChannel:
        options = {"--workdir": workdir, "--lineage": lineage, "--machine": name, "--path": _digest_folder()}
        words = [word for option in options.items() for word in option]
        return ProcessChannel([sys.executable, *(_replacement() or ("-I", "-S", str(ensure_bundle()))), *words])


def greeted(client: AgentClient, attempts: str = "all") -> AgentClient:
    """The client once its agent has said hello; one that cannot is closed. Raises UnreachableError."""
    try:
        client.greet(attempts)
    except AgentError as error:
        client.close()
        raise UnreachableError.of("unreachable", f"{client.machine}: its agent cannot work: {error.message}") from None
    except BaseException:
        client.close()
        raise
    return client


def _replacement() -> list[str]:
    """Test hook: ALBOR_TEST_AGENT holds the interpreter's words in place of the agent program, so that coverage sees it."""
    return shlex.split(os.environ.get("ALBOR_TEST_AGENT", ""))


def _digest_folder() -> str:
    """Where this interpreter finds blake3, so that the agent need not search; empty when it has none."""
    module = sys.modules.get("blake3")
    return str(Path(module.__file__).parent.parent) if module is not None and module.__file__ else ""


def wait_readable(clients: list[AgentClient], timeout_s: float | None) -> None:
    """Wait until one of the clients may have news, or can write what it holds back."""
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    poll = select.poll()
    for client in clients:
        poll.register(client.fileno(), select.POLLIN | (select.POLLOUT if client.wants_write else 0))
    left = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000 + 0.5
    poll.poll(left)
