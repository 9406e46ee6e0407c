"""One controller of a lineage drives a machine: by connection, by being heard of, and never with an old picture of it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from albor_pipeline.agent.attempts import AttemptError
from albor_pipeline.agent.layout import Layout
from albor_pipeline.agent.lease import LEASE_S, Lease
from albor_pipeline.transport.client import AgentError


class Clock:
    """Boot-time seconds that a test moves."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(str(tmp_path))


def takes(client: Any) -> bool:
    try:
        return bool(client.request("lease", holder="other")["ok"])
    except AgentError:
        return False


def test_it_is_held_while_the_connection_lives_and_names_its_holder(box: Any) -> None:
    box.client.request("lease", holder="run 0008 (pid 1 on lambda)")
    box.client.request("lease", holder="again")
    second = box.connect()
    with pytest.raises(AgentError) as held:
        second.request("lease", holder="other")
    assert held.value.code == "held" and "run 0008 (pid 1 on lambda)" in held.value.message
    assert held.value.attempt is None, "an older controller says nothing of its process"
    assert box.connect("another lineage").request("lease", holder="x", process={"pid": 1, "boot": "b"})["ok"]
    with pytest.raises(AgentError) as held:
        box.connect("another lineage").request("lease", holder="y")
    assert held.value.attempt == {"pid": 1, "boot": "b"}
    box.clients.pop(0).close()
    box.until(lambda: takes(second))


def test_the_next_holder_is_told_for_how_long_nothing_was_heard(layout: Layout) -> None:
    clock = Clock()
    first, second = Lease(layout, "L", clock), Lease(layout, "L", clock)
    first.take("first")
    assert first.unheard_s is None, "there was none before"
    clock.now += 100
    first.heard()
    clock.now += 40
    assert first.tick(busy=False) is not None
    first.let_go()
    second.take("second")
    assert second.unheard_s is not None and 40 <= second.unheard_s < 45


def test_nothing_starts_without_it(box: Any) -> None:
    with pytest.raises(AgentError, match="takes the lease") as refused:
        box.client.request("start", **box.spec("true"))
    assert refused.value.code == "no-lease" and not (box.root / ".albor" / "attempts").exists()


def test_a_controller_that_is_silent_loses_it_and_may_not_go_on_once_another_had_it(box: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALBOR_TEST_LEASE_S", "1")
    second = box.connect()
    first = box.lead(box.connect())
    running = box.start("sleep 60")
    first.request("lease", holder="first")
    assert not takes(second)
    box.until(lambda: takes(second))
    with pytest.raises(AgentError, match="other since"):
        first.request("start", **box.spec("true", "next"))
    assert box.attempt(number=running)["liveness"] == "alive", "attempts need no lease"


def test_a_silence_alone_costs_nothing(box: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALBOR_TEST_LEASE_S", "0.1")
    box.start("true")
    time.sleep(0.4)
    number = box.client.submit("start", **box.spec("true", "next"))
    while not (found := [message for message in box.client.poll(5) if message.id == number]):
        pass
    assert found[0].error is None


def test_a_long_request_is_no_silence(box: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALBOR_TEST_LEASE_S", "0.5")
    second = box.connect()
    first = box.lead(box.connect())
    working = first.submit("sh", script="sleep 1.5")
    while not (replies := [message for message in first.poll(0.05) if message.id == working]):
        assert not takes(second)
    assert replies[0].error is None


def test_sixty_seconds_by_the_clock_that_runs_while_the_machine_sleeps(layout: Layout) -> None:
    clock = Clock()
    lease, other = Lease(layout, "L", clock), Lease(layout, "L", clock)
    lease.take("one")
    clock.now += LEASE_S - 1
    assert lease.tick(busy=False) == pytest.approx(1.0)
    lease.heard()
    clock.now += LEASE_S - 1
    assert lease.tick(busy=False) == pytest.approx(1.0)
    with pytest.raises(AttemptError, match="one since"):
        other.take("two")
    clock.now += 1
    assert lease.tick(busy=False) is None and LEASE_S == 60.0
    other.take("two")
    with pytest.raises(AttemptError, match="two since"):
        lease.require()


def test_whoever_had_it_in_between_is_remembered_after_it_went(layout: Layout) -> None:
    clock = Clock()
    lease, other = Lease(layout, "L", clock), Lease(layout, "L", clock)
    for each in (lease, other):
        each.take("one" if each is lease else "two")
        clock.now += LEASE_S
        each.tick(busy=False)
    with pytest.raises(AttemptError, match=r"two since .* took over"):
        lease.require()
    other.require()


def test_a_second_connection_of_the_holder_may_do_what_the_first_may_for_as_long_as_that_holds_it(box: Any) -> None:
    first, second, other = box.client, box.connect(), box.connect()
    token = first.request("lease", holder="run 0008 (pid 1 on lambda)")["token"]
    with pytest.raises(AgentError) as wrong:
        other.request("lease", token="another")
    assert wrong.value.code == "held" and "run 0008 (pid 1 on lambda)" in wrong.value.message
    second.request("lease", token=token)
    second.request("project_put", files=[], run="0001", data=b"")
    box.clients.pop(0).close()
    box.until(lambda: not joins(second, token))
    with pytest.raises(AgentError) as gone:
        second.request("project_put", files=[], run="0001", data=b"")
    assert gone.value.code == "no-lease"
    other.request("lease", holder="someone else")
    with pytest.raises(AgentError) as taken:
        second.request("project_put", files=[], run="0001", data=b"")
    assert taken.value.code == "held" and "someone else" in taken.value.message


def joins(client: Any, token: str) -> bool:
    try:
        return bool(client.request("lease", token=token)["ok"])
    except AgentError:
        return False
