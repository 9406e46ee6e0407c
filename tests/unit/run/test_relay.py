"""What goes from agent to agent through this process: no more of it lies here than the target leaves untaken, and both ends are let go."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from albor_pipeline.agent import hashing, trees, wire
from albor_pipeline.agent.layout import Layout
from albor_pipeline.model.manifest import Machine
from albor_pipeline.run.relay import Errand, Relay
from albor_pipeline.transport.client import AgentClient
from albor_pipeline.transport.local import LocalTransport, wait_readable

SIZE = 12_000_000
LIMIT_S = 30.0


class Pair:
    """Two agents in folders of their own, and a file on the first."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.clients: dict[str, AgentClient] = {}
        for name in ("one", "two"):
            (root / name).mkdir()
            client = LocalTransport().connect(Machine(name, "localhost", name), str(root / name), "L")
            client.request("lease", holder="a test")
            self.clients[name] = client
        (root / "one/big").write_bytes(b"abcdefgh" * (SIZE // 8))

    def begin(self, path: str = "big") -> Relay:
        found = trees.read_tree(Layout(str(self.root / "one")).path(path), lambda where, _info: hashing.digest_file(where))
        root = found.root if found is not None else "0" * 64
        return Relay(Errand("one", path, "two", path, root, "use", "0001"), self.clients["one"], self.clients["two"])

    def drive(self, relay: Relay, until: Callable[[Relay], bool] = lambda relay: relay.over, pump: bool = True) -> None:
        limit = time.monotonic() + LIMIT_S
        while not until(relay):
            assert time.monotonic() < limit, "it did not happen"
            for name, client in self.clients.items():
                for message in client.poll(0):
                    if (name, message.id) in relay.ends:
                        relay.take(name, message)
            if pump:
                relay.pump()
            wait_readable(list(self.clients.values()), 0.02)

    def quiet(self) -> bool:
        """Whether both agents answer, and have no request of a transfer left that holds a worker."""
        return all(client.request("slots", wants=[], wait_s=LIMIT_S) is not None for client in self.clients.values())


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    made = Pair(tmp_path)
    yield made
    for client in made.clients.values():
        client.close()


def test_a_file_arrives_and_both_agents_are_free_again(pair: Pair) -> None:
    for _ in range(10):
        relay = pair.begin()
        pair.drive(relay)
        relay.stop()
        assert relay.error is None and relay.reply is not None and relay.sent.passed_bytes == relay.sent.size_bytes == SIZE
        assert (pair.root / "two/big").read_bytes() == (pair.root / "one/big").read_bytes()
        (pair.root / "two/big").unlink()
    assert pair.quiet()


def test_no_more_comes_than_is_taken(pair: Pair) -> None:
    """Without a grant the source stops at one window, and goes on where it stopped."""
    relay = pair.begin()
    limit = time.monotonic() + 1.0
    pair.drive(relay, lambda _: time.monotonic() > limit, pump=False)
    assert 0 < relay._passed <= wire.WINDOW_BYTES
    pair.drive(relay)
    assert relay.reply is not None and (pair.root / "two/big").stat().st_size == SIZE


def test_a_transfer_that_is_stopped_leaves_a_part_and_no_end_waiting(pair: Pair) -> None:
    for _ in range(10):
        relay = pair.begin()
        pair.drive(relay, lambda relay: relay._passed > 0 and relay.asked)
        relay.stop()
        relay.stop()
    assert pair.quiet()
    relay = pair.begin()
    pair.drive(relay)
    assert relay.error is None and (pair.root / "two/big").read_bytes() == (pair.root / "one/big").read_bytes()


def test_the_error_of_an_end_is_told_with_its_machine(pair: Pair) -> None:
    relay = pair.begin("nothing")
    pair.drive(relay)
    assert relay.error is not None and (relay.culprit, relay.error.code) == ("one", "not-there")
    relay.stop()
    assert pair.quiet()
