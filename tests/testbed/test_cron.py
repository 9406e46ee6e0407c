"""Crontabs of a real machine: a job is there once, is replaced when it changes, and goes with its line; lines of others stay."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from testbed.conftest import Make
from testbed.kinds import One
from testbed.machine import Machine

pytestmark = pytest.mark.root
FOREIGN = "MAILTO=ann\n1 2 * * * echo $(theirs) `x` 'y' \\%\n\n# a comment\n"
UNCHECKED = "sed 's/ \\[[0-9]*]$//'"
FORJAR = "# forjar:sweep\n# forjar-cmd:sweep\n*/5 * * * * old sweep\n"
HOSTILE = "echo 'a' \"b\" $(touch /pwned) `touch /pwned` \\\\ # é | date +%F \\%s; 1,2"


@pytest.fixture
def clean(box: Machine) -> Iterator[Machine]:
    """Afterwards there is no crontab."""
    yield box
    box.do("crontab -r; crontab -u ann -r; :")


@pytest.mark.effect("cron.name", "cron.schedule", "cron.command", "cron.owner", "cron.state")
def test_a_job_is_there_once_whatever_changes_and_lines_of_others_stay(make: Make, clean: Machine) -> None:
    """The known defects: a changed job ran twice, an absent one stayed, and nobody saw its schedule or command."""
    clean.do(f"crontab - <<'END'\n{FOREIGN}{FORJAR}END")
    one = One(make(), "cron", name="sweep", schedule="*/5 * * * *", command="new sweep").applies()
    mark = "# albor-pipeline it: sweep\n"
    assert clean.do(f"crontab -l | {UNCHECKED}") == f"{FOREIGN}{mark}*/5 * * * * new sweep\n"
    one.now(schedule="@daily", command=HOSTILE).applies().settled()
    escaped = HOSTILE.replace("+%F", "+\\%F")
    assert clean.do(f"crontab -l | {UNCHECKED}; ls /pwned 2>/dev/null || :") == f"{FOREIGN}{mark}@daily {escaped}\n"
    clean.do("crontab -l | sed 's/@daily/@hourly/' | { cat; echo 'PATH=/bin'; } | crontab -")
    one.drifts("schedule: recorded @daily, found @hourly")
    one.now(owner="ann", command="true").applies()
    assert clean.do("crontab -l") == f"{FOREIGN}PATH=/bin\n" and clean.do(f"crontab -u ann -l | {UNCHECKED}") == f"{mark}@daily true\n"
    one.now(state="absent", schedule=None, command=None).applies().settled()
    assert clean.do("crontab -u ann -l 2>&1 || :") == "no crontab for ann\n"


def test_what_cron_does_not_take_is_an_error_and_changes_nothing(make: Make, clean: Machine) -> None:
    clean.do(f"crontab - <<'END'\n{FOREIGN}END")
    One(make(), "cron", name="long", schedule="@daily", command="x" * 2000).fails("command too long")
    One(make(), "cron", name="who", schedule="@daily", command="x", owner="nobody-there").fails("user `nobody-there' unknown")
    assert clean.do("crontab -l") == FOREIGN
    clean.do("mv /usr/bin/crontab /usr/bin/crontab.kept")
    try:
        one = One(make(), "cron", name="none", schedule="@daily", command="x")
        one.fails("crontab is not installed on lambda: add a package resource for it (cron or cronie)")
    finally:
        clean.do("mv /usr/bin/crontab.kept /usr/bin/crontab")


def test_a_command_over_several_lines_is_refused_by_the_plan(make: Make) -> None:
    one = One(make(), "cron", name="lines", schedule="@daily", command="a\nb")
    one._write()
    said = one.project.run("plan")
    assert said.exit == 1 and "on one line" in said.err and json.dumps("a\nb") in said.err, said
