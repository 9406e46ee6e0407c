"""Which lines of a crontab go when a job is written or taken out, by the real scripts over a crontab of the test."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from albor_pipeline.manifest.load import load
from albor_pipeline.model.observed import Observation
from albor_pipeline.resources.base import Instance
from albor_pipeline.resources.marks import cksum
from albor_pipeline.resources.registry import convergent

KIND = convergent("cron")
# A crontab of one account, whichever is named.
CRONTAB = '#!/bin/sh\nfor last; do :; done\ncase $last in -l) cat "{tab}" ;; -r) : >"{tab}" ;; -) cat >"{tab}" ;; esac\n'


@pytest.fixture
def tab(tmp_path: Path) -> Path:
    """The crontab that the program of this name here reads and writes."""
    file, program = tmp_path / "tab", tmp_path / "crontab"
    file.touch()
    program.write_text(CRONTAB.format(tab=file))
    program.chmod(0o755)
    return file


def job(tab: Path, **fields: str) -> Instance:
    declared = json.dumps({"type": "cron", "name": "sweep", **fields})
    (tab.parent / "m.yaml").write_text(f"version: '1.0'\nname: t\nresources: {{it: {declared}}}\n")
    manifest = load(tab.parent / "m.yaml")
    return Instance(manifest.resources["it"], manifest.machines["localhost"], tab.parent)


def does(tab: Path, script: str) -> str:
    path = f"{tab.parent}:/usr/bin:/bin"
    return subprocess.run(["/bin/sh", "-euc", script], check=True, env={"PATH": path}, text=True, capture_output=True).stdout


def applied(tab: Path, **fields: str) -> tuple[str, str]:
    """What is wrong before, as the state says it, and the crontab afterwards."""
    one = job(tab, **fields)
    before = KIND.observe(one, [{"exit": 0, "stdout": does(tab, KIND.probes(one)[0]["script"])}])
    for operation in KIND.converge(one, before):
        does(tab, operation["script"])
    after = KIND.observe(one, [{"exit": 0, "stdout": does(tab, KIND.probes(one)[0]["script"])}])
    assert {name: after.values.get(name) for name in KIND.wanted(one)} == KIND.wanted(one)
    return before.values["state"], tab.read_text()


@pytest.mark.parametrize("command", ["a", "echo '$(x)' \\ `y`  é [12] #  %F ; *", "x" * 300, "sweep [1]"])
def test_a_job_is_replaced_whatever_its_command_was_and_goes(tab: Path, command: str) -> None:
    applied(tab, schedule="1 2 * * *", command="before")
    state, text = applied(tab, schedule="@daily", command=command)
    assert state == "present" and len(text.splitlines()) == 2
    assert applied(tab, schedule="*/5  * * * *", command="after") == ("present", tab.read_text())
    assert tab.read_text().splitlines()[1:] == ["*/5 * * * * after"]
    tab.write_text(tab.read_text().replace("*/5 * * * *", " */5 1 \t* * *  "))
    assert applied(tab, state="absent") == ("present", "")


@pytest.mark.parametrize("fields", [{"schedule": "@daily", "command": "sweep"}, {"state": "absent"}])
@pytest.mark.parametrize("foreign", ["@daily backup", "@daily nice sweep", "0 3 * * * sweep --all", "@daily", "MAILTO=sweep"])
def test_a_mark_whose_job_is_gone_claims_no_job_of_others(tab: Path, foreign: str, fields: dict[str, str]) -> None:
    mark = applied(tab, schedule="@daily", command="sweep")[1].splitlines()[0]
    tab.write_text(f"{mark}\n{foreign}\n# albor-pipeline it: sweep\n{foreign}\n")
    state, text = applied(tab, **fields)
    assert state == "its mark is above a line with another command, which stays"
    assert text == f"{foreign}\n{foreign}\n" + (f"{mark}\n@daily sweep\n" if "command" in fields else "")


def test_a_crontab_whose_account_is_gone_is_none_of_anybody(tab: Path) -> None:
    spool = tab.parent / "spool"
    spool.mkdir()
    one = job(tab, schedule="@daily", command="sweep", owner="daemon")
    for name in ("nobody-there", "root"):
        (spool / name).write_text("# albor-pipeline it: sweep [1]\n@daily sweep\n")
    script = KIND.probes(one)[0]["script"].replace("/var/spool/cron/crontabs", str(spool))
    told = does(tab, script)
    assert [line for line in told.splitlines() if line.startswith("elsewhere")] == ["elsewhere root"]
    seen = KIND.observe(one, [{"exit": 0, "stdout": told}])
    assert seen.values["owner"] == "root"


BLOCK = "# forjar:sweep\n# forjar-cmd:sweep\n"


def test_a_block_of_forjar_is_taken_over_whatever_it_ran_and_what_forjar_left_above_is_nobodys(tab: Path) -> None:
    tab.write_text(f"0 1 * * * oldest\n{BLOCK}0 2 * * * old\n0 3 * * * theirs\n")
    state, text = applied(tab, schedule="@daily", command="new")
    assert state == "present"
    assert text.splitlines()[:2] == ["0 1 * * * oldest", "0 3 * * * theirs"] and text.splitlines()[3:] == ["@daily new"]


@pytest.mark.parametrize("between", ["\n", "# theirs\n", "# forjar:other\n# forjar-cmd:other\n"])
def test_a_line_that_is_not_right_below_the_marks_of_forjar_stays(tab: Path, between: str) -> None:
    tab.write_text(f"{BLOCK}{between}0 3 * * * theirs\n")
    state, text = applied(tab, schedule="@daily", command="new")
    assert state == "absent"
    assert text.startswith(f"{between}0 3 * * * theirs\n") and text.splitlines()[-1] == "@daily new"


def test_a_block_of_forjar_in_the_crontab_of_another_account_is_left_alone(tab: Path) -> None:
    tab.write_text(f"{BLOCK}0 3 * * * theirs\n# albor-pipeline it: sweep [{cksum(b'x')}]\n@daily x\n")
    one = job(tab, schedule="@daily", command="x", owner="ann")
    before = Observation(True, {"state": "present", "owner": "root"})
    *_own, moved = KIND.converge(one, before)[0]["script"].split("set -- root")
    does(tab, f"set -- root{moved}")
    assert tab.read_text() == f"{BLOCK}0 3 * * * theirs\n"
