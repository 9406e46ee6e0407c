"""A machine that ends what a login leaves behind: attempts outlive the log-out, and where they cannot it is said before."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from testbed.base import USER
from testbed.bed import Bed
from testbed.conftest import Make
from testbed.machine import Machine
from testbed.pipeline import FIRST, Pipeline

pytestmark = pytest.mark.root
CONF = "/etc/systemd/logind.conf.d/kill.conf"
PROBE = "sleep 4321"


@pytest.fixture(scope="module")
def strict(the_bed: Bed) -> Iterator[Machine]:
    """lambda with KillUserProcesses=yes."""
    box = the_bed.machines["lambda"]
    box.do(f"mkdir -p {CONF.rpartition('/')[0]}; printf '[Login]\\nKillUserProcesses=yes\\n' > {CONF}; systemctl restart systemd-logind")
    yield box
    box.do(f"rm {CONF}; systemctl restart systemd-logind")


@pytest.fixture
def lingering(strict: Machine) -> Iterator[Machine]:
    """The same, where the user lingers."""
    strict.do(f"loginctl enable-linger {USER}")
    yield strict
    strict.do(f"loginctl disable-linger {USER}")


@pytest.fixture
def project(make: Make) -> Pipeline:
    """A project whose tasks run as a user without rights."""
    made = make().tasks(FIRST)
    config = made.root / "ssh_config"
    config.write_text(made.bed.ssh_config(extra={"lambda": f"  User {USER}"}))
    made.env["ALBOR_SSH_CONFIG"] = str(config)
    return made


def leaves_nothing(project: Pipeline, box: Machine) -> bool:
    """Whether a process that a login of the user leaves behind is ended by the machine."""
    project.desk.do("ssh", "-F", project.env["ALBOR_SSH_CONFIG"], "lambda", f"setsid -f {PROBE} </dev/null >&0 2>&0")
    project.wait(lambda: not box.do("loginctl --no-legend list-sessions").strip())
    return not box.do(f"pgrep --full --exact '{PROBE}' || true").strip()


def test_an_attempt_of_a_user_who_lingers_outlives_the_log_out(project: Pipeline, lingering: Machine) -> None:
    assert leaves_nothing(project, lingering)
    project.kill(project.begin(USER))
    project.wait(lambda: not lingering.do("loginctl --no-legend list-sessions").strip())
    process, _seconds = project.attach()
    project.go(USER)
    assert project.end(process).exit == 0
    assert project.starts(USER) == {"first": 1}
    project.says("apply", out="Nothing to do: 1 unchanged.")


def test_without_lingering_doctor_says_what_would_be_lost(project: Pipeline, strict: Machine) -> None:
    said = project.run("doctor")
    assert "ends what runs" in said.out and f"loginctl enable-linger {USER}" in said.out, said


def test_an_attempt_of_root_outlives_the_log_out(make: Make, strict: Machine) -> None:
    project = make().tasks(FIRST)
    project.kill(project.begin())
    project.wait(lambda: not strict.do("loginctl --no-legend list-sessions").strip())
    project.goes_on()
    assert project.starts() == {"first": 1}
