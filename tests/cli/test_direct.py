"""Where a machine may log in at another by itself, much data goes past the controller; where it cannot, the controller carries it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sshd import PYTHON, Box, Key, Network

from albor_pipeline.transport.client import SocketChannel
from cli.builder import Project, Said, there
from cli.test_doctor import FINE, WARNING, findings
from cli.test_moves import BIG, HEAD, PAIR, SIZE
from cli.test_much_data import alive

REAL = shutil.which("ssh") or ""
DIRECT = HEAD.replace("lambda: {addr: lambda}", "lambda: {addr: lambda, direct: true}")
FORWARD = HEAD.replace("lambda: {addr: lambda}", "lambda: {addr: lambda, forward_agent: true}")
NO_KEY = "-o IdentityFile=none"  # nor those of the account that the tests run as
WRAPPER = """#!/bin/sh
echo "$$ ${{SSH_AUTH_SOCK:-none}} $*" >> {log}
exec {real} {words} "$@"
"""


class Program:
    """The `ssh` of a machine: it notes how it is called, and its pid, which is the real one's from then on. `words` come before its own."""

    def __init__(self, box: Box) -> None:
        self._log, self._path = box.folder / "calls", box.folder / "bin/ssh"
        self._log.touch()
        self.takes(NO_KEY)

    def takes(self, words: str) -> None:
        self._path.write_text(WRAPPER.format(log=self._log, real=REAL, words=words))
        self._path.chmod(0o755)

    @property
    def calls(self) -> list[tuple[int, str, str]]:
        """The process, its ssh-agent and its words of each call."""
        lines = [line.split(" ", 2) for line in self._log.read_text().splitlines()]
        return [(int(pid), agent, words) for pid, agent, words in lines]

    @property
    def running(self) -> list[int]:
        return [pid for pid, _, _ in self.calls if alive(pid)]


@pytest.fixture
def boxes(network: Network) -> tuple[Box, Box]:
    """lambda and intel, two machines with ids of their own."""
    if not REAL:
        pytest.skip("ssh is not installed: apt-get install openssh-client")
    return network.add("lambda", machine_id="1" * 32), network.add("intel", machine_id="2" * 32)


@pytest.fixture
def program(boxes: tuple[Box, Box]) -> Program:
    """The `ssh` of lambda, which has no key."""
    return Program(boxes[0])


@pytest.fixture
def key(boxes: tuple[Box, Box], program: Program) -> Key:
    """A key of lambda's own, which intel takes and the controller has not."""
    made = Key.make(boxes[0].folder / "own_key")
    let_in(boxes[1], made)
    program.takes(f"-i {made.path}")
    return made


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An ssh-agent of the controller's user."""
    said = subprocess.run(["ssh-agent", "-s"], check=True, capture_output=True, text=True).stdout
    found = dict(word.split("=") for word in said.replace(";", "").split() if "=" in word)
    monkeypatch.setenv("SSH_AUTH_SOCK", found["SSH_AUTH_SOCK"])
    yield
    os.kill(int(found["SSH_AGENT_PID"]), signal.SIGTERM)


class Passed:
    """The bytes that all connections of this process brought to it."""

    size_bytes = 0


@pytest.fixture
def passed(monkeypatch: pytest.MonkeyPatch) -> Passed:
    counted, recv = Passed(), SocketChannel.recv

    def count(self: SocketChannel, limit: int) -> bytes | None:
        data = recv(self, limit)
        counted.size_bytes += len(data or b"")
        return data

    monkeypatch.setattr(SocketChannel, "recv", count)
    return counted


def let_in(box: Box, key: Key) -> None:
    with (box.folder / "authorized_keys").open("a") as file:
        file.write(f"{key.public}\n")


def way(said: Said) -> tuple[str, str, int]:
    """How the one thing that was moved went, why not directly, and the bytes that were sent."""
    assert said.exit == 0, said
    (moved,) = json.loads(said.out)["moves"]
    return moved["way"], moved.get("not_direct", ""), moved["size_bytes"]


def applied(project: Project) -> tuple[str, str, int]:
    return way(project.run("apply", "--json", "--yes"))


def same(boxes: tuple[Box, Box]) -> bool:
    return there(boxes[1], "big.bin").read_bytes() == there(boxes[0], "big.bin").read_bytes()


def logins(box: Box, key: Key) -> int:
    """How often a machine let a key in."""
    return sum("Accepted publickey" in line and key.fingerprint in line for line in (box.folder / "log").read_text().splitlines())


def test_by_a_key_of_its_own_a_machine_sends_past_the_controller(
    project: Project, boxes: tuple[Box, Box], program: Program, key: Key, passed: Passed, agent: None
) -> None:
    project.manifest(BIG, DIRECT)
    assert applied(project) == ("direct", "", SIZE) and same(boxes)
    assert passed.size_bytes < SIZE // 100, "it went through this process"
    assert logins(boxes[1], key) == len(program.calls) == 1 and program.running == []
    assert program.calls[0][1] == "none", "our ssh-agent was forwarded, and nobody said so"
    assert str(project.root) not in program.calls[0][2] and not list(boxes[0].home.rglob("*known_hosts*"))
    project.says("apply", out="Nothing to do: 2 unchanged.")


def test_a_result_is_fetched_past_the_controller_too_and_little_goes_through_it(
    project: Project, boxes: tuple[Box, Box], program: Program, key: Key
) -> None:
    project.manifest(PAIR, DIRECT)
    assert applied(project)[:2] == ("relayed", "") and program.calls == []
    one = f"make: {{type: task, machine: lambda, command: head -c {SIZE} /dev/urandom > big.bin, outputs: [big.bin]}}"
    project.manifest(one, DIRECT).does("apply", "--yes")
    project.edit("make: {type: task, machine: lambda", "make: {type: task, machine: intel")
    said = project.run("apply", "--yes", "--json")
    assert way(said) == ("direct", "", SIZE) and json.loads(said.out)["counts"]["fetched"] == 1 and same(boxes)


def test_nobody_logs_in_anywhere_unless_the_manifest_says_so(
    project: Project, boxes: tuple[Box, Box], program: Program, key: Key, passed: Passed
) -> None:
    project.manifest(BIG, HEAD.replace("intel: {addr: intel}", "intel: {addr: intel, direct: true, forward_agent: true}"))
    assert applied(project) == ("relayed", "", SIZE) and passed.size_bytes > SIZE
    assert program.calls == []


def test_without_a_key_the_controller_carries_it_and_no_second_try_is_made(
    project: Project, boxes: tuple[Box, Box], program: Program
) -> None:
    more = BIG.replace("make:", "more:").replace("use:", "last:").replace("[make]", "[more]").replace("big.bin", "more.bin")
    project.manifest(BIG + more.replace("sum.txt", "last.txt"), DIRECT)
    said = project.run("apply", "--json", "--yes")
    moves: list[dict[str, Any]] = json.loads(said.out)["moves"]
    assert {move["path"] for move in moves} == {"big.bin", "more.bin"} and same(boxes)
    assert {move["way"] for move in moves} == {"relayed"} and all("Permission denied" in move["not_direct"] for move in moves), moves
    assert "Permission denied" not in said.err and program.running == []
    assert len(program.calls) <= 2, "both may have been begun at once, and then none"


def test_a_machine_without_ssh_has_its_data_carried(project: Project, network: Network) -> None:
    tools = network.folder / "few"
    tools.mkdir()
    (tools / "python3").symlink_to(PYTHON)
    (tools / "head").symlink_to(Path(shutil.which("head") or "").resolve())
    network.add("lambda", machine_id="1" * 32, path=str(tools))
    network.add("intel", machine_id="2" * 32)
    assert applied(project.manifest(BIG, DIRECT)) == ("relayed", "ssh is not installed there", SIZE)


def test_a_server_with_another_key_at_that_address_is_told_nothing_and_never_accepted(
    project: Project, boxes: tuple[Box, Box], network: Network, program: Program, key: Key
) -> None:
    """As lambda sees it, the address is that of another machine."""
    other = network.add("other", known=False)
    let_in(other, key)
    program.takes(f"-p {other.port} -i {key.path}")
    project.manifest(BIG, DIRECT)
    assert applied(project) == ("relayed", "Host key verification failed.", SIZE) and same(boxes)
    assert logins(other, key) == logins(boxes[1], key) == 0 and "Connection from" not in (boxes[1].folder / "log").read_text()
    assert not list(boxes[0].home.rglob("*known_hosts*"))


def test_the_ssh_agent_of_the_controller_answers_where_it_is_forwarded(
    project: Project, boxes: tuple[Box, Box], network: Network, program: Program, passed: Passed, agent: None
) -> None:
    key = Key.make(network.folder / "agents_key")
    let_in(boxes[1], key)
    project.manifest(BIG, FORWARD)
    assert applied(project)[0] == "relayed", "without a key in the agent"
    subprocess.run(["ssh-add", "-q", str(key.path)], check=True, capture_output=True)
    for box in boxes:
        there(box, "big.bin").unlink()
        shutil.rmtree(there(box, ".albor/store"), ignore_errors=True)
    shutil.rmtree(there(boxes[1], ".albor/incoming"))
    passed.size_bytes = 0
    assert applied(project) == ("direct", "", SIZE) and same(boxes) and passed.size_bytes < SIZE // 100
    assert logins(boxes[1], key) == 1 and program.calls[-1][1] != "none" and program.running == []
    secret = key.path.read_bytes()
    assert not any(secret in path.read_bytes() for path in boxes[0].home.rglob("*") if path.is_file() and path.name != "big.bin")


def under_way(project: Project, boxes: tuple[Box, Box], program: Program) -> tuple[subprocess.Popen[str], Path]:
    """Start to move the big file directly, and hold that still once a part of it is there, until it is ended."""
    project.manifest(BIG, DIRECT).does("apply", "--target", "make")
    running = project.start("apply", "--json", "--yes")
    folder = there(boxes[1], ".albor/incoming")
    project.wait(lambda: any(path.stat().st_size > SIZE // 4 for path in folder.glob("*.part")))
    os.kill(program.calls[-1][0], signal.SIGSTOP)
    return running, folder


def goes_on(project: Project, boxes: tuple[Box, Box], folder: Path) -> None:
    """The same command sends what is lacking, directly, and nothing else."""
    (part,) = folder.glob("*.part")
    size = part.stat().st_size
    assert SIZE // 4 < size < SIZE
    assert applied(project) == ("direct", "", SIZE - size) and same(boxes)


@pytest.mark.slow
def test_when_the_line_between_the_two_breaks_the_controller_carries_the_rest_in_the_same_run(
    project: Project, boxes: tuple[Box, Box], program: Program, key: Key
) -> None:
    running, _ = under_way(project, boxes, program)
    os.kill(program.calls[0][0], signal.SIGKILL)
    how, why, size = way(project.end(running))
    assert how == "relayed" and "ended with exit -9" in why and 0 < size < SIZE - SIZE // 4 and same(boxes)
    assert len(program.calls) == 1


@pytest.mark.slow
def test_when_the_line_to_the_source_breaks_the_same_command_sends_the_rest(
    project: Project, boxes: tuple[Box, Box], program: Program, key: Key
) -> None:
    running, folder = under_way(project, boxes, program)
    boxes[0].cut()
    said = project.end(running)
    assert said.exit == 6 and "lambda does not answer" in said.err and "; what came of big.bin is kept" in said.err, said
    project.wait(lambda: not program.running and not boxes[1].programs())
    goes_on(project, boxes, folder)


@pytest.mark.slow
def test_nothing_of_it_runs_on_when_the_controller_is_killed(
    project: Project, boxes: tuple[Box, Box], program: Program, key: Key
) -> None:
    running, folder = under_way(project, boxes, program)
    os.killpg(running.pid, signal.SIGKILL)
    running.communicate()
    project.wait(lambda: not program.running and not boxes[0].programs() and not boxes[1].programs())
    goes_on(project, boxes, folder)


@pytest.mark.slow
def test_ctrl_c_ends_it_at_once(project: Project, boxes: tuple[Box, Box], program: Program, key: Key) -> None:
    running, folder = under_way(project, boxes, program)
    for _ in range(2):
        os.killpg(running.pid, signal.SIGINT)
    assert project.end(running).exit == 130
    project.wait(lambda: not program.running and not boxes[1].programs())
    goes_on(project, boxes, folder)


def test_doctor_says_which_way_much_goes_to_each_other_machine(
    project: Project, boxes: tuple[Box, Box], program: Program, key: Key
) -> None:
    project.manifest(PAIR, HEAD)
    assert "direct" not in findings(project)
    project.manifest(PAIR, DIRECT)
    assert findings(project)["direct"] == (FINE, "to intel without a way through here")
    program.takes(NO_KEY)
    level, text = findings(project)["direct"]
    assert level == WARNING and text.startswith("to intel only through here: ") and "Permission denied" in text
    project.manifest(PAIR, FORWARD)
    assert findings(project)["direct"][0] == WARNING and program.running == []
