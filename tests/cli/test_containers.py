"""Machines that are containers: made by apply, spoken to through the same agent, gone with destroy. For real; docker where it answers."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from albor_pipeline.run.unchanged import NOTE
from cli.boxes import BARE, IMAGE, Engine, engine
from cli.builder import Project

NAME = "forjar-box"
LADDER = """
motd: {type: file, machine: box, path: /etc/new, content: hello, mode: '0640'}
data: {type: task, machine: desk, command: 'seq 1 1000 > data.txt', outputs: [data.txt]}
count:
  type: task
  machine: box
  command: 'wc -l < data.txt > count.txt; printenv COLOUR'
  inputs: [data]
  outputs: [count.txt]
  depends_on: [motd]
back: {type: task, machine: desk, command: 'cat count.txt > got.txt', inputs: [count], outputs: [got.txt]}
"""


@pytest.fixture(scope="module", params=["podman", pytest.param("docker", marks=pytest.mark.soak)])
def box(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """The engine of the machine `box`."""
    with engine(request.param, tmp_path_factory.mktemp("engine")) as made:
        yield made


def head(box: Engine) -> str:
    return f"""
machines:
  desk: {{addr: localhost}}
  box:
    hostname: box
    addr: container
    transport: container
    user: root
    container: {{runtime: {box.name}, image: '{IMAGE}', env: {{COLOUR: red 'blue' $x}}}}
"""


@pytest.fixture
def tale(box: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    monkeypatch.chdir(tmp_path)
    project = Project(tmp_path).manifest(LADDER, head(box))
    yield project
    project.close()
    box.clear()


def processes(box: Engine) -> str:
    return box("exec", NAME, "ps", "axo", "args") if NAME in box.containers() else ""


def killed(tale: Project, box: Engine, begun: str) -> None:
    """Begin to apply, and kill it once this runs in the container."""
    process = tale.start("apply")
    tale.wait(lambda: begun in processes(box))
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def test_a_plan_makes_nothing_and_takes_the_container_for_an_empty_machine(tale: Project, box: Engine) -> None:
    said = tale.run("plan")
    assert (said.exit, box.containers()) == (0, []), said
    assert f"warning[not-made]: the container of box is not there: `apply` makes it from {IMAGE}" in said.err
    assert "Plan: 1 to create, 3 to run." in said.out
    assert "its container is not there yet" in tale.run("doctor", "--machine", "box").out


def test_a_ladder_through_a_container_and_then_nothing_to_do(tale: Project, box: Engine) -> None:
    said = tale.run("apply")
    assert said.exit == 0, said
    assert f"making the container {NAME} from {IMAGE}" in said.err
    assert (tale.root / "got.txt").read_text().strip() == "1000"
    assert "red 'blue' $x" in tale.run("logs", "count").out
    assert box.facts(NAME)["Config"]["Labels"]["albor-pipeline"] == "tale"
    again = tale.run("apply")
    assert (again.exit, again.out) == (0, "Nothing to do: 4 unchanged.\n"), again
    assert f"transfers  by {box.name} exec" in tale.run("doctor").out
    box("exec", NAME, "chmod", "600", "/etc/new")
    assert "mode: recorded 0640, found 0600" in tale.run("drift").out
    assert "1 updated" in tale.run("apply").out
    assert box("exec", NAME, "stat", "-c", "%a", "/etc/new") == "640"


def test_what_came_with_the_image_of_a_new_container_is_overwritten_without_asking(tale: Project, box: Engine) -> None:
    note = "note: {type: file, machine: box, path: /etc/motd, content: ours}"
    assert tale.manifest(note, head(box)).run("apply").exit == 0
    box("rm", "-f", NAME)
    box("run", "-d", f"--name={NAME}", IMAGE, "sleep", "infinity")
    said = tale.run("apply")
    assert (said.exit, "error[needs-yes]" in said.err) == (1, True), said


def test_a_shell_in_it_is_in_the_folder_of_its_tasks(tale: Project) -> None:
    tale.run("apply")
    said = tale.end(tale.start("ssh", "box", "cat", "count.txt"))
    assert (said.exit, said.out) == (0, "1000\n"), said


def test_one_that_is_gone_is_made_again_with_all_that_was_in_it(tale: Project, box: Engine) -> None:
    tale.run("apply")
    box("rm", "-f", NAME)
    said = tale.run("plan")
    assert re.findall(r"(\w+) +task +box +run +box is another machine", said.out) == ["count"]
    assert "content: recorded" in tale.run("drift").out
    assert tale.run("apply").exit == 0
    assert box("exec", NAME, "sh", "-c", "cat /etc/new ~/albor/tale/count.txt") == "hello1000"


def test_one_that_is_stopped_is_started_by_apply_alone(tale: Project, box: Engine) -> None:
    tale.run("apply")
    box("stop", "-t", "0", NAME)
    said = tale.run("plan")
    assert (said.exit, f"its container {NAME} is stopped" in said.err) == (6, True), said
    assert f"so does {box.name} start {NAME}" in said.err
    again = tale.run("apply")
    assert (again.exit, again.err) == (0, f"starting the container {NAME}\n"), again
    assert "Nothing to do" in again.out


def test_other_settings_are_told_and_the_old_one_is_left(tale: Project, box: Engine) -> None:
    tale.run("apply")
    before = box.facts(NAME)["Id"]
    said = tale.edit("image:", "volumes: ['/tmp:/seen'], image:").run("apply")
    assert said.exit == 6, said
    assert f"its container {NAME} was made with other settings than the manifest has now" in said.err
    assert f"{box.name} rm -f {NAME}" in said.err
    assert box.facts(NAME)["Id"] == before


def test_destroy_asks_and_takes_the_container_with_all_that_is_in_it(tale: Project, box: Engine) -> None:
    tale.run("apply")
    refused = tale.run("destroy")
    assert (refused.exit, box.containers()) == (1, [NAME])
    assert "box: its container goes, with all that is in it" in refused.err
    assert "destroy" not in tale.run("plan").out
    said = tale.run("destroy", "--yes")
    assert (said.exit, box.containers()) == (0, []), said
    assert f"removed the container {NAME}" in said.err
    assert "count  task  box   forget  it goes with the container of box" in said.err
    assert tale.run("destroy", "--yes").out == "Nothing to destroy: nothing of it is recorded.\n"


def test_much_data_goes_through_the_one_way_in(tale: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no server to log in at, so none is looked for."""
    monkeypatch.setattr("albor_pipeline.transport.openssh.start", lambda *args: pytest.fail("an SSH connection was begun"))
    tale.edit("seq 1 1000 > data.txt", "head -c 40000000 /dev/zero > data.txt").edit("wc -l", "wc -c")
    assert tale.run("apply").exit == 0
    assert (tale.root / "got.txt").read_text().strip() == "40000000"


def test_nothing_to_do_is_not_remembered_of_a_container(tale: Project, box: Engine) -> None:
    """What is remembered is asked again by other ways, which do not lead into a container."""
    tale.manifest("note: {type: file, machine: box, path: /etc/new, content: hello}", head(box))
    tale.run("apply")
    time.sleep(2.2)  # what was written just now is never remembered
    assert tale.run("apply").out == "Nothing to do: 1 unchanged.\n"
    assert not (tale.root / NOTE).exists()


def test_destroying_a_target_leaves_the_container(tale: Project, box: Engine) -> None:
    tale.run("apply")
    said = tale.run("destroy", "--target", "motd", "--yes")
    assert (said.exit, box.containers()) == (0, [NAME]), said


def test_what_is_not_ephemeral_or_not_ours_stays(tale: Project, box: Engine) -> None:
    box("run", "-d", f"--name={NAME}", "--env=COLOUR=", IMAGE, "sleep", "infinity")
    assert tale.run("apply").exit == 0
    assert tale.run("destroy", "--yes").exit == 0
    assert box.containers() == [NAME]
    box("rm", "-f", NAME)
    tale.edit("image:", "ephemeral: false, image:")
    assert tale.run("apply").exit == 0
    assert tale.run("destroy", "--yes").exit == 0
    assert box.containers() == [NAME]


def test_a_container_in_which_a_task_runs_is_not_destroyed(tale: Project, box: Engine) -> None:
    tale.manifest("long: {type: task, machine: box, command: 'sleep 60; touch never'}", head(box))
    killed(tale, box, "sleep 60")
    said = tale.run("destroy", "--yes")
    assert (said.exit, box.containers()) == (1, [NAME]), said
    assert tale.run("cancel", "long").exit == 0


def test_a_task_in_it_outlives_the_controller_and_is_attached_to(tale: Project, box: Engine) -> None:
    tale.manifest("long: {type: task, machine: box, command: 'sleep 4; echo x >> starts; cp starts out', outputs: [out]}", head(box))
    killed(tale, box, "sleep 4")
    said = tale.run("apply")
    assert (said.exit, "attached" in said.err) == (0, True), said
    assert box("exec", NAME, "sh", "-c", "cat ~/albor/tale/out") == "x"
    tale.wait(lambda: "agent-" not in processes(box))


def test_two_of_one_image_are_two_machines(tale: Project, box: Engine) -> None:
    two = f"  other: {{hostname: other, addr: container, container: {{runtime: {box.name}, image: '{IMAGE}'}}}}\n"
    each = "note: {type: file, machine: [box, other], path: /etc/new, content: hello}"
    assert tale.manifest(each, head(box) + two).run("apply").exit == 0
    assert box.containers() == [NAME, "forjar-other"]
    assert tale.run("apply").out == "Nothing to do: 2 unchanged.\n"


def test_one_without_python_gets_it_and_a_plan_says_what_it_lacks(tale: Project, box: Engine) -> None:
    tale.edit(IMAGE, BARE)
    said = tale.run("apply")
    assert said.exit == 0, said
    assert f"box: it has no Python 3.9 or newer; installing python3 in its container {NAME}" in said.err
    assert box("exec", NAME, "cat", "/asked") == "-q install -y --no-install-recommends python3"
    box("exec", NAME, "mv", "/usr/bin/python3", "/opt/python3")
    plan = tale.run("plan")
    assert (plan.exit, "it has no Python 3.9 or newer" in plan.err) == (6, True), plan


def test_one_that_was_not_made_here_gets_nothing_installed(tale: Project, box: Engine) -> None:
    box("run", "-d", f"--name={NAME}", BARE, "sleep", "infinity")
    said = tale.run("apply")
    assert (said.exit, "install it there: sudo apt-get install python3" in said.err) == (6, True), said
    assert box("exec", NAME, "ls", "/opt") == "python3"


def test_an_image_that_is_nowhere_leaves_nothing_half_made(tale: Project, box: Engine) -> None:
    said = tale.edit(IMAGE, "localhost/none:1").run("apply")
    assert said.exit == 6, said
    assert f"its container {NAME} cannot be made from localhost/none:1: " in said.err
    assert box.containers() == []
