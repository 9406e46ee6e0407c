"""When state/ is lost or old: plan adopts what the machine proves, wherever the controller is by then; an old copy is refused."""

from __future__ import annotations

import shutil
from typing import Any

import pytest
from sshd import Network

from albor_pipeline.run import leases
from cli.builder import Project, there


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
