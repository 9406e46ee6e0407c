"""What one task makes and another reads, however the path is written: judged when it is there, and settled by one run."""

from __future__ import annotations

import pytest
from support_run import Project, task


@pytest.mark.slow
@pytest.mark.parametrize(
    ("output", "reads"),
    [
        ("data", "data"), ("data/", "./data"), ("data", "data/x"), ("data/x", "data"), ("data/x", "'data/*'"), ("'data/*'", "data/x"),
        ("'data/*'", "'data/x*'"),
    ],
)  # fmt: skip
def test_one_apply_settles_a_chain_and_a_change_above_reaches_its_end(project: Project, output: str, reads: str) -> None:
    def chain(word: str) -> None:
        project.manifest(
            task("make", f"mkdir -p data; echo {word} > data/x", f"outputs: [{output}]"),
            task("use", "cat data/x > used.txt", f"inputs: [{reads}]", "outputs: [used.txt]", "depends_on: [make]"),
        )

    chain("one")
    assert project.run("apply").code == 0
    assert project.run("apply").out == "Nothing to do: 2 unchanged.\n"
    chain("two")
    assert project.actions()["use"] == ("may_run", "if make changes")
    assert project.run("apply").code == 0
    assert project.run("apply").out == "Nothing to do: 2 unchanged.\n"
    assert (project.root / "used.txt").read_text() == "two\n"


def test_a_named_input_that_is_not_there_is_refused_until_it_is(project: Project) -> None:
    project.manifest(task("use", "cat raw.txt > out.txt", "inputs: [raw.txt]", "outputs: [out.txt]"))
    said = project.run("apply")
    assert said.code == 1
    assert "error[missing-input]: `use` reads `raw.txt`, which is not there and which nothing makes" in said.err
    assert not (project.root / "out.txt").exists()
    project.file("raw.txt", "raw\n")
    assert project.run("apply").code == 0
    assert (project.root / "out.txt").read_text() == "raw\n"


def test_outside_of_the_pipelines_folders_what_is_not_there_counts_as_missing_until_it_is(project: Project) -> None:
    outside = project.root.parent / f"{project.root.name}-beside.txt"
    command = f"test ! -e {outside} || cat {outside} > out.txt; touch out.txt"
    project.manifest(task("use", command, f"inputs: ['{outside}']", "outputs: [out.txt]"))
    assert project.run("apply").code == 0
    outside.write_text("raw\n")
    assert project.actions()["use"] == ("rerun", f"input {outside} changed")
    assert project.run("apply").code == 0
    assert (project.root / "out.txt").read_text() == "raw\n"


def test_a_volatile_output_must_exist_but_its_bytes_count_for_nothing(project: Project) -> None:
    volatile = "outputs: [{ path: log.txt, volatile: true }]"
    project.manifest(
        task("make", "date +%s%N > log.txt", volatile), task("use", "cp log.txt out.txt", "inputs: [log.txt]", "depends_on: [make]")
    )
    assert project.run("apply").code == 0
    project.file("log.txt", "edited\n")
    assert project.actions()["make"] == ("skip", "unchanged")
    project.manifest(task("make", "true", volatile))
    said = project.run("apply")
    assert said.code == 3 and "log.txt" in said.err


def test_an_input_that_changes_while_the_task_runs_fails_it_by_name(project: Project) -> None:
    project.file("raw.txt", "one\n")
    project.manifest(task("use", "echo two > raw.txt; cp raw.txt out.txt", "inputs: [raw.txt]", "outputs: [out.txt]"))
    said = project.run("apply")
    assert said.code == 3
    assert "raw.txt" in project.row("use")["detail"]
