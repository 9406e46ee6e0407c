"""A workdir with real agents on it, for the agent's tests. Knows nothing of manifests and state."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from albor_pipeline.model.manifest import Machine
from albor_pipeline.transport.client import AgentClient, AgentError, Message
from albor_pipeline.transport.local import LocalTransport

FINGERPRINT = "ab" * 32
LIMIT_S = 20.0


class Box:
    """One workdir; agents of one lineage on it, hung up at the end, and every process of an attempt ended."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.clients: list[AgentClient] = []
        self.events: list[Message] = []

    def connect(self, lineage: str = "L", attempts: str = "all") -> AgentClient:
        client = LocalTransport().connect(
            Machine("box", "localhost", "box"), str(self.root), lineage, attempts=attempts
        )
        self.clients.append(client)
        return client

    @property
    def client(self) -> AgentClient:
        return self.clients[-1] if self.clients else self.connect()

    def spec(self, script: str, resource: str = "t", **changes: Any) -> dict[str, Any]:
        spec = {
            "resource": resource,
            "fingerprint": FINGERPRINT,
            "lineage": "L",
            "run": "0001",
            "argv": ["sh", "-c", script],
            "cwd": ".",
        }
        return {
            **spec,
            "env": {},
            "outputs": [],
            "clear_outputs": True,
            "grace_s": 2,
            "parts": {"command": {"": script}},
            **changes,
        }

    def reconnect(self) -> AgentClient:
        """Hang up and connect again, as a controller that was ended and started anew."""
        while self.clients:
            self.clients.pop().close()
        return self.connect()

    def lead(self, client: AgentClient) -> AgentClient:
        """The client once it holds the lease of its lineage."""
        client.request("lease", holder="a test")
        return client

    def start(self, script: str, resource: str = "t", **changes: Any) -> int:
        """Ask for an attempt as a controller does, with the lease; its number."""
        return int(self.lead(self.client).request("start", **self.spec(script, resource, **changes))["number"])

    def ended(self, resource: str = "t", number: int | None = None, name: str = "ended") -> Mapping[str, Any]:
        """Wait for the event of an attempt's end."""
        deadline = time.monotonic() + LIMIT_S
        while True:
            for message in self.events:
                body = message.body
                if body["event"] == name and body["resource"] == resource and number in (None, body["number"]):
                    self.events.remove(message)
                    return body
            assert time.monotonic() < deadline, f"no {name} event of {resource}"
            arrived = self.client.poll(0.5)
            assert not any(message.kind == "closed" for message in arrived), arrived
            self.events += [message for message in arrived if message.kind == "event"]

    def run(self, script: str, resource: str = "t", **changes: Any) -> Mapping[str, Any]:
        """Start and wait: the attempt object at its end."""
        return self.ended(resource, self.start(script, resource, **changes))

    def attempt(self, resource: str = "t", number: int = 1) -> Mapping[str, Any]:
        found = self.client.request("attempts", resource=resource, number=number)["attempts"]
        assert len(found) == 1
        return found[0]

    def log(self, resource: str = "t", number: int = 1) -> str:
        return bytes(self.client.request("log", resource=resource, number=number)["data"]).decode()

    def folder(self, resource: str = "t", number: int = 1) -> Path:
        return next((self.root / ".albor" / "attempts" / resource).glob(f"{number}-*"))

    def record(self, resource: str = "t", number: int = 1) -> dict[str, Any]:
        """The pid record, once it is there."""
        path = self.folder(resource, number) / "pid"
        self.until(lambda: path.exists() and path.stat().st_size > 0)
        return dict(json.loads(path.read_text()))

    def kill_supervisor(self, resource: str = "t", number: int = 1) -> None:
        os.kill(self.record(resource, number)["pid"], signal.SIGKILL)

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + LIMIT_S
        while not condition():
            assert time.monotonic() < deadline, "it did not come to pass"
            time.sleep(0.01)

    def close(self) -> None:
        client = self.connect() if not self.clients else self.clients[-1]
        try:
            for attempt in client.request("attempts", which="running", any_lineage=True)["attempts"]:
                with contextlib.suppress(AgentError):
                    client.request("signal", resource=attempt["resource"], number=attempt["number"], grace_s=0)
        finally:
            for each in self.clients:
                each.close()


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Box]:
    monkeypatch.delenv("ALBOR_TEST_PAUSE", raising=False)
    found = Box(tmp_path / "work dir")
    found.root.mkdir()
    yield found
    found.close()


@pytest.fixture
def other(box: Box, tmp_path: Path) -> Iterator[Box]:
    """Another pipeline of the same user on the same machine, in a folder of its own."""
    found = Box(tmp_path / "other")
    found.root.mkdir()
    yield found
    found.close()
