"""`moved`, `checks` and `outputs`: what a rename keeps, what is asked when all is done, what is published and when."""

from __future__ import annotations

import json

from cli.builder import CHAIN, Project

MOVED = "\nmoved: [{from: words, to: sorted}]\n"
OK = "\nchecks:\n  there: {command: test -e count.txt, description: it was made}\n  none: {command: exit 3, expect_exit: 3}\n"


def renamed(project: Project, head: str) -> Project:
    return project.manifest(CHAIN.replace("words:", "sorted:").replace("[words]", "[sorted]"), head)


def test_a_moved_resource_keeps_its_result(project: Project) -> None:
    project.chain().does("apply")
    actions = {step["resource_id"]: step["action"] for step in renamed(project, "").json("plan")["steps"]}
    assert actions["words"] == "forget" and actions["sorted"] != "skip"
    renamed(project, MOVED)
    for _ in range(2):
        assert [step["action"] for step in project.json("plan")["steps"]] == ["skip", "skip"]
    assert "sorted" in project.run("status").out and "words " not in project.run("status").out
    project.does("apply")
    events = [(event["what"], event.get("resource")) for event in project.json("history")["events"]]
    assert events[-2:] == [("moved", "sorted"), ("forgotten", "words")]
    renamed(project, "")
    assert [step["action"] for step in project.json("plan")["steps"]] == ["skip", "skip"]


def test_a_moved_machine_keeps_all_its_results(project: Project) -> None:
    project.file("in.txt", "b\na\n")
    on = CHAIN.replace("type: task", "type: task\n  machine: MACHINE")
    project.manifest(on.replace("MACHINE", "old"), "\nmachines: {old: {addr: localhost}}\n").does("apply")
    head = "\nmachines: {new: {addr: localhost}}\n"
    project.manifest(on.replace("MACHINE", "new"), f"{head}moved: [{{from: old, to: new}}]\n")
    assert [step["action"] for step in project.json("plan")["steps"]] == ["skip", "skip"]
    project.does("apply").does("drift").manifest(on.replace("MACHINE", "new"), head)
    assert [step["action"] for step in project.json("plan")["steps"]] == ["skip", "skip"]


def test_checks_run_after_success_and_only_warn(project: Project) -> None:
    project.file("in.txt", "x\n").manifest(CHAIN, OK)
    said = project.run("apply")
    assert said.exit == 0
    assert "check there on localhost: ok (it was made)" in said.err and "check none on localhost: ok" in said.err
    project.edit("expect_exit: 3", "expect_exit: 4").edit("sort in.txt", "sort -r in.txt")
    said = project.run("apply")
    assert said.exit == 0 and "warning: check none on localhost: exit 3, 4 wanted" in said.err


def test_the_report_holds_what_the_checks_found(project: Project) -> None:
    project.file("in.txt", "x\n").manifest(CHAIN, OK.replace("exit 3", "echo why >&2; exit 1"))
    document = json.loads(project.run("apply", "--json").out)
    assert document["checks"] == {"there": "ok", "none": "exit 1, 3 wanted: why"}


def test_what_a_failed_check_printed_is_kept_whole(project: Project) -> None:
    project.file("in.txt", "x\n").manifest(CHAIN, OK.replace("exit 3", "echo first; echo why >&2; exit 1"))
    said = project.run("apply")
    assert "check none on localhost: exit 1, 3 wanted: why, log: state/runs/0001/check:none.log" in said.err
    project.holds("state/runs/0001/check:none.log", "first\nwhy\n").holds("state/runs/0001/check:there.log", None)


def test_after_a_failure_nothing_is_checked_and_nothing_published(project: Project) -> None:
    head = f"{OK}outputs: {{port: {{value: 1}}}}\n"
    project.file("in.txt", "x\n").manifest(CHAIN, head).does("apply")
    project.edit("value: 1", "value: 2").edit("sort in.txt", "false")
    said = project.run("apply")
    assert said.exit == 3 and "check there" not in said.err
    lock = (project.root / "state/albor.lock.yaml").read_text()
    assert '"outputs":{"port":"1"}' in lock
