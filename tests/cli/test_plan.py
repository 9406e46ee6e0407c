"""`plan` says what would happen and why, changes nothing, and its exit code can tell."""

from __future__ import annotations

from cli.builder import Project


def test_a_first_plan_runs_everything_and_writes_no_state(project: Project) -> None:
    project.chain().says("plan", out="""
        tale: 2 resources on 1 machine, no state yet

          + words  task  localhost  run  new
          + count  task  localhost  run  new

        Plan: 2 to run.
        Nothing was changed. To do this: albor-pipeline apply manifests/albor.yaml
    """)
    project.holds("state", None).holds("words.txt", None)


def test_a_target_brings_what_it_needs_and_no_more(project: Project) -> None:
    project.chain().says("plan", "--target", "words", out="""
        tale: 1 resource on 1 machine, no state yet

          + words  task  localhost  run  new

        Plan: 1 to run.
        Nothing was changed. To do this: albor-pipeline apply manifests/albor.yaml --target words
    """)


def test_after_apply_there_is_nothing_to_do(project: Project) -> None:
    project.chain().does("apply")
    project.says("plan", out="""
        tale: 2 resources on 1 machine, state of run 0001 (DAY TIME UTC)

        Nothing to do: 2 unchanged.
    """)
    project.says("plan", "--all", "--detailed-exitcode", out="""
        tale: 2 resources on 1 machine, state of run 0001 (DAY TIME UTC)

            words  task  localhost  unchanged  unchanged
            count  task  localhost  unchanged  unchanged

        Nothing to do: 2 unchanged.
    """)


def test_a_changed_command_is_named_and_what_follows_may_run(project: Project) -> None:
    project.chain().does("apply")
    project.edit("sort in.txt", "cat in.txt").says("plan", "--detailed-exitcode", exit=2, out="""
        tale: 2 resources on 1 machine, state of run 0001 (DAY TIME UTC)

          ~ words  task  localhost  re-run   command changed: sort -> cat
          ? count  task  localhost  may run  if words changes

        Plan: 1 to re-run, up to 1 more.
        Longest chain: words > count, about 0.0 s by earlier runs or estimates.
        Nothing was changed. To do this: albor-pipeline apply manifests/albor.yaml
    """)


def test_a_changed_input_file_is_named(project: Project) -> None:
    project.chain().does("apply")
    project.file("in.txt", "three\n").says("plan", out="""
        tale: 2 resources on 1 machine, state of run 0001 (DAY TIME UTC)

          ~ words  task  localhost  re-run   input in.txt changed
          ? count  task  localhost  may run  if words changes

        Plan: 1 to re-run, up to 1 more.
        Longest chain: words > count, about 0.0 s by earlier runs or estimates.
        Nothing was changed. To do this: albor-pipeline apply manifests/albor.yaml
    """)


def test_a_command_without_inputs_is_warned_about(project: Project) -> None:
    said = project.manifest('alone:\n  type: task\n  command: "true"').run("plan")
    assert said.exit == 0
    assert said.err == (
        "warning[only-text]: only the command text is watched: alone\n"
        "  = declare `inputs`, or name a project script in the command\n"
    )  # fmt: skip


def test_json_has_the_same_steps(project: Project) -> None:
    document = project.chain().json("plan")
    assert document["execution_order"] == ["words@localhost", "count@localhost"]
    assert [(step["action"], step["reason"]["text"]) for step in document["steps"]] == [("run", "new"), ("run", "new")]
    assert (document["to_create"], document["to_update"], document["unchanged"]) == (2, 0, 0)


def test_an_unknown_target_gets_the_closest_name(project: Project) -> None:
    project.chain().says("plan", "--target", "word", exit=1, err="""
        error[unknown-resource]: there is no resource `word` in manifests/albor.yaml
          = did you mean `words`?
    """)


def test_an_unknown_machine_is_refused(project: Project) -> None:
    project.chain().says("plan", "--machine", "mars", exit=1, err="""
        error[unknown-machine]: there is no machine `mars` in manifests/albor.yaml
    """)


def test_a_state_of_another_pipeline_is_refused(project: Project) -> None:
    project.chain().does("apply")
    project.edit("name: tale", "name: other").says("plan", exit=1, err="""
        error[other-pipeline]: state/ holds the state of pipeline `tale`, not of `other`
          = give this pipeline another state folder with --state-dir
          = if it was renamed, set `name: tale` back, or move state/ away and let plan adopt what is there
    """)
