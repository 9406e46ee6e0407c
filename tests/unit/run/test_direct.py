"""What one agent brings to another by itself: it arrives, its errors have a machine, and no process of it outlives who wants it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from albor_pipeline.agent import hashing, reaching, trees
from albor_pipeline.agent.attempts import AttemptError
from albor_pipeline.agent.layout import Layout
from albor_pipeline.agent.reaching import Reach
from albor_pipeline.model.manifest import Machine
from albor_pipeline.run import direct
from albor_pipeline.run.direct import Direct
from albor_pipeline.run.relay import Errand
from albor_pipeline.transport.bundle import ensure_bundle
from albor_pipeline.transport.client import AgentClient
from albor_pipeline.transport.local import LocalTransport, wait_readable

SIZE = 12_000_000
LIMIT_S = 30.0
SSH = """#!/bin/sh
printf '%s\\n' "$$ $*" >> {log}
cat "${{2#UserKnownHostsFile=}}" >> {log}.believed
{before}
exec {python} -I -S {through} {agent} --workdir {root} --lineage L --machine two --path {path}
"""
PASSES_PART = """
import os, select, subprocess, sys, time
agent = subprocess.Popen([sys.executable, "-I", "-S", *sys.argv[1:]], stdin=subprocess.PIPE)
left = 9000000
while left > 0:
    select.select([0], [], [])
    data = os.read(0, min(left, 65536))
    left -= len(data)
    os.write(agent.stdin.fileno(), data)
time.sleep(60)
"""


class Pair:
    """Two agents in folders of their own, and an `ssh` that leads from the first to a second agent of the other."""

    def __init__(self, root: Path) -> None:
        import blake3

        self.root = root
        self.log = root / "calls"
        self._words = {
            "log": self.log, "python": sys.executable, "agent": ensure_bundle(), "root": root / "two",
            "path": Path(blake3.__file__).parent.parent,
        }  # fmt: skip
        self.program()
        self.clients = {name: self._open(name) for name in ("one", "two")}
        self.token = str(self.clients["two"].request("lease", holder="a test")["token"])
        (root / "one/big").write_bytes(b"abcdefgh" * (SIZE // 8))

    def _open(self, name: str) -> AgentClient:
        (self.root / name).mkdir()
        return LocalTransport().connect(Machine(name, "localhost", name), str(self.root / name), "L")

    def program(self, before: str = "", through: str = "") -> None:
        """Make the `ssh`; `before` is done before it leads anywhere, `through` is a program between the two."""
        path = self.root / "ssh"
        path.write_text(SSH.format(**self._words, before=before, through=through))
        path.chmod(0o755)

    def stands_still(self) -> None:
        """From now on its far end gets 9 MB, and then nothing more."""
        (self.root / "between.py").write_text(PASSES_PART)
        self.program(through=str(self.root / "between.py"))

    def begin(self, path: str = "big", target: str = "big") -> Direct:
        found = trees.read_tree(Layout(str(self.root / "one")).path(path), lambda where, _info: hashing.digest_file(where))
        root = found.root if found is not None else "0" * 64
        to = {"words": ["-x", "two"], "known_hosts": "two ssh-ed25519 AAAA\n"}
        return Direct(Errand("one", path, "two", target, root, "use", "0001"), self.clients["one"], to, self.token)

    def drive(self, carried: Direct, until: Callable[[], Any] | None = None, pump: bool = True) -> Direct:
        limit = time.monotonic() + LIMIT_S
        while not (until() if until is not None else carried.over):
            assert time.monotonic() < limit, "it did not happen"
            for message in self.clients["one"].poll(0):
                if ("one", message.id) in carried.ends:
                    carried.take("one", message)
            if pump:
                carried.pump()
            wait_readable([self.clients["one"]], 0.02)
        return carried

    @property
    def running(self) -> list[int]:
        """The processes that were started as `ssh` and are still there."""
        pids = [int(line.split()[0]) for line in self.log.read_text().splitlines()] if self.log.exists() else []
        return [pid for pid in pids if Path(f"/proc/{pid}").exists()]

    @property
    def part_bytes(self) -> int:
        """How much lies half come on the target."""
        return max((path.stat().st_size for path in (self.root / "two/.albor/incoming").glob("*.part")), default=0)


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("ALBOR_TEST_LEASE_S", "2")
    made = Pair(tmp_path)
    yield made
    for client in made.clients.values():
        client.close()


def test_a_file_arrives_and_no_process_is_left(pair: Pair) -> None:
    for _ in range(3):
        carried = pair.drive(pair.begin())
        assert carried.error is None and carried.reply is not None and carried.sent.passed_bytes == carried.sent.size_bytes == SIZE
        assert carried.sent.files == 1 and (pair.root / "two/big").read_bytes() == (pair.root / "one/big").read_bytes()
        assert pair.running == []
        (pair.root / "two/big").unlink()


def test_what_is_secret_is_no_word_of_a_command_and_what_to_believe_is_no_file(pair: Pair) -> None:
    pair.drive(pair.begin())
    (called,) = pair.log.read_text().splitlines()
    assert called.split(" ", 1)[1].startswith("-o UserKnownHostsFile=/proc/") and called.endswith("-x two")
    assert pair.token not in called and Path(f"{pair.log}.believed").read_text() == "two ssh-ed25519 AAAA\n"


def test_an_error_has_the_machine_where_it_was(pair: Pair) -> None:
    carried = pair.drive(pair.begin("nothing"))
    assert carried.error is not None and (carried.culprit, carried.error.code, carried.no_way) == ("one", "not-there", "")
    (pair.root / "two/file").write_text("")
    carried = pair.drive(pair.begin(target="file/big"))
    assert carried.error is not None and (carried.culprit, carried.error.code, carried.no_way) == ("two", "io", "")
    assert pair.running == []


def test_only_who_holds_the_lease_of_the_target_is_let_in(pair: Pair) -> None:
    pair.token = "another"
    carried = pair.drive(pair.begin())
    assert "took over" in carried.no_way and not (pair.root / "two/big").exists() and pair.running == []


def test_a_lease_that_is_lost_on_the_way_places_nothing(pair: Pair) -> None:
    pair.program(f"until [ -e {pair.root}/go ]; do sleep 0.05; done")
    carried = pair.begin()
    pair.drive(carried, pair.log.exists)
    pair.clients["two"].close()
    (pair.root / "go").touch()
    assert "does not hold the lease any more" in pair.drive(carried).no_way and not (pair.root / "two/big").exists()


@pytest.mark.parametrize(
    ("before", "why"),
    [
        ("echo noise; echo too much noise >&2; echo nobody lets us in >&2; exit 255", "nobody lets us in"),
        ("exit 3", "ssh ended with exit 3"),
        ("kill -9 $$", "ssh ended with exit -9"),
        ("head -c 3000000 /dev/zero; sleep 60", "no agent answered"),
    ],
)
def test_why_there_is_no_way_is_told_in_a_line(pair: Pair, before: str, why: str) -> None:
    pair.program(before)
    carried = pair.drive(pair.begin())
    assert carried.no_way == why and pair.running == []


def test_one_who_says_nothing_is_not_waited_for_long(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    pair.program("exec sleep 60")
    monkeypatch.setattr(reaching, "PATIENCE_S", 0.3)
    with Reach({"words": [], "known_hosts": ""}, lambda: True) as there, pytest.raises(AttemptError, match="did not answer"):
        there.settle("slots", wants=[])
    assert pair.running == []


def test_where_there_is_no_program_nothing_is_tried(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reaching, "PROGRAM", "ssh-that-is-not-there")
    with pytest.raises(AttemptError, match="ssh-that-is-not-there is not installed there"):
        Reach({"words": [], "known_hosts": ""}, lambda: True)


def test_one_that_is_stopped_ends_at_once_and_the_next_goes_on_with_its_part(pair: Pair) -> None:
    pair.stands_still()
    carried = pair.begin()
    pair.drive(carried, lambda: pair.part_bytes > 4_000_000)
    pair.drive(carried, lambda: carried.sent.passed_bytes > 4_000_000)
    assert carried.asked and carried.sent.passed_bytes < carried.sent.size_bytes == SIZE
    carried.stop()
    carried.stop()
    pair.drive(carried)
    assert pair.running == []
    pair.program()
    again = pair.drive(pair.begin())
    assert again.error is None and again.sent.size_bytes <= SIZE - 4_000_000 and (pair.root / "two/big").stat().st_size == SIZE


def test_a_controller_that_is_not_heard_any_more_loses_it_as_it_loses_its_lease(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    pair.stands_still()
    monkeypatch.setattr(direct, "SIGN_S", 0.3)
    carried = pair.begin()
    until = time.monotonic() + 4.0
    pair.drive(carried, lambda: time.monotonic() > until)
    assert not carried.over and len(pair.running) == 1, "it was heard"
    pair.drive(carried, pump=False)
    assert carried.no_way == "the controller was not heard any more" and pair.running == []


def test_it_ends_with_its_agent(pair: Pair) -> None:
    pair.stands_still()
    pair.drive(pair.begin(), lambda: pair.part_bytes > 4_000_000)
    pair.clients["one"].close()
    limit = time.monotonic() + LIMIT_S
    while pair.running:
        assert time.monotonic() < limit
        time.sleep(0.05)
