"""The controller's end without a machine: what a connection that misbehaves becomes."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from pathlib import Path

import pytest

from albor_pipeline.agent import wire
from albor_pipeline.errors import UnreachableError
from albor_pipeline.model.manifest import Machine
from albor_pipeline.transport import local
from albor_pipeline.transport.client import AgentClient


class PairChannel:
    """One end of a socket pair; the test plays the agent at the other."""

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.ours.setblocking(False)

    def fileno(self) -> int:
        return self.ours.fileno()

    def recv(self, limit: int) -> bytes | None:
        try:
            return self.ours.recv(limit)
        except BlockingIOError:
            return None

    def send(self, data: Sequence[memoryview]) -> int:
        try:
            return self.ours.sendmsg(data)
        except BlockingIOError:
            return 0

    def close(self) -> None:
        self.ours.close()

    def diagnosis(self) -> str:
        return ""


@pytest.fixture
def channel() -> PairChannel:
    return PairChannel()


def test_an_agent_that_does_not_answer_in_time_is_unreachable_by_name(channel: PairChannel) -> None:
    with pytest.raises(UnreachableError, match="box does not answer: did not answer in time"):
        AgentClient(channel, "box").request("hello", wait_s=0.05)


def test_what_a_login_printed_before_hanging_up_is_shown(channel: PairChannel) -> None:
    client = AgentClient(channel, "box")
    channel.theirs.send(b"This account is disabled.\n")
    channel.theirs.close()
    with pytest.raises(UnreachableError, match="This account is disabled"):
        client.request("hello")
    with pytest.raises(UnreachableError):
        client.submit("hello")


def test_garbage_after_the_magic_line_closes_the_connection_once(channel: PairChannel) -> None:
    client = AgentClient(channel, "box")
    channel.theirs.send(wire.MAGIC + b"\xff" * 20)
    assert [message.kind for message in client.poll(1.0)] == ["closed"]
    assert client.poll(0) == []


def test_what_belongs_to_others_is_kept_for_poll_whether_it_comes_before_or_after(channel: PairChannel) -> None:
    client = AgentClient(channel, "box")
    before, after = (b"".join(wire.message(0, {"event": "ended", "resource": name})) for name in ("before", "after"))
    channel.theirs.send(wire.MAGIC + before + b"".join(wire.message(1, {"id": 1, "ok": True})) + after)
    assert client.request("ack")["ok"]
    assert [message.body["resource"] for message in client.poll(0)] == ["before", "after"]


def test_a_client_that_cannot_write_yet_says_so(channel: PairChannel) -> None:
    client = AgentClient(channel, "box")
    client.submit("put", data=b"x" * 900_000)
    assert client.wants_write
    local.wait_readable([client], 0.01)
    client.close()
    assert not client.wants_write


def test_a_program_that_cannot_be_made_names_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.delenv("ALBOR_TEST_AGENT", raising=False)
    (tmp_path / "file").write_text("x")
    with pytest.raises(UnreachableError, match="box: the agent cannot be started"):
        local.LocalTransport().connect(Machine("box", "localhost", "box"), str(tmp_path), "L")


def test_a_word_in_place_of_the_agent_is_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALBOR_TEST_AGENT", "-c 'import sys; sys.exit(\"no such luck\")'")
    with pytest.raises(UnreachableError, match="box does not answer: no such luck"):
        local.LocalTransport().connect(Machine("box", "localhost", "box"), str(tmp_path), "L")
    assert os.listdir(tmp_path) == []  # noqa: PTH208
