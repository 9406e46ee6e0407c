"""`history` and `audit` read the journal: what happened, whether it is unchanged, whether it is whole."""

from __future__ import annotations

import shutil

from cli.builder import Project


def test_history_tells_every_transition(project: Project) -> None:
    project.chain().does("apply").says("history", out="""
          1  DAY TIME  0001                   run-started
          2  DAY TIME  0001  localhost        machine-bound
          3  DAY TIME  0001  words@localhost  starting       new
          4  DAY TIME  0001  words@localhost  done
          5  DAY TIME  0001  count@localhost  starting       new
          6  DAY TIME  0001  count@localhost  done
          7  DAY TIME  0001                   run-ended
    """)


def test_history_of_one_task(project: Project) -> None:
    document = project.chain().does("apply").json("history", "--task", "count")
    assert [event["what"] for event in document["events"]] == ["starting", "done"]


def test_history_before_anything_happened(project: Project) -> None:
    project.chain().says("history", out="Nothing has happened yet.")


def test_a_whole_journal(project: Project) -> None:
    project.chain().does("apply").says("audit", out="""
        7 records, head HEX
        integrity: every record is as it was written
        completeness: nothing is missing that a machine remembers
    """)


def test_a_changed_record_is_an_integrity_fault(project: Project) -> None:
    project.chain().does("apply").edit('"what":"run-started"', '"what":"run-stopped"', "state/journal/0001.jsonl")
    said = project.run("audit")
    assert said.exit == 1
    assert "journal/0001.jsonl: line 1 was changed" in said.out


def test_a_lost_tail_is_a_completeness_fault(project: Project) -> None:
    project.chain().does("apply")
    shutil.copytree(project.root / "state", project.root / "old")
    project.edit("wc -l", "wc -c").does("apply")
    shutil.rmtree(project.root / "state")
    (project.root / "old").rename(project.root / "state")
    document = project.json("audit", exit=1)
    assert document["integrity"] == [] and document["completeness"]
