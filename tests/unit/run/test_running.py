"""What a run does with its machine while it runs: slots, an agent that dies, code that moved, another state, signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support_run import Project, task

from albor_pipeline.model.resource import Key
from albor_pipeline.run.session import Session

pytestmark = pytest.mark.slow


@pytest.fixture
def opened(project: Project) -> Iterator[list[subprocess.Popen[str]]]:
    """Controllers that a failing test must not leave behind."""
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        if process.poll() is None:
            project.kill(process)


def agents_of(process: subprocess.Popen[str]) -> list[int]:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(pid) for pid in children if b"agent" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def test_gpus_are_shared_out_by_number(project: Project) -> None:
    top = "machines: { box: { addr: localhost, slots: { gpu: 2, cpu: 8 } } }\n"
    command = "mkdir live/$CUDA_VISIBLE_DEVICES && sleep 0.3 && rmdir live/$CUDA_VISIBLE_DEVICES"
    (project.root / "live").mkdir()
    project.manifest(*(task(f"t{i}", command, "machine: box", "needs: { gpu: 1 }") for i in range(4)), top=top)
    said = project.run("apply")
    assert said.code == 0, said.err


def test_tasks_that_need_the_whole_machine_run_one_after_the_other(project: Project) -> None:
    top = "machines: { box: { addr: localhost, slots: { cpu: 4, memory: 8GB } } }\n"
    needs = ("needs: { cpu: 3 }", "needs: { cpu: 4 }", "needs: { cpu: 2, memory: 6GB }", "needs: { cpu: 2, memory: 6GB }")
    command = "mkdir alone && sleep 0.1 && rmdir alone"
    project.manifest(*(task(f"t{i}", command, "machine: box", need) for i, need in enumerate(needs)), top=top)
    said = project.run("apply")
    assert said.code == 0, said.err


def test_an_agent_that_dies_leaves_its_task_running_and_the_next_run_attaches(
    project: Project, opened: list[subprocess.Popen[str]]
) -> None:
    project.manifest(task("long", "sleep 2; echo x > out.txt", "outputs: [out.txt]"), task("then", "true", "depends_on: [long]"))
    opened.append(project.start("apply"))
    project.wait(lambda: project.starts() == ["long"])
    for pid in agents_of(opened[0]):
        os.kill(pid, signal.SIGKILL)
    out, err = opened[0].communicate(timeout=60)
    assert opened[0].returncode == 6, out + err
    assert "localhost does not answer: its agent was killed by SIGKILL; the attempt goes on by itself" in err
    assert project.row("long")["status"] == "running"
    again = project.run("apply")
    assert again.code == 0, again.err
    assert project.starts() == ["long", "then"]


def test_code_that_changes_after_the_plan_stops_its_branch_only(project: Project) -> None:
    project.stages({"plan": {}}, "one")
    stage = "  staged: { type: task, stage: one, config: { lr: 1 }, outputs: [out] }\n"
    project.manifest(stage, task("other", "true"), top="policy: { pre_apply: echo 'y = 2' >> stages/one.py }\n")
    said = project.run("apply")
    assert said.code == 1
    assert "plan is stale: stages/one.py changed since it was made" in said.err
    assert project.row("other")["status"] == "converged"
    assert project.row("staged")["status"] == "pending"


def test_a_task_that_another_state_runs_already_is_attached_and_not_started_beside_it(
    project: Project, opened: list[subprocess.Popen[str]]
) -> None:
    project.manifest(task("older", "true"))
    assert project.run("apply", "--state-dir", "other").code == 0
    project.manifest(task("long", "sleep 4"))
    opened.append(project.start("apply"))
    project.wait(lambda: project.starts() == ["older", "long"])
    said = project.run("apply", "--state-dir", "other")
    assert said.code == 0 and "long   attached" in said.err, said
    assert project.starts() == ["older", "long"]
    opened[0].communicate(timeout=60)
    assert opened[0].returncode == 0


def test_an_empty_state_beside_a_running_one_is_the_same_lineage_and_has_to_wait(
    project: Project, opened: list[subprocess.Popen[str]]
) -> None:
    project.manifest(task("long", "sleep 3"))
    opened.append(project.start("apply"))
    project.wait(lambda: project.starts() == ["long"])
    assert project.run("apply", "--state-dir", "empty").code == 5
    opened[0].communicate(timeout=60)
    assert project.starts() == ["long"]


def test_a_copy_of_the_state_cannot_drive_the_machine_at_the_same_time(
    project: Project, opened: list[subprocess.Popen[str]]
) -> None:
    project.manifest(task("first", "true"), task("long", "sleep 4", "depends_on: [first]"))
    project.run("apply", "--target", "first")
    opened.append(project.start("apply"))
    project.wait(lambda: "long" in project.starts())
    subprocess.run(["cp", "-r", "state", "copy"], cwd=project.root, check=True)
    said = project.run("apply", "--state-dir", "copy")
    assert said.code == 5
    assert f"localhost is in use by pid {opened[0].pid} on " in said.err


def test_a_polite_end_is_an_interrupt_and_json_tells_what_goes_on(project: Project, opened: list[subprocess.Popen[str]]) -> None:
    project.manifest(task("long", "sleep 5"))
    opened.append(project.start("apply", "--json"))
    project.wait(lambda: project.starts() == ["long"])
    os.kill(opened[0].pid, signal.SIGTERM)
    out, _ = opened[0].communicate(timeout=60)
    assert opened[0].returncode == 130
    report = json.loads(out)
    assert (report["interrupted"], report["still_running"]) == (True, ["long@localhost"])
    assert project.run("cancel", "long").code == 0


def test_what_a_running_task_tells_of_itself_is_shown_live_and_in_status(
    project: Project, opened: list[subprocess.Popen[str]]
) -> None:
    line = '{"step": 24000, "of": 38349, "loss": 2.41}'
    project.manifest(task("train", f"echo '{line}' > $ALBOR_ATTEMPT/metrics.jsonl; sleep 5"))
    opened.append(project.start("apply"))
    project.wait(lambda: project.starts() == ["train"])
    project.wait(lambda: "step 24,000 of 38,349 (62.6%)" in project.run("status").out)
    assert project.row("train")["progress"]["loss"] == 2.41
    assert "step 24,000" in project.run("ps").out
    project.kill(opened[0])
    assert ", step 24000" in project.actions()["train"][1]
    assert "ended (cancelled)" in project.run("cancel", "train").out


def test_a_failed_attempt_in_between_is_not_forgotten_where_no_output_proves_what_is_there(project: Project) -> None:
    for command, code in (("true", 0), ("false", 3), ("true", 0)):
        project.manifest(task("deploy", command))
        assert project.run("apply").code == code
    assert len(project.starts()) == 3
    assert project.row("deploy")["status"] == "converged"


def test_two_names_for_one_folder_are_refused(project: Project) -> None:
    top = "machines: { a: { addr: localhost }, b: { addr: 127.0.0.1, workdir: . } }\n"
    project.manifest(task("t", "true", "machine: [a, b]"), top=top)
    said = project.run("plan")
    assert said.code == 1
    assert f"machines `a` and `b` are one folder of one machine: {project.root}" in said.err


def test_a_reader_whose_state_was_overtaken_by_a_run_reads_it_again(project: Project) -> None:
    project.manifest(task("a", "true"))
    assert project.run("apply").code == 0
    path, state = project.root / "p.yaml", project.root / "state"
    with Session.open(path, lambda manifest: state, write=False) as reader:
        project.manifest(task("a", "true; true"))
        assert project.run("apply").code == 0
        reader.connect([Key("a", "localhost")])
        assert reader.folder.state.last_run == "0002"


def test_an_old_copy_of_the_state_is_refused_for_readers_too(project: Project) -> None:
    project.manifest(task("a", "true"))
    assert project.run("apply").code == 0
    subprocess.run(["cp", "-r", "state", "copy"], cwd=project.root, check=True)
    assert project.run("apply", "--force").code == 0
    said = project.run("plan", "--state-dir", "copy")
    assert said.code == 1
    assert "copy/ is behind" in said.err
