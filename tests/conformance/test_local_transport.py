"""The local transport keeps the laws of every transport, and two of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from transport_suite import Connect, TransportSuite

from albor_pipeline.model.manifest import Machine
from albor_pipeline.transport.client import AgentClient
from albor_pipeline.transport.local import LocalTransport


class TestLocalTransport(TransportSuite):
    @pytest.fixture
    def connect(self, tmp_path: Path) -> Iterator[Connect]:
        opened: list[AgentClient] = []

        def connect(workdir: str) -> AgentClient:
            opened.append(LocalTransport().connect(Machine("box", "localhost", "box"), workdir, "L"))
            return opened[-1]

        yield connect
        for client in opened:
            client.close()

    def test_a_machines_workdir_is_taken_from_the_project_folder(self, tmp_path: Path) -> None:
        client = LocalTransport().connect(Machine("box", "localhost", "box", workdir="sub"), str(tmp_path), "L")
        assert client.hello["workdir"] == str(tmp_path / "sub")
        client.close()

    def test_the_terminals_interrupt_does_not_reach_agent_or_attempts(self, tmp_path: Path) -> None:
        script = f"""
import os, signal, sys
from albor_pipeline.model.manifest import Machine
from albor_pipeline.transport.local import LocalTransport
signal.signal(signal.SIGINT, lambda *_: None)
client = LocalTransport().connect(Machine("box", "localhost", "box"), {str(tmp_path)!r}, "L")
client.request("lease", holder="a test")
client.request("start", resource="t", fingerprint="ab" * 32, lineage="L", run="1", argv=["sh", "-c", "sleep 0.5; echo 1 > o"])
os.killpg(0, signal.SIGINT)
print(next(m.body["exit"]["class"] for _ in range(20) for m in client.poll(0.5) if m.kind == "event"))
"""
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, start_new_session=True, timeout=60
        )
        assert done.stdout == "ok\n", done.stderr

    def test_an_agent_that_is_stopped_does_not_hang_the_close(self, tmp_path: Path) -> None:
        client = LocalTransport().connect(Machine("box", "localhost", "box"), str(tmp_path), "L")
        os.kill(client.hello["pid"], signal.SIGSTOP)
        began = time.monotonic()
        client.close()
        assert time.monotonic() - began < 10
