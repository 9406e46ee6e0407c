"""When state/ is lost or old: plan adopts what the machine proves, wherever the controller is by then; an old copy is refused."""

from __future__ import annotations

import shutil
from typing import Any

import pytest
from sshd import Box, Network

from albor_pipeline.run import leases
from cli.builder import Project, put, there

TRAIN = """
train:
  type: task
  machine: lambda
  command: echo start >> starts; while ! test -e go; do sleep 0.05; done; echo A > model.txt
  outputs: [model.txt]
"""
ON_LAMBDA = "machines:\n  lambda: {addr: lambda}\n"
ON_BOTH = "machines:\n  lambda: {addr: lambda}\n  intel: {addr: intel}\n"
PAIR = """
make: {type: task, machine: lambda, command: 'echo make >> starts; echo one > out.txt', outputs: [out.txt]}
use: {type: task, machine: intel, command: 'echo use >> starts; cat out.txt out.txt > used.txt', inputs: [make], outputs: [used.txt]}
"""


def test_a_lost_state_is_adopted_and_nothing_runs(project: Project) -> None:
    project.chain().does("apply")
    before = (project.root / "count.txt").stat().st_mtime_ns
    shutil.rmtree(project.root / "state")
    said = project.run("apply")
    assert said.exit == 0
    assert "Done: 2 adopted." in said.out and "running" not in said.err
    assert (project.root / "count.txt").stat().st_mtime_ns == before
    project.says("apply", out="Nothing to do: 2 unchanged.")


def test_rebuild_writes_the_state_anew(project: Project) -> None:
    project.chain().does("apply")
    shutil.rmtree(project.root / "state")
    project.says("state", "rebuild", out="""
          count@localhost: attempt 1 of run 0001, ended DAY TIME
          words@localhost: attempt 1 of run 0001, ended DAY TIME
        Rebuilt from 2 proven results. To see what is left to do: albor-pipeline plan manifests/albor.yaml
    """)
    project.says("apply", out="Nothing to do: 2 unchanged.").does("audit")


def test_an_old_copy_of_the_state_is_refused(project: Project) -> None:
    project.chain().does("apply")
    shutil.copytree(project.root / "state", project.root / "old")
    project.edit("wc -l", "wc -c").does("apply")
    shutil.rmtree(project.root / "state")
    (project.root / "old").rename(project.root / "state")
    project.says("plan", exit=1, err="""
        error[state-behind]: state/ is behind: it has 7 journal lines, localhost has seen 11
          = if a newer copy of state/ exists (another checkout, a backup), use that one
          = else `albor-pipeline state rebuild` makes it anew from what the machines prove
    """)
    project.does("state", "rebuild").says("apply", out="Nothing to do: 2 unchanged.")


def test_nothing_to_rebuild_from(project: Project) -> None:
    project.chain().says("state", "rebuild", exit=1, err="""
        error[rebuild]: no machine holds an attempt of this manifest
          = there is nothing to rebuild from
    """)


def test_a_copy_that_is_overtaken_after_its_plan_starts_nothing(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other controller ran to its end between our look at the machine and our lease, so nobody was there to refuse us."""
    project.chain().does("apply")
    shutil.copytree(project.root / "state", project.root / "copy")
    project.edit("sort in.txt", "sort -r in.txt")
    take = leases.take

    def late(*args: Any) -> Any:
        assert project.end(project.start("apply")).exit == 0
        return take(*args)

    monkeypatch.setattr(leases, "take", late)
    said = project.run("apply", "--state-dir", "copy")
    assert said.exit == 1 and "error[state-behind]: copy/ is behind" in said.err, said
    assert len(list((project.root / ".albor/attempts/words").glob("*-*"))) == 2


@pytest.mark.parametrize(
    ("fields", "word", "seen"),
    [
        ("addr: lambda", "1 adopted", "1 to re-run"),
        ("addr: localhost, workdir: ~/albor/tale", "1 adopted", "Nothing to do"),
        ("addr: localhost", "1 done", "1 to re-run"),
    ],
)
def test_a_clone_on_the_machine_itself_goes_on_there(
    project: Project, network: Network, monkeypatch: pytest.MonkeyPatch, fields: str, word: str, seen: str
) -> None:
    """The controller moves to lambda, as docs/machines.md has it, and in the two ways that it advises against."""
    box = network.add("lambda")
    train = "train: {type: task, machine: lambda, command: cp words.txt model.txt, inputs: [words.txt], outputs: [model.txt]}"
    project.file("words.txt", "one\n").manifest(train, "machines:\n  lambda: {addr: lambda}\n").does("apply")
    clone = Project(box.home / "clone")
    shutil.copytree(project.root, clone.root, ignore=shutil.ignore_patterns("state"))
    monkeypatch.setenv("HOME", str(box.home))
    monkeypatch.chdir(clone.root)
    said = clone.edit("addr: lambda", fields).run("apply")
    assert said.exit == 0 and f"Done: {word}." in said.out, said
    assert seen in clone.file("words.txt", "two\n").run("plan").out
    if fields == "addr: lambda":
        clone.does("apply").says("apply", out="Nothing to do: 1 unchanged.")
        assert there(box, "model.txt").read_text() == "two\n"


@pytest.fixture
def orphan(project: Project, network: Network) -> Box:
    """A machine on which `train` runs, begun by a controller that is gone with its state; the next one began while the machine was off."""
    box = network.add("lambda")
    process = project.manifest(TRAIN, ON_LAMBDA).start("apply")
    project.wait(there(box, "starts").exists)
    process.kill()
    project.end(process)
    shutil.rmtree(project.root / "state")
    box.stop()
    assert project.run("apply").exit == 6
    box.start()
    return box


def test_what_runs_is_attached_by_a_state_that_was_begun_while_its_machine_was_off(project: Project, orphan: Box) -> None:
    assert "! train  task  lambda  attach  running since DAY TIME" in project.run("plan").out
    second = project.start("apply")
    assert second.stderr is not None and any("  attached " in line for line in second.stderr)
    second.kill()
    project.end(second)
    third = project.start("apply")
    assert third.stderr is not None and any("  attached " in line for line in third.stderr)
    put(orphan, "go", "")
    assert third.wait() == 0
    assert there(orphan, "starts").read_text() == "start\n"
    project.says("apply", out="Nothing to do: 1 unchanged.").does("audit")


def test_what_ended_meanwhile_is_adopted_by_a_state_that_was_begun_while_its_machine_was_off(project: Project, orphan: Box) -> None:
    put(orphan, "go", "")
    project.wait(lambda: list(there(orphan).glob(".albor/attempts/train/*/exit")))
    assert "Done: 1 adopted." in project.run("apply").out
    assert there(orphan, "starts").read_text() == "start\n"
    project.says("apply", out="Nothing to do: 1 unchanged.")


def test_what_runs_with_other_settings_is_a_conflict_that_cancel_or_replace_ends(project: Project, orphan: Box) -> None:
    project.edit("echo A >", "echo B >")
    said = project.run("apply")
    assert said.exit == 1 and "  conflict   command " in said.err, said
    assert "echo B > model.txt is wanted: `cancel train` or `apply --replace train`" in said.err
    put(orphan, "later", "")
    project.edit("test -e go", "test -e later").says("cancel", "train", out="train@lambda: attempt 1 ended (cancelled).")
    assert "Done: 1 done." in project.run("apply").out
    assert there(orphan, "starts").read_text() == "start\n" * 2 and there(orphan, "model.txt").read_text() == "B\n"


def test_what_began_since_the_plan_under_another_state_is_not_begun_again(
    project: Project, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both saw an idle machine; the other one, which has a state of its own, was first to start."""
    box = network.add("lambda")
    project.manifest(TRAIN, ON_LAMBDA)
    take = leases.take

    def late(*args: Any) -> Any:
        project.start("apply", "--state-dir", "other")
        project.wait(there(box, "starts").exists)
        put(box, "go", "")
        return take(*args)

    monkeypatch.setattr(leases, "take", late)
    said = project.run("apply")
    assert said.exit == 0 and "did not start" not in said.err, said
    assert there(box, "starts").read_text() == "start\n"


@pytest.mark.parametrize("clone", [False, True])
def test_finished_work_on_machines_is_adopted_and_stored_outputs_are_put_back(
    project: Project, network: Network, monkeypatch: pytest.MonkeyPatch, clone: bool
) -> None:
    """The state folder is gone, or the project was cloned and the command typed there."""
    boxes = [network.add("lambda", machine_id="1" * 32), network.add("intel", machine_id="2" * 32)]
    project.manifest(PAIR, ON_BOTH).does("apply")
    there(boxes[1], "used.txt").unlink()
    if clone:
        project = Project(project.root.parent / "clone").manifest(PAIR, ON_BOTH)
        monkeypatch.chdir(project.root)
    else:
        shutil.rmtree(project.root / "state")
    said = project.run("apply")
    assert said.exit == 0 and "Done: 1 restored, 1 adopted." in said.out, said
    assert [there(box, "starts").read_text() for box in boxes] == ["make\n", "use\n"]
    assert there(boxes[1], "used.txt").read_text() == "one\none\n"
    project.says("apply", out="Nothing to do: 2 unchanged.").does("audit")


def test_two_pipelines_in_one_folder_may_have_tasks_of_one_name(project: Project) -> None:
    """The second, whose state is new, took the first one's history for its own that was lost, and left the first one behind."""
    for name in ("one", "two"):
        command = f"echo start >> starts; echo {name} > {name}.txt"
        project.file(f"manifests/{name}.yaml", f"""\
version: "1.0"
name: {name}
resources:
  train: {{type: task, command: "{command}", outputs: [{name}.txt]}}
""")
    for name in ("one", "two"):
        assert "Done: 1 done." in project.run("apply", f"manifests/{name}.yaml", "--state-dir", f"state-{name}").out
    for name in ("one", "two"):
        project.says("apply", f"manifests/{name}.yaml", "--state-dir", f"state-{name}", out="Nothing to do: 1 unchanged.")
        project.does("audit", f"manifests/{name}.yaml", "--state-dir", f"state-{name}")
        shutil.rmtree(project.root / f"state-{name}")
        assert "Done: 1 adopted." in project.run("apply", f"manifests/{name}.yaml", "--state-dir", f"state-{name}").out
    project.holds("starts", "start\n" * 2)
