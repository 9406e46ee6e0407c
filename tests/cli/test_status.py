"""`status` shows every resource from the state alone, failed ones with their log, running ones with what they wait for."""

from __future__ import annotations

from cli.builder import Project


def test_before_the_first_run_everything_is_pending(project: Project) -> None:
    project.chain().says("status", out="""
        tale: never applied

          machine    resource  type  state    since  note
          localhost  words     task  pending  -
          localhost  count     task  pending  -      waits for words

        2 resources: 0 converged, 0 failed, 2 pending, 0 running, 0 interrupted.
    """)


def test_after_a_run_outputs_are_counted(project: Project) -> None:
    project.chain().does("apply")
    project.says("status", out="""
        tale: run 0001 of DAY TIME UTC

          machine    resource  type  state      since        note
          localhost  words     task  converged  DAY TIME  1 output, 8 B
          localhost  count     task  converged  DAY TIME  1 output, 2 B

        2 resources: 2 converged, 0 failed, 0 pending, 0 running, 0 interrupted.
    """)


def test_a_failure_shows_its_cause_and_its_log(project: Project) -> None:
    project.chain().edit("wc -l < words.txt > count.txt", "echo oh; exit 7").run("apply")
    said = project.run("status")
    assert "failed     DAY TIME  exit 7, state/runs/0001/count@localhost.1.log" in said.out
    assert "2 resources: 1 converged, 1 failed, 0 pending, 0 running, 0 interrupted." in said.out


def test_a_running_task_is_shown_without_the_lock(project: Project) -> None:
    process = project.slow().start("apply")
    project.wait_for("begun")
    said = project.run("status")
    assert (said.exit, said.err) == (0, "")
    assert "running  DAY TIME  attempt 1" in said.out
    project.does("cancel", "slow").end(process)


def test_json_has_a_row_for_each_resource(project: Project) -> None:
    document = project.chain().does("apply").json("status")
    assert document["counts"] == {"converged": 2}
    assert [(row["resource_id"], row["status"], row["run"], row["origin"]) for row in document["resources"]] == [
        ("words", "converged", "0001", "made"),
        ("count", "converged", "0001", "made"),
    ]


def test_only_one_machine_when_asked(project: Project) -> None:
    said = project.chain().run("status", "--machine", "elsewhere")
    assert "words" not in said.out
