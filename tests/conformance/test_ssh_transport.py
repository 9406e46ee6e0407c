"""The SSH transport keeps the laws of every transport, against a real sshd."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sshd import Network
from transport_suite import Connect, TransportSuite

from albor_pipeline.model.manifest import Machine
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
