"""Slots are a machine's, and not an account's: two accounts never hold one card at once."""

from __future__ import annotations

import json
import time

import pytest

from testbed.base import USER
from testbed.conftest import Make
from testbed.machine import Machine
from testbed.pipeline import FIRST, Pipeline

pytestmark = pytest.mark.root
STALE = {"folder": "/nowhere", "resource": "lost", "run": "0001", "since": "2026-01-01", "gpu": [0], "cpu": 1, "memory_bytes": 0}


@pytest.fixture
def accounts(make: Make) -> dict[str, Pipeline]:
    """A pipeline of each account, whose first task wants the one card."""
    made = {"root": make(), USER: make()}
    for user, one in made.items():
        one.fields["lambda"] = f", user: {user}, slots: {{gpu: 1}}"
        one.tasks(f"{FIRST}  needs: {{gpu: 1}}\n")
    return made


@pytest.mark.parametrize(("holder", "waiter"), [("root", USER), (USER, "root")])
def test_accounts_of_one_machine_wait_for_one_another(accounts: dict[str, Pipeline], holder: str, waiter: str) -> None:
    held, waiting = accounts[holder], accounts[waiter]
    first = held.begin(holder)
    second = waiting.start("apply")
    time.sleep(2)
    assert second.poll() is None and not waiting.starts(waiter)
    held.go(holder)
    assert held.end(first).exit == 0
    waiting.wait(lambda: waiting.starts(waiter)["first"])
    waiting.go(waiter)
    assert waiting.end(second).exit == 0


def test_what_another_account_left_behind_holds_nothing(accounts: dict[str, Pipeline], box: Machine) -> None:
    box.do("rm -rf /run/lock/albor-slots")  # whose it is decides who may take away what: here root's, as the first to come
    accounts["root"].go()
    assert accounts["root"].run("apply").exit == 0
    folder = "/run/lock/albor-slots/$(cat /etc/machine-id)"
    for name, text in (("lost", json.dumps(STALE)), ("odd", json.dumps(STALE | {"gpu": 1})), ("torn", "[1")):
        box.do(f"echo '{text}' > {folder}/{name}")
    box.do(f"setsid flock {folder}/odd sleep 20 >/dev/null 2>&1 &")
    process = accounts[USER].begin(USER)
    accounts[USER].go(USER)
    assert accounts[USER].end(process).exit == 0
    assert box.do(f"cd {folder} && stat -c '%U %a' . .lock && ls").split() == ["root", "1777", "root", "644", "lost", "odd", "torn"]
