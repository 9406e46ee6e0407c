"""A lease whose holder is gone is waited for; one of somebody else is an error at once."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from albor_pipeline.agent.liveness import identity
from albor_pipeline.errors import LockedError
from albor_pipeline.run import leases
from albor_pipeline.transport.client import AgentError

SINCE = "since 2026-03-02T14:10:02.000Z"


class Agent:
    """An agent that refuses the lease so often."""

    def __init__(self, held: str, refusals: int, process: dict[str, Any] | None = None) -> None:
        self.held = held
        self.process = process
        self.left = refusals

    def request(self, verb: str, **args: Any) -> dict[str, Any]:
        assert verb == "lease"
        if self.left:
            self.left -= 1
            raise AgentError("held", self.held, self.process)
        return {"head": {"count": 7}, "token": "t"}


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(leases, "PAUSE_S", 0.0)
    yield


def take(agent: Agent, leaves: bool = False) -> list[str]:
    """What is said while the lease is taken."""
    said: list[str] = []
    fleet: Any = SimpleNamespace(agents={"lambda": agent}, tokens={}, unheard_s={})
    heads = leases.take(fleet, lambda event: said.append(event.text), lambda: leaves)  # type: ignore[union-attr, func-returns-value]
    assert heads == {"lambda": {"count": 7}}
    return said


def ended() -> int:
    """The number of a process that is gone."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_a_holder_of_this_host_that_is_gone_is_waited_for_and_named_once() -> None:
    name = f"pid {ended()} on {socket.gethostname()}"
    assert take(Agent(f"{name} {SINCE}", 3)) == [f"lambda has not heard that {name} is gone; waiting until it does, a minute at most"]


@pytest.mark.parametrize("held", [f"pid {os.getpid()} on {socket.gethostname()}", "pid 1 on elsewhere", "another controller"])
def test_a_holder_that_may_live_is_an_error_at_once(held: str) -> None:
    agent = Agent(f"{held} {SINCE}", 3)
    with pytest.raises(LockedError, match=f"lambda is in use by {held}"):
        take(agent)
    assert agent.left == 2


@pytest.mark.parametrize("was", [{"start": 1}, {"boot": "another", "ns": "another"}])
def test_a_holder_whose_number_another_process_has_by_now_is_gone(was: dict[str, Any]) -> None:
    """The machine of the controller lost power, and something of the new boot has the number."""
    name = f"pid {os.getpid()} on {socket.gethostname()}"
    assert len(take(Agent(f"{name} {SINCE}", 3, {**identity(os.getpid()), **was}))) == 1


@pytest.mark.parametrize("was", [{}, {"ns": "of a container"}])
def test_a_holder_whose_process_lives_or_cannot_be_seen_from_here_is_an_error_at_once(was: dict[str, Any]) -> None:
    with pytest.raises(LockedError):
        take(Agent(f"pid {os.getpid()} on {socket.gethostname()} {SINCE}", 3, {**identity(os.getpid()), **was}))


def test_who_wants_to_leave_need_not_wait() -> None:
    with pytest.raises(LockedError):
        take(Agent(f"pid {ended()} on {socket.gethostname()} {SINCE}", 3), leaves=True)


def test_a_machine_without_room_for_a_lease_is_lost_to_the_run_and_the_others_are_not() -> None:
    class Full:
        def request(self, verb: str, **args: Any) -> dict[str, Any]:
            raise AgentError("io", "No space left on device")

    said: list[str] = []
    lost: list[str] = []
    agents = {"intel": Full(), "lambda": Agent("", 0)}
    fleet: Any = SimpleNamespace(agents=agents, tokens={}, unheard_s={}, lose=lambda name, error: lost.append(name))
    heads = leases.take(fleet, lambda event: said.append(event.text), lambda: False)  # type: ignore[union-attr, func-returns-value]
    assert (list(heads), lost) == (["lambda"], ["intel"])
    assert said == ["intel cannot be driven now: No space left on device; its steps wait for the next run"]
