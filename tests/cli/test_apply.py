"""`apply` does what the plan says, in order, once; it stops at a failure, asks before it overwrites, and goes on where it was."""

from __future__ import annotations

import pytest

from albor_pipeline.agent.hashing import digest_bytes
from cli.builder import Project

FAILS = """
bad:
  type: task
  command: echo one; echo two >&2; exit 3
  inputs: [in.txt]
after:
  type: task
  command: "true"
  inputs: [in.txt]
  depends_on: [bad]
other:
  type: task
  command: "true"
  inputs: [in.txt]
  depends_on: [free]
free:
  type: task
  command: sleep 0.3
  inputs: [in.txt]
"""
TWO, MINE = b"2\n", b"mine\n"
RUN_1 = """
    run 0001: up to 2 to do, 0 unchanged, 1 machine (log: state/runs/0001/)
    HH:MM:SS  localhost  words  running
    HH:MM:SS  localhost  words  done       0.0 s    words.txt  8 B  blake3:d04917cc
    HH:MM:SS  localhost  count  running
    HH:MM:SS  localhost  count  done       0.0 s    count.txt  2 B  blake3:7fedb7dc
"""


def test_a_first_apply_runs_all_and_the_second_nothing(project: Project) -> None:
    project.chain().says("apply", err=RUN_1, out="""

        Done: 2 done.

          task   artifact   files   size  digest
          words  words.txt  1 file  8 B   blake3:d04917cc
          count  count.txt  1 file  2 B   blake3:7fedb7dc
        To see it: albor-pipeline status manifests/albor.yaml
    """)
    project.holds("words.txt", "one\ntwo\n").holds("count.txt", "2\n")
    project.says("apply", out="Nothing to do: 2 unchanged.")


def test_equal_bytes_cut_the_chain_short(project: Project) -> None:
    """The changed command makes the same words, so nothing that reads them runs."""
    project.chain().does("apply")
    project.edit("sort in.txt", "sort -s in.txt")
    said = project.run("apply")
    assert "count" not in said.err
    assert "Done: 1 done, 1 unchanged." in said.out


def test_a_failure_stops_the_run_and_the_same_command_goes_on(project: Project) -> None:
    project.file("in.txt", "x\n").manifest(FAILS)
    said = project.run("apply")
    assert said.exit == 3
    assert said.out == (
        "\nStopped at the first failure: 1 done, 1 failed, 2 not started.\n"
        "State is saved. Fix the cause and run the same command; finished work is not repeated.\n"
    )
    assert """\
HH:MM:SS  localhost  bad    FAILED     0.0 s    exit 3
            | one
            | two
            | log: state/runs/0001/bad@localhost.1.log
""" in said.err
    project.holds("state/runs/0001/bad@localhost.1.log", "one\ntwo\n")
    project.edit("exit 3", "exit 0")
    again = project.run("apply")
    assert again.exit == 0
    assert "Done: 3 done, 1 unchanged." in again.out


def test_keep_going_runs_what_does_not_depend_on_the_failure(project: Project) -> None:
    said = project.file("in.txt", "x\n").manifest(FAILS).run("apply", "--keep-going")
    assert said.exit == 3
    assert "Finished with failures: 2 done, 1 failed, 1 not started." in said.out


def test_bytes_that_nobody_recorded_are_not_overwritten_without_a_yes(project: Project) -> None:
    project.chain().does("apply")
    what = f"output count.txt modified: recorded blake3:{digest_bytes(TWO)[:8]}, found blake3:{digest_bytes(MINE)[:8]}"
    project.file("count.txt", "mine\n").says("apply", exit=1, err=f"""
        error[needs-yes]: this would overwrite or destroy what is there: count@localhost: {what}
          = without a terminal that needs --yes; task outputs are kept aside in .albor/kept/ first
    """)
    project.holds("count.txt", "mine\n")


def test_no_is_the_answer_that_a_bare_return_gives(project: Project) -> None:
    project.chain().does("apply")
    said = project.file("count.txt", "mine\n").run("apply", answer="")
    assert said.exit == 1
    assert said.err.endswith("Go on? [y/N] error[declined]: nothing was changed\n")
    project.holds("count.txt", "mine\n")


@pytest.mark.parametrize("way", ["--yes", "answer"])
def test_overwritten_bytes_are_kept_aside(project: Project, way: str) -> None:
    project.chain().does("apply")
    project.file("count.txt", "mine\n")
    said = project.run("apply", "--yes") if way == "--yes" else project.run("apply", answer="y")
    assert said.exit == 0
    project.holds("count.txt", "2\n")
    kept = [path for path in (project.root / ".albor/kept").rglob("*") if path.is_file()]
    assert [path.read_text() for path in kept] == ["mine\n"]


def test_a_missing_output_fails_the_task(project: Project) -> None:
    said = project.chain().edit("> count.txt", "> other.txt").run("apply")
    assert said.exit == 3
    assert "declared output count.txt is missing" in said.err


def test_force_runs_the_target_again_and_only_it(project: Project) -> None:
    project.chain().does("apply")
    said = project.run("apply", "--force", "--target", "words")
    assert said.exit == 0
    assert "words  running    --force" in said.err
    assert "count" not in said.err


def test_a_held_state_names_its_holder(project: Project) -> None:
    process = project.slow().start("apply")
    project.wait_for("begun").says("apply", exit=5, err="""
        error[locked]: state/ is in use by run 0001 (pid 1 on HOST, since HH:MM:SS)
          = wait for it, or look at it with `albor-pipeline status`, which needs no lock
    """)
    project.does("cancel", "slow").end(process)


def test_what_is_no_longer_declared_is_forgotten_and_its_files_stay(project: Project) -> None:
    project.chain().does("apply")
    text = (project.root / "manifests/albor.yaml").read_text()
    project.file("manifests/albor.yaml", text[: text.index("  count:")])
    said = project.run("apply")
    assert said.exit == 0
    assert "count  forgotten" in said.err and "Done: 1 forgotten, 1 unchanged." in said.out
    project.holds("count.txt", "2\n")


def test_a_run_folder_keeps_the_plan_and_the_report(project: Project) -> None:
    project.chain().does("apply")
    names = sorted(path.name for path in (project.root / "state/runs/0001").iterdir())
    assert names == ["plan.json", "report.json"]


def test_json_names_every_artifact(project: Project) -> None:
    document = project.chain().json("apply")
    assert document["counts"] == {"done": 2}
    assert [(item["path"], item["size_bytes"]) for item in document["artifacts"]] == [("words.txt", 8), ("count.txt", 2)]


def test_max_parallel_must_be_a_number_from_one(project: Project) -> None:
    project.chain().says("apply", "--max-parallel", "0", exit=64, err="error[usage]: --max-parallel takes a number from 1")

