"""`accept` takes existing outputs for a changed declaration; it is journaled and shown, and refused when there is nothing to take."""

from __future__ import annotations

from cli.builder import Project


def test_an_accepted_task_does_not_run_for_this_change(project: Project) -> None:
    project.chain().does("apply").edit("wc -l", "wc -c")
    project.says("accept", "count", out="count@localhost: accepted as it is; it will not run for this change.")
    project.says("apply", out="Nothing to do: 2 unchanged.").holds("count.txt", "2\n")
    assert "done in run 0001 (accepted)" in project.run("why", "count").out
    assert "accepted       was: command changed: -l -> -c" in project.run("history").out


def test_the_next_change_runs_it_again(project: Project) -> None:
    project.chain().does("apply").edit("wc -l", "wc -c").does("accept", "count").edit("wc -c", "wc -w").does("apply")
    project.holds("count.txt", "2\n").says("apply", out="Nothing to do: 2 unchanged.")


def test_an_output_that_is_not_there_cannot_be_accepted(project: Project) -> None:
    project.chain().says("accept", "words", exit=1, err="error[accept]: the output words.txt of `words` does not exist")


def test_a_task_whose_input_is_not_known_yet_cannot_be_accepted(project: Project) -> None:
    project.chain().says("accept", "count", exit=1, err="""
        error[accept]: an input of `count` is not known yet
          = apply what it needs first
    """)
