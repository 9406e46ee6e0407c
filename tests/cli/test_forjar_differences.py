"""Where a run of a manifest of forjar ends otherwise here, and no other test says so: each behind a line of docs/forjar.md."""

from __future__ import annotations

from cli.builder import Project


def test_a_deleted_output_is_made_again(project: Project) -> None:
    project.chain().does("apply")
    (project.root / "count.txt").unlink()
    steps = {step["resource_id"]: step["action"] for step in project.json("plan")["steps"]}
    assert steps["words"] == "skip" and steps["count"] != "skip"
    project.does("apply").holds("count.txt", "2\n")


def test_a_file_may_lie_in_the_project_and_holds_the_bytes_of_its_content(project: Project) -> None:
    project.manifest('it: {type: file, path: conf/a.txt, content: "a\\nEOF\\nFORJAR_EOF\\nb"}').does("apply")
    project.holds("conf/a.txt", "a\nEOF\nFORJAR_EOF\nb")


def test_the_bytes_of_a_source_count_and_not_only_its_path(project: Project) -> None:
    project.file("a.txt", "one\n").manifest("it: {type: file, path: b.txt, source: a.txt}").does("apply")
    project.file("a.txt", "two\n")
    assert [step["action"] for step in project.json("plan")["steps"]] == ["update"]
    project.does("apply").holds("b.txt", "two\n")


def test_only_the_file_that_drifted_is_repaired(project: Project) -> None:
    project.manifest("a: {type: file, path: a.txt, content: one}\nb: {type: file, path: b.txt, content: two}").does("apply")
    project.file("a.txt", "changed")
    assert {step["resource_id"]: step["action"] for step in project.json("plan")["steps"]} == {"a": "update", "b": "skip"}
    assert project.run("apply").exit == 1
    project.holds("a.txt", "changed").does("apply", "--yes").holds("a.txt", "one")


def test_a_notice_is_told_of_failures_and_takes_templates(project: Project) -> None:
    told = "printf %s '{{machine}} {{ converged }} {{unchanged}} {{failed}} {{params.a}} {{{{failed}}' > told.txt"
    hooks = f'policy: {{failure: continue_independent, notify: {{on_failure: "{told}"}}}}\nparams: {{a: 1}}\n'
    tasks = 'good: {type: task, command: "true"}\nbad: {type: task, command: "false"}'
    project.manifest(tasks, hooks).run("apply")
    project.holds("told.txt", "localhost 1 0 1 1 {{failed}}")


def test_hooks_of_the_policy_take_templates_and_know_no_others(project: Project) -> None:
    hooks = "policy: {pre_apply: 'echo before {{params.who}} >> told', post_apply: 'echo {{upper(params.who)}} >> told'}\n"
    project.manifest("good: {type: task, command: 'true'}", f"{hooks}params: {{who: ann}}\n").does("apply")
    project.holds("told", "before ann\nANN\n")
    project.edit("{{params.who}}", "{{params.whom}}")
    said = project.run("validate")
    assert said.exit == 1 and "there is no param `whom`" in said.err and "did you mean `who`?" in said.err, said
    project.edit("{{params.whom}}", "{{failed}}").edit("post_apply: '", "notify: {on_drift: 'echo {{failed}}'}, post_apply: '")
    said = project.run("plan")
    assert said.exit == 1 and "`failed` names nothing" in said.err and "this notice is told: machine, drift_count" in said.err, said
    project.edit("{{failed}} >>", "{{secrets.token}} >>")
    said = project.run("plan")
    assert said.exit == 1 and "the secret `token` cannot stand here" in said.err, said


def test_a_task_waits_for_what_it_depends_on_though_that_is_on_another_machine(project: Project) -> None:
    head = "machines: {a: {addr: localhost, workdir: on-a}, b: {addr: localhost, workdir: on-b}}\n"
    project.file("on-a/seed", "s\n").file("on-b/seed", "s\n").manifest(
        """
        second: {type: task, machine: a, command: "cat ../on-b/made > seen", inputs: [seed], outputs: [seen], depends_on: [first]}
        first: {type: task, machine: b, command: "sleep 0.3; echo it > made", inputs: [seed], outputs: [made]}
        """,
        head,
    )
    project.does("apply").holds("on-a/seen", "it\n")


def test_what_lies_on_another_machine_orders_and_counts_and_is_moved_where_it_is_read(project: Project) -> None:
    head = "machines: {a: {addr: localhost, workdir: on-a}, b: {addr: localhost, workdir: on-b}}\n"
    first = 'first: {type: task, machine: b, command: "echo it > made", outputs: [made]}\n'
    second = "second: {type: task, machine: a, command: 'cat ../on-b/made > seen', outputs: [seen], depends_on: [first]}\n"
    project.manifest(first + second, head).does("apply").holds("on-a/seen", "it\n")
    project.manifest(first.replace("echo it", "echo other") + second, head).does("apply").holds("on-a/seen", "other\n")
    project.manifest(first + second.replace("depends_on", "inputs").replace("../on-b/made", "made"), head).does("apply")
    project.holds("on-a/made", "it\n").holds("on-a/seen", "it\n")


def test_verbs_and_flags_that_are_not_here_are_refused_by_name(project: Project) -> None:
    project.manifest("a: {type: file, path: x, content: y}")
    for argv in (("plan", "--out", "x"), ("apply", "--plan-file", "x"), ("retry-failed",), ("agent", "--auto-apply"), ("run", "a")):
        said = project.run(*argv)
        assert said.exit == 64 and next(word for word in argv if word not in ("plan", "apply")) in said.err, said
    project.holds("x", None)


def test_an_import_needs_a_manifest_that_a_plan_can_be_made_of(project: Project) -> None:
    project.manifest("t: {type: pepita, name: jail}").file("old/localhost/state.lock.yaml", """
        schema: "1.0"
        machine: localhost
        resources:
          t: {type: pepita, status: converged, hash: "blake3:00"}
    """)  # fmt: skip
    said = project.run("state", "import", "old")
    assert (said.exit, said.out) == (1, "")
    assert said.err.startswith("error[not-supported]: type `pepita` is read and never brought about here\n")
