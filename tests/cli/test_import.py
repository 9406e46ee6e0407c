"""`state import`: what forjar recorded as converged is not made again; what differs, failed or is gone is said and left to the plan."""

from __future__ import annotations

import pytest

from albor_pipeline.agent.hashing import digest_bytes
from cli.builder import Project

MANIFEST = """
words:
  type: task
  command: sort in.txt > words.txt
  inputs: [in.txt]
  output_artifacts: [words.txt]
count:
  type: task
  command: wc -l < words.txt > count.txt
  inputs: [words]
  output_artifacts: [count.txt]
folder:
  type: file
  path: made
  state: directory
"""
COMMANDS = {"words": "sort in.txt > words.txt", "count": "wc -l < words.txt > count.txt"}
LOCK = "forjar-state/localhost/state.lock.yaml"


def row(name: str, kind: str = "task", status: str = "converged", command: str = "", digest: str = "") -> str:
    legacy = digest or digest_bytes(f"task\0{command or COMMANDS.get(name, '')}".encode())
    return (
        f"  {name}:\n    type: {kind}\n    status: {status}\n    applied_at: '2026-03-01T09:02:11Z'\n"
        f"    duration_seconds: 1.5\n    hash: blake3:{legacy}\n    details: {{}}\n"
    )  # fmt: skip


def lock(*rows: str, machine: str = "localhost", schema: str = "'1.0'") -> str:
    head = f"schema: {schema}\nmachine: {machine}\nhostname: box\ngenerated_at: '2026-03-01T09:02:11Z'\ngenerator: forjar 1.4.2\n"
    return f"{head}blake3_version: '1.8'\nresources:\n{''.join(rows)}"


@pytest.fixture
def converged(project: Project) -> Project:
    """What forjar left: the outputs, the folder, and its lock with the digest beside it."""
    project.file("in.txt", "two\none\n").file("words.txt", "one\ntwo\n").file("count.txt", "2\n").manifest(MANIFEST)
    (project.root / "made").mkdir()
    text = lock(row("words"), row("count"), row("folder", "file", digest="00"))
    return project.file(LOCK, text).file(f"{LOCK}.b3", digest_bytes(text.encode()))


def test_a_converged_machine_is_not_applied_again(converged: Project) -> None:
    converged.says("state", "import", "forjar-state", out="""
          folder@localhost: imported, applied DAY TIME by forjar 1.4.2
          words@localhost: imported, applied DAY TIME by forjar 1.4.2
          count@localhost: imported, applied DAY TIME by forjar 1.4.2
        Imported 3 of 3. To see what is left to do: albor-pipeline plan manifests/albor.yaml
    """)
    converged.says("apply", out="Nothing to do: 3 unchanged.").does("audit")


def test_the_name_that_a_task_may_have_counts_as_it_did_there(project: Project) -> None:
    project.file("in.txt", "a\n").file("o", "").manifest("job: {type: task, name: nightly, command: ls > o, output_artifacts: [o]}")
    project.file(LOCK, lock(row("job", digest=digest_bytes(b"task\0nightly\0ls > o"))))
    assert "Imported 1 of 1." in project.run("state", "import", "forjar-state").out


def test_without_the_import_it_would_be(converged: Project) -> None:
    assert "Plan: 2 to run" in converged.run("plan").out


def test_what_was_imported_reacts_to_changes_as_what_was_made_here(converged: Project) -> None:
    converged.does("state", "import", LOCK).file("in.txt", "three\n")
    assert "input in.txt changed" in converged.run("plan").out


def test_a_lock_is_read_once(converged: Project) -> None:
    converged.does("state", "import", LOCK).edit("wc -l", "wc -c")
    said = converged.run("state", "import", LOCK)
    assert said.out.count("recorded already") == 3 and "Imported 0 of 3." in said.out
    assert "command changed" in converged.run("plan").out


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        (row("words", status="failed", digest="-"), "words@localhost: not imported: forjar recorded it as failed"),
        (row("words", "file"), "words@localhost: not imported: it was a file and is a task"),
        (row("words", command="sort -r in.txt"), "words@localhost: not imported: it is declared otherwise than what forjar applied"),
        (row("count"), "count@localhost: not imported: its input words.txt is not known yet"),
        (row("gone"), "gone@localhost: not declared any more"),
        (row("folder", "task"), "folder@localhost: not imported: it was a task and is a file"),
    ],
)
def test_why_a_row_is_not_taken(converged: Project, rows: str, why: str) -> None:
    converged.file(LOCK, lock(rows))
    (converged.root / f"{LOCK}.b3").unlink()
    said = converged.run("state", "import", LOCK)
    assert said.exit == 0
    assert said.out.splitlines()[0].strip() == why


def test_an_output_that_is_gone_is_made_again(converged: Project) -> None:
    (converged.root / "words.txt").unlink()
    said = converged.run("state", "import", LOCK)
    assert "words@localhost: not imported: its output words.txt is not there" in said.out
    assert "count@localhost: not imported: its input words.txt is not known yet" in said.out
    assert "Plan: 2 to run, 1 unchanged." in converged.run("plan").out


def test_a_file_that_is_not_as_recorded_is_left_to_the_plan(converged: Project) -> None:
    (converged.root / "made").rmdir()
    assert "folder@localhost: not imported: new" in converged.run("state", "import", LOCK).out


@pytest.mark.parametrize(
    ("text", "error", "place"),
    [
        ("", "no-lock]: forjar-state/localhost/state.lock.yaml is no forjar lock: it holds no mapping", ""),
        ("a: b\n", "no-lock]: forjar-state/localhost/state.lock.yaml is no forjar lock", "1:1"),
        (lock(schema="'2.0'"), "no-lock]: forjar-state/localhost/state.lock.yaml is no forjar lock", "1:1"),
        (lock(row("words"), schema="'2.0'"), "lock-newer]: the lock has schema 2.0; only 1.0 can be read", "1:9"),
        (
            lock(row("words"), machine="box"),
            "unknown-machine]: this is the lock of machine `box`, which the manifest does not declare", "2:10",
        ),
        (lock("  words: 3\n"), "no-lock]: `words` must be a mapping, not text", "8:10"),
        ("{", "yaml]: this is not YAML", "1:2"),
        (lock(row("words"), row("words")), "duplicate-key]: `words` is declared twice", "15:3"),
    ],
)  # fmt: skip
def test_a_lock_that_cannot_be_used_is_refused_at_its_place(converged: Project, text: str, error: str, place: str) -> None:
    converged.file(LOCK, text)
    (converged.root / f"{LOCK}.b3").unlink()
    said = converged.run("state", "import", "forjar-state")
    assert (said.exit, said.out) == (1, "")
    assert said.err.startswith(f"error[{error}\n"), said.err
    assert (f"--> {LOCK}:{place}\n" in said.err) if place else ("-->" not in said.err), said.err


def test_a_lock_that_was_edited_is_refused(converged: Project) -> None:
    converged.edit("status: converged\n    applied_at: '2026-03-01T09:02:11Z'\n    duration_seconds: 1.5\n    hash: blake3:00",
                   "status: converged\n    hash: blake3:00", LOCK)  # fmt: skip
    converged.says("state", "import", LOCK, exit=1, err=f"""
        error[lock-changed]: {LOCK} is not as forjar wrote it
          = if that was on purpose, remove {LOCK}.b3
    """)


def test_a_folder_without_a_lock_is_a_sentence(project: Project) -> None:
    project.chain().file("empty/x", "").says("state", "import", "empty", exit=1, err="""
        error[no-lock]: there is no forjar lock in empty
          = its name is state.lock.yaml, one folder for each machine
    """)
    project.says("state", "import", "nowhere.yaml", exit=1, err="error[unreadable]: nowhere.yaml: no such file or directory")


def test_the_folder_of_our_own_state_is_never_read_as_one_of_forjar(project: Project) -> None:
    project.chain().file("state/localhost/state.lock.yaml", lock(row("words")))
    said = project.run("state", "import", "state")
    assert said.exit == 1
    assert "  = move it first: mv state forjar-state\n" in said.err
    project.holds("state/localhost/state.lock.yaml", lock(row("words")))


def test_a_lock_of_another_program_where_ours_would_lie_is_never_written_over(converged: Project) -> None:
    text = lock(row("words"))
    path = converged.file("state/localhost/state.lock.yaml", text).root / "state/localhost/state.lock.yaml"
    done = converged.run("apply", "--yes")
    assert done.exit == 1 and "was written by another program" in done.err and "state import state-forjar" in done.err
    assert path.read_text() == text
