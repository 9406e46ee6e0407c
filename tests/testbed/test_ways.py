"""The ways to a machine: wrong and changed host keys are refused, and an agent's key, a jump host and IPv6 lead there."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from testbed.bed import Bed
from testbed.machine import Machine
from testbed.pipeline import Pipeline

pytestmark = pytest.mark.root
Rows = list[tuple[Any, ...]]
KEY = "/etc/ssh/ssh_host_ed25519_key"
ONLY_FROM_INTEL = "/etc/ssh/sshd_config.d/0.conf"


def reached_by(project: Pipeline, **how: Any) -> Pipeline:
    """The project with an SSH configuration of its own."""
    config = project.root / "ssh_config"
    config.write_text(project.bed.ssh_config(**how))
    project.env["ALBOR_SSH_CONFIG"] = str(config)
    return project


def test_a_machine_with_another_key_than_the_recorded_one_is_refused(project: Pipeline, bed: Bed) -> None:
    hosts = project.root / "hosts"
    hosts.write_text(f"lambda {bed.machines['intel'].host_key}\nintel {bed.machines['intel'].host_key}\n")
    said = reached_by(project, known_hosts=hosts).run("apply")
    assert said.exit == 6 and "the host key of lambda changed: ssh-ed25519 SHA256:" in said.err, said
    assert f"ssh-keygen -f {hosts} -R lambda" in said.err and not project.starts()


def test_a_machine_whose_key_is_not_known_is_refused_with_the_command_that_accepts_it(project: Pipeline, bed: Bed) -> None:
    hosts = project.root / "hosts"
    hosts.write_text(f"intel {bed.machines['intel'].host_key}\n")
    said = reached_by(project, known_hosts=hosts).run("apply")
    assert said.exit == 6 and "the host key of lambda is not known: ssh-ed25519 SHA256:" in said.err, said
    (command,) = [line.partition("accept it: ")[2] for line in said.err.splitlines() if "accept it: " in line]
    subprocess.run(["sh", "-c", command], check=True)
    assert project.run("plan").exit == 0 and not project.starts()


def test_a_key_that_changes_under_a_running_task_leaves_it_alone(project: Pipeline, box: Machine, undisturbed: Rows) -> None:
    project.kill(project.begin())
    box.do(f"mv {KEY} {KEY}.kept && ssh-keygen -q -t ed25519 -N '' -f {KEY} <<< y && systemctl restart ssh")
    try:
        said = project.run("apply")
        assert said.exit == 6 and "the host key of lambda changed" in said.err, said
    finally:
        box.do(f"mv {KEY}.kept {KEY} && systemctl restart ssh")
    project.goes_on().ends_as(undisturbed)


@pytest.fixture
def agent(bed: Bed, tmp_path: Path) -> Iterator[Path]:
    """The socket of an SSH agent that has the key."""
    socket = tmp_path / "agent"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.DEVNULL)
    limit = time.monotonic() + 10
    while not socket.exists() and time.monotonic() < limit:
        time.sleep(0.02)
    subprocess.run(["ssh-add", "-q", str(bed.key)], env={"SSH_AUTH_SOCK": str(socket)}, check=True)
    yield socket
    process.kill()
    process.wait()


def test_a_key_that_only_the_agent_has_opens_the_machines(project: Pipeline, agent: Path, undisturbed: Rows) -> None:
    reached_by(project, key=False).go()
    project.env["HOME"] = str(project.root)
    assert project.run("plan").exit == 6
    project.env["SSH_AUTH_SOCK"] = str(agent)
    assert project.run("apply").exit == 0
    project.ends_as(undisturbed)


def test_a_machine_that_only_another_may_reach_is_reached_through_it(
    project: Pipeline, bed: Bed, box: Machine, undisturbed: Rows
) -> None:
    box.do(f"echo 'AllowUsers *@{bed.machines['intel'].address.ip}' > {ONLY_FROM_INTEL} && systemctl reload ssh")
    try:
        assert project.run("plan").exit == 6
        process = reached_by(project, extra={"lambda": "  ProxyJump intel"}).begin()
        bed.machines["intel"].drop_sessions()
        assert project.end(process).exit == 6
        project.goes_on().ends_as(undisturbed)
    finally:
        box.do(f"rm {ONLY_FROM_INTEL} && systemctl reload ssh")


@pytest.mark.soak
def test_machines_are_reached_over_ipv6(project: Pipeline, box: Machine, undisturbed: Rows) -> None:
    project.kill(reached_by(project, v6=True).begin())
    project.goes_on().ends_as(undisturbed)
    box.link.cut()
    assert f"{box.address.ip6}:22" in project.run("plan").out
