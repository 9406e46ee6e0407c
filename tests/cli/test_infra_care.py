"""Nothing is emptied, overwritten or taken away that is not ours or still needed, whatever was renamed, forced, cut off or failed."""

from __future__ import annotations

import json

import pytest

from cli.builder import Project


def steps(project: Project, *argv: str) -> dict[str, tuple[str, str]]:
    said = project.run("plan", "--json", *argv)
    return {step["resource_id"]: (step["action"], step["reason"]["text"]) for step in json.loads(said.out)["steps"]}


def test_force_and_triggers_do_not_empty_a_file_whose_content_is_not_declared(project: Project) -> None:
    project.file("theirs", "text\n").manifest("""
        conf: {type: file, path: conf, content: one}
        mode: {type: file, path: theirs, mode: "0640", triggers: [conf]}
    """).does("apply").does("apply", "--force").holds("theirs", "text\n")
    project.edit("content: one", "content: two").does("apply").holds("theirs", "text\n").holds("conf", "two")


def test_a_renamed_resource_is_not_pruned_under_its_new_name(project: Project) -> None:
    project.manifest("old: {type: file, path: kept, content: x}").does("apply").manifest("new: {type: file, path: kept, content: x}")
    assert steps(project, "--prune")["old"] == ("forget", "declared as new now")
    project.does("apply", "--prune").holds("kept", "x")


def test_what_goes_waits_for_what_is_made(project: Project) -> None:
    project.manifest("old: {type: file, path: old, content: x}").does("apply")
    project.manifest("new: {type: file, path: new, content: x, pre_apply: exit 1}")
    said = project.run("apply", "--prune", "--yes", "--keep-going")
    assert said.exit == 3, said
    project.holds("old", "x")


@pytest.mark.effect("any.lifecycle")
def test_the_new_one_is_there_before_the_old_one_goes(project: Project) -> None:
    old = "old: {type: file, path: old, content: x}"
    looks = "test -e old && test -e new && touch both"
    first = "lifecycle: {create_before_destroy: true}"
    project.manifest(old).does("apply")
    project.manifest(f"new: {{type: file, path: new, content: x, {first}, post_apply: {looks}}}").does("apply", "--prune", "--yes")
    project.holds("both", "").holds("new", "x").holds("old", None)


def test_another_path_is_another_thing(project: Project) -> None:
    project.file("theirs", "x").manifest("conf: {type: file, path: ours, content: x}").does("apply").edit("path: ours", "path: theirs")
    assert steps(project)["conf"] == ("adopt", "already there; ours stays as it is")
    project.file("theirs", "not ours")
    assert project.run("apply").exit == 1
    project.file("theirs", "x").does("apply")
    assert project.run("destroy", "--yes").exit == 0
    project.holds("theirs", "x").holds("ours", "x")


def test_bytes_that_came_since_the_plan_are_not_overwritten_unasked(project: Project) -> None:
    project.manifest("""
        first: {type: file, path: first, content: x, post_apply: printf theirs > second}
        second: {type: file, path: second, content: ours, depends_on: [first]}
    """)
    said = project.run("apply")
    assert said.exit == 1 and "this would overwrite what is there since the plan was made" in said.err, said
    project.holds("second", "theirs").does("apply", "--yes").holds("second", "ours")


def test_a_trigger_counts_for_what_was_there_already(project: Project) -> None:
    project.file("after", "x").manifest("""
        conf: {type: file, path: conf, content: one}
        after: {type: file, path: after, content: x, triggers: [conf], post_apply: echo ran >> ran}
    """).does("apply").holds("ran", "ran\n").does("apply").holds("ran", "ran\n")


def test_what_failed_after_it_was_made_is_not_taken_for_done(project: Project) -> None:
    project.manifest("conf: {type: file, path: conf, content: one, post_apply: exit 3}")
    for _ in range(2):
        said = project.run("apply")
        assert said.exit == 3 and "post_apply: exit 3" in said.err, said
    project.edit("exit 3", "echo ran >> ran").does("apply").holds("ran", "ran\n")
    (project.root / "conf").chmod(0o600)
    project.edit("content: one", 'content: one, mode: "0644"').edit("echo ran >> ran", "exit 4")
    assert project.run("apply").exit == 3
    assert steps(project)["conf"][0] == "update"


def test_every_trigger_of_several_machines_counts(project: Project) -> None:
    project.manifest("""
        conf: {type: file, machine: [a, b], path: conf, content: one}
        after: {type: file, path: after, content: x, triggers: [conf@a, conf@b]}
    """, "machines: {a: {addr: localhost, workdir: a}, b: {addr: localhost, workdir: b}}\n").does("apply")
    said = json.loads(project.run("plan", "--json").out)
    after = next(step for step in said["steps"] if step["resource_id"] == "after")
    assert after["depends_on"] == ["conf@a", "conf@b"] and sorted(after["fingerprint"]["triggers"]) == ["conf@a", "conf@b"]


def test_what_a_hook_prints_is_masked(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORJAR_SECRET_TOKEN", "hunter2-hunter2")
    project.manifest('conf: {type: file, path: conf, content: "{{secrets.token}}", post_apply: cat conf; exit 1}')
    said = project.run("apply")
    assert said.exit == 3 and "hunter2" not in said.out + said.err, said


def test_destroy_holds_what_a_running_task_needs_and_runs_no_hook(project: Project) -> None:
    project.manifest("""
        data: {type: file, state: directory, path: data}
        work: {type: task, command: touch begun; sleep 60, depends_on: [data]}
    """, "policy: {pre_apply: echo hook >> hooks}\n")
    process = project.start("apply")
    project.wait(lambda: (project.root / "begun").exists())
    process.kill()
    process.communicate()
    said = project.run("destroy", "--yes")
    assert "it is running: `cancel work` first" in said.err and (project.root / "data").exists(), said
    project.holds("hooks", "hook\n").run("cancel", "work")


@pytest.mark.parametrize(("argv", "says"), [
    (("apply", "--prune", "--target", "conf"), "--prune is for the whole manifest"),
    (("provision", "apply"), "needs work@localhost first, which `provision` does not run"),
    (("destroy",), "without a terminal that needs --yes"),
])  # fmt: skip
def test_what_would_do_something_else_than_it_says_is_refused(project: Project, argv: tuple[str, ...], says: str) -> None:
    project.file("in.txt", "x").manifest("""
        conf: {type: file, path: conf, content: x, depends_on: [work]}
        work: {type: task, command: sort in.txt > out.txt, inputs: [in.txt], outputs: [out.txt]}
    """)
    if argv[0] == "destroy":
        project.does("apply", "--target", "work")
    said = project.run(*argv)
    assert said.exit != 0 and says in said.err, said


def test_under_the_policy_fail_a_changed_declaration_is_no_leave_to_mend_drift(project: Project) -> None:
    project.manifest('conf: {type: file, path: conf, content: one, mode: "0640"}', "policy: {drift: fail}\n").does("apply")
    (project.root / "conf").chmod(0o600)
    project.edit("content: one", "content: two")
    assert project.run("apply").exit == 4
    project.holds("conf", "one")
