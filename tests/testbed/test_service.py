"""Units of a real systemd: run, stopped, enabled, disabled; what crashes, is masked or is not there is an error with its name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.conftest import Make
from testbed.kinds import One
from testbed.machine import Machine

pytestmark = pytest.mark.root
FOLDER = "/usr/local/lib/systemd/system"
UNIT = "[Service]\nExecStart={}\n[Install]\nWantedBy=multi-user.target\n"
UNITS = {
    "kinds-good": UNIT.format("sleep 1000"),
    "kinds-static": "[Service]\nExecStart=sleep 1000\n",
    "kinds-crash": UNIT.format("false") + "[Service]\nRestart=always\n",
    "kinds-once": UNIT.format("sh -c 'echo the port is taken >&2; exit 7'"),
}


@pytest.fixture
def units(box: Machine) -> Iterator[Machine]:
    """Units of this file's own; afterwards they are not there."""
    folder = Path(f"{box.home().parent}{FOLDER}")
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in UNITS.items():
        (folder / f"{name}.service").write_text(text)
    box.do("systemctl daemon-reload")
    yield box
    names = " ".join(UNITS)
    box.do(f"systemctl unmask {names}; systemctl disable --now {names}; rm -f {FOLDER}/kinds-*; systemctl daemon-reload; :")


def says(box: Machine, name: str) -> list[str]:
    return box.do(f"systemctl is-active {name}; systemctl is-enabled {name}; :").split()


@pytest.mark.soak
@pytest.mark.effect("service.name", "service.state", "service.enabled")
def test_each_state_of_a_unit_is_brought_about_and_kept(make: Make, units: Machine) -> None:
    """The known defect: `state: disabled` enabled the unit."""
    one = One(make(), "service", name="kinds-good").applies().settled()
    assert says(units, "kinds-good") == ["active", "enabled"]
    units.do("systemctl disable --now kinds-good")
    one.drifts("state: recorded running, found stopped", "enabled: recorded true, found false")
    one.now(state="disabled").applies()
    assert says(units, "kinds-good") == ["active", "disabled"]
    one.now(state="stopped", enabled=True).applies()
    assert says(units, "kinds-good") == ["inactive", "enabled"]
    one.now(state="running", enabled=False).applies()
    assert says(units, "kinds-good") == ["active", "disabled"]


def test_a_unit_that_nothing_can_enable_only_runs(make: Make, units: Machine) -> None:
    One(make(), "service", name="kinds-static").applies()
    assert says(units, "kinds-static") == ["active", "static"]
    One(make(), "service", name="kinds-static", enabled=True).fails("enabled: planned true, found static")


def test_a_unit_that_crashes_is_masked_or_is_not_there_fails_and_says_so(make: Make, units: Machine) -> None:
    One(make(), "service", name="kinds-crash").fails("kinds-crash was started and does not keep running")
    One(make(), "service", name="kinds-once").fails("kinds-once was started and does not keep running", "the port is taken")
    units.do("systemctl mask kinds-good")
    One(make(), "service", name="kinds-good").plans("enabled: wanted true, found masked").fails("kinds-good.service is masked")
    One(make(), "service", name="kinds-none", state="stopped").fails("kinds-none.service not loaded")


def test_a_machine_without_systemd_is_an_error_and_no_success(make: Make, units: Machine) -> None:
    """The known defect: without systemctl it warned and succeeded."""
    units.do("mv /run/systemd/system /run/systemd/kept")
    try:
        One(make(), "service", name="kinds-good").plans("lambda is not run by systemd")
    finally:
        units.do("mv /run/systemd/kept /run/systemd/system")


def test_a_service_reads_its_settings_again_when_what_it_restarts_on_changed(make: Make, units: Machine) -> None:
    project = make()
    head = f"machines:\n  lambda: {{addr: lambda, workdir: ~/runs/{project.name}}}\n"
    text = "conf: {{type: file, machine: lambda, path: conf, content: {}}}\n"
    service = "it: {type: service, machine: lambda, name: kinds-good, restart_on: [conf]}\n"
    project.manifest(text.format("a") + service, head).does("apply")
    before = units.do("systemctl show -p MainPID kinds-good")
    project.does("apply")
    assert units.do("systemctl show -p MainPID kinds-good") == before
    project.manifest(text.format("b") + service, head).does("apply")
    assert units.do("systemctl show -p MainPID kinds-good") != before and says(units, "kinds-good") == ["active", "enabled"]
    project.does("destroy", "--yes", "--target", "it")
    assert says(units, "kinds-good") == ["inactive", "disabled"]
