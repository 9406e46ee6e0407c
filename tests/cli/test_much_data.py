"""Much data goes over the system's `ssh`, a second connection to each machine; where that cannot be, over the first, and nobody notices."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
from sshd import Box, Network

from cli.builder import Project, there
from cli.test_moves import BIG, HEAD, PAIR, SIZE, applied

REAL = shutil.which("ssh") or ""
WRAPPER = """#!/bin/sh
echo "$$ $*" >> {log}
{before}
exec {real} "$@" 2>> {log}.said
"""


class Program:
    """An `ssh` before the real one on the path: it notes how it is called, and its pid, which is the real one's from then on."""

    def __init__(self, folder: Path, before: str) -> None:
        self._log = folder / "calls"
        self._log.touch()
        path = folder / "ssh"
        path.write_text(WRAPPER.format(log=self._log, before=before, real=REAL))
        path.chmod(0o755)

    @property
    def pids(self) -> list[int]:
        """The processes that were started."""
        return [int(line.split()[0]) for line in self._log.read_text().splitlines()]

    @property
    def said(self) -> str:
        """What the real one had to complain of."""
        path = Path(f"{self._log}.said")
        return path.read_text() if path.exists() else ""


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def boxes(network: Network) -> tuple[Box, Box]:
    """lambda and intel, two machines with ids of their own."""
    if not REAL:
        pytest.skip("ssh is not installed: apt-get install openssh-client")
    return network.add("lambda", machine_id="1" * 32), network.add("intel", machine_id="2" * 32)


def program(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, before: str = "") -> Program:
    folder = tmp_path_factory.mktemp("program")
    made = Program(folder, before)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return made


def test_much_goes_over_one_connection_more_for_each_machine_and_little_over_none(
    project: Project, boxes: tuple[Box, Box], tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    ssh = program(tmp_path_factory, monkeypatch)
    project.manifest(PAIR, HEAD)
    assert applied(project) == [("out.txt", "lambda", "intel", 1, 4)] and ssh.pids == []
    project.manifest(BIG, HEAD)
    assert ("big.bin", "lambda", "intel", 1, SIZE) in applied(project)
    assert there(boxes[1], "big.bin").read_bytes() == there(boxes[0], "big.bin").read_bytes()
    assert len(ssh.pids) == 2 and ssh.said == ""
    assert [pid for pid in ssh.pids if alive(pid)] == []


@pytest.mark.parametrize("before", ["echo no such cipher >&2; exit 255", "sleep 60 & wait; exit 1", "echo noise; exit 0"])
def test_where_it_cannot_log_in_the_first_connection_carries_it(
    project: Project, boxes: tuple[Box, Box], tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    from albor_pipeline.run import lines

    monkeypatch.setattr(lines, "PATIENCE_S", 1.0)
    ssh = program(tmp_path_factory, monkeypatch, before)
    project.manifest(BIG, HEAD)
    assert ("big.bin", "lambda", "intel", 1, SIZE) in applied(project)
    assert len(ssh.pids) == 2 and [pid for pid in ssh.pids if alive(pid)] == []


def test_where_there_is_none_the_first_connection_carries_it(
    project: Project, boxes: tuple[Box, Box], monkeypatch: pytest.MonkeyPatch
) -> None:
    from albor_pipeline.transport import openssh

    monkeypatch.setattr(openssh, "PROGRAM", "ssh-that-is-not-there")
    project.manifest(BIG, HEAD)
    assert ("big.bin", "lambda", "intel", 1, SIZE) in applied(project)


def test_a_host_key_that_changed_since_the_first_connection_is_refused_by_the_second_too(
    project: Project, boxes: tuple[Box, Box], network: Network, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another key is recorded in the moment between the two; the sshd of the machine sees nobody log in any more."""
    other = network.boxes["lambda"].host_key.public
    before = f"echo '{boxes[1].key_name} {other}' > {network.known_hosts}; echo '{boxes[0].key_name} {other}' >> {network.known_hosts}"
    ssh = program(tmp_path_factory, monkeypatch, before)
    project.manifest(BIG, HEAD)
    said = project.run("apply", "--json", "--yes")
    assert said.exit == 0 and json.loads(said.out)["moves"][0]["size_bytes"] == SIZE, said
    assert len(ssh.pids) == 2 and "Host key verification failed." in ssh.said, ssh.said
    log = (boxes[1].folder / "log").read_text()
    assert log.count("Accepted publickey") == 1, log


@pytest.mark.slow
@pytest.mark.parametrize("which", [0, 1])
def test_when_it_breaks_the_rest_goes_over_the_first_in_the_same_run(
    project: Project, boxes: tuple[Box, Box], tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, which: int
) -> None:
    ssh = program(tmp_path_factory, monkeypatch)
    project.manifest(BIG, HEAD).does("apply", "--target", "make")
    running = project.start("apply", "--json", "--yes")
    folder = there(boxes[1], ".albor/incoming")
    project.wait(lambda: any(path.stat().st_size > SIZE // 4 for path in folder.glob("*.part")))
    os.kill(ssh.pids[which], signal.SIGKILL)
    said = project.end(running)
    assert said.exit == 0, said
    (moved,) = json.loads(said.out)["moves"]
    assert 0 < moved["size_bytes"] < SIZE - SIZE // 4
    assert there(boxes[1], "big.bin").read_bytes() == there(boxes[0], "big.bin").read_bytes()
    assert len(ssh.pids) == 2


@pytest.mark.slow
def test_it_ends_with_its_controller(
    project: Project, boxes: tuple[Box, Box], tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    ssh = program(tmp_path_factory, monkeypatch)
    project.manifest(BIG, HEAD).does("apply", "--target", "make")
    running = project.start("apply")
    project.wait(lambda: any(there(boxes[1], ".albor/incoming").glob("*.part")))
    assert all(os.getsid(pid) == pid for pid in ssh.pids), "Ctrl-C would reach it"
    os.killpg(running.pid, signal.SIGKILL)
    running.communicate()
    project.wait(lambda: not any(alive(pid) for pid in ssh.pids) and not boxes[1].programs())
