"""The SSH transport keeps the laws of every transport, against a real sshd."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from sshd import Network
from transport_suite import Connect, TransportSuite

from albor_pipeline.errors import UnreachableError
from albor_pipeline.model.manifest import Machine
from albor_pipeline.transport import ssh
from albor_pipeline.transport.client import AgentClient
from albor_pipeline.transport.ssh import SshTransport


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """One machine, `box`, for all tests of this file."""
    made = Network(tmp_path_factory.mktemp("network"))
    made.add("box")
    yield made
    made.close()


class TestSshTransport(TransportSuite):
    @pytest.fixture
    def connect(self, network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Connect]:
        monkeypatch.setenv("ALBOR_SSH_CONFIG", str(network.config))
        opened: list[AgentClient] = []

        def connect(workdir: str) -> AgentClient:
            machine = Machine("box", "box", "box", workdir=workdir)
            opened.append(SshTransport().connect(machine, str(tmp_path), "~/albor/none", "L"))
            return opened[-1]

        yield connect
        for client in opened:
            client.close()

    def test_a_machines_workdir_is_taken_from_the_home_folder_there(
        self, network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("ALBOR_SSH_CONFIG", str(network.config))
        home = network.boxes["box"].home
        for declared, place in ((None, home / "albor/name"), ("sub", home / "sub"), ("~/other", home / "other")):
            machine = Machine("box", "box", "box", workdir=declared)
            client = SshTransport().connect(machine, str(tmp_path), "~/albor/name", "L")
            assert client.hello["workdir"] == str(place)
            client.close()

    def test_a_connection_that_falls_silent_is_given_up(
        self, network: Network, connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As a half-open connection looks: nothing is refused and nothing arrives."""
        monkeypatch.setattr(ssh, "QUIET_S", 0.2)
        monkeypatch.setattr(ssh, "ANSWER_S", 1.0)
        client = connect(str(tmp_path))
        assert client.poll(2.0) == []
        frozen = network.boxes["box"].sessions()
        for pid in frozen:
            os.kill(pid, signal.SIGSTOP)
        try:
            (message,) = client.poll(20.0)
        finally:
            for pid in frozen:
                os.kill(pid, signal.SIGCONT)
        assert (message.kind, message.body["why"]) == ("closed", "nothing came from it for 1.2 s")

    def test_a_server_that_takes_connections_and_says_nothing_is_given_up(
        self, network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("ALBOR_SSH_CONFIG", str(network.config))
        with socket.create_server(("127.0.0.1", 0)) as silent:
            port = silent.getsockname()[1]
            network.config.write_text(f"Host still\n  HostName 127.0.0.1\n  Port {port}\n  ConnectTimeout 1\n")
            try:
                with pytest.raises(UnreachableError, match=f"127.0.0.1:{port}, no SSH server answered in 1 s"):
                    SshTransport().connect(Machine("still", "still", "still"), str(tmp_path), "~/albor/none", "L")
            finally:
                network.write()

    def test_what_was_cut_on_its_way_there_is_sent_again(
        self, network: Network, connect: Connect, tmp_path: Path
    ) -> None:
        """A torn agent program is not run: it is compared with its digest before each use."""
        connect(str(tmp_path)).close()
        (agent,) = (network.boxes["box"].home / ".cache" / "albor").glob("agent-*.pyz")
        whole = agent.read_bytes()
        agent.write_bytes(whole[: len(whole) // 2])
        connect(str(tmp_path)).close()
        assert agent.read_bytes() == whole and not list(agent.parent.glob("*.tmp"))
