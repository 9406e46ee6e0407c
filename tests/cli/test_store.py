"""`store` and `state`: what is kept is listed, read again and cleaned; what is in force, new or being read never goes."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from cli.builder import Project

HEAD = "params: { n: 1 }\n"
TASKS = """
make:
  type: task
  command: seq {{params.n}} > out.txt
  outputs: [out.txt]
sum:
  type: task
  command: wc -c < out.txt > sum.txt
  inputs: [make]
  outputs: [sum.txt]
"""


def grown(project: Project, *numbers: int) -> Project:
    """Apply once with each value of n."""
    for n in numbers:
        project.manifest(TASKS, HEAD.replace("1", str(n))).does("apply", "--yes")
    return project


def ids(project: Project, task: str) -> list[tuple[str, str]]:
    """(run, result) of what is kept of a task, oldest first."""
    machine = project.json("store", "show", task)["machines"][0]
    return [(one["run"], one["id"]) for one in machine["results"]]


def objects(project: Project) -> list[Path]:
    return sorted(path for path in (project.root / ".albor/store/objects").rglob("*") if path.is_file())


def test_ls_tells_sizes_ways_and_what_is_in_force(project: Project) -> None:
    said = grown(project, 1, 2).run("store", "ls")
    lines = [re.sub(r"[0-9a-f]{12}", "ID", line) for line in said.out.splitlines()]
    assert re.sub(" +", " ", lines.pop(0)) == " machine task result run made size how"
    assert lines == [
        "  localhost  make  ID  run 0001  DAY TIME  2 B   link",
        "  localhost  make  ID  run 0002  DAY TIME  4 B   link  in force",
        "  localhost  sum   ID  run 0001  DAY TIME  2 B   link",
        "  localhost  sum   ID  run 0002  DAY TIME  2 B   link  in force",
        "",
        "4 results, 10 B.",
    ]


def test_show_tells_what_a_result_was_made_from(project: Project) -> None:
    said = grown(project, 1, 2).run("store", "show", "make")
    assert said.out.count("make on localhost, result ") == 2 and ", in force" in said.out
    assert "    command  seq 2 > out.txt" in said.out and "  out.txt  1 file, 4 B  blake3:" in said.out


def test_gc_keeps_what_is_in_force_and_the_last_runs(project: Project) -> None:
    grown(project, 1, 2, 3, 4, 5)
    before = objects(project)
    said = project.run("store", "gc", "--keep-runs", "2", "--dry-run")
    assert "6 results and " in said.out and " would go" in said.out and objects(project) == before
    project.does("store", "gc", "--keep-runs", "2")
    assert [run for run, _ in ids(project, "make")] == ["0004", "0005"]
    project.does("store", "gc", "--keep-runs", "0")
    assert [run for run, _ in ids(project, "make")] == ["0005"] and len(objects(project)) == 2
    (project.root / "out.txt").unlink()
    project.does("apply").holds("out.txt", "1\n2\n3\n4\n5\n")


def test_gc_keeps_an_old_result_that_was_put_back_in_force(project: Project) -> None:
    grown(project, 1, 2, 3, 1).does("store", "gc", "--keep-runs", "0")
    assert project.holds("out.txt", "1\n").json("store", "ls")["machines"][0]["results"][0]["in_force"]
    (project.root / "out.txt").unlink()
    project.does("apply").holds("out.txt", "1\n")


def test_gc_frees_what_is_no_longer_declared(project: Project) -> None:
    grown(project, 1).manifest(TASKS.partition("sum:")[0], HEAD).does("apply").does("store", "gc", "--keep-runs", "0")
    assert {one["resource"] for one in project.json("store", "ls")["machines"][0]["results"]} == {"make"}


def test_gc_keeps_what_a_running_attempt_reads(project: Project) -> None:
    slow = TASKS + "slow:\n  type: task\n  command: touch begun; sleep 30; cat out.txt\n  inputs: [make]\n"
    project.manifest(slow, HEAD).killed("begun", "apply", "--target", "slow").edit("n: 1", "n: 2")
    project.does("apply", "--target", "make", "--yes").does("store", "gc", "--keep-runs", "0")
    assert [run for run, _ in ids(project, "make")] == ["0001", "0002"]
    project.does("cancel", "slow").wait(lambda: not project.json("ps")["attempts"]).does("store", "gc", "--keep-runs", "0")
    assert [run for run, _ in ids(project, "make")] == ["0002"]


SAVES = """
train:
  type: task
  command: echo {{params.lr}} > $ALBOR_WORK/checkpoint; test {{params.lr}} != 2 || exit 1; echo {{params.lr}} > model.txt
  outputs: [model.txt]
"""


def test_gc_takes_what_finished_attempts_saved_on_their_way_and_not_what_one_goes_on_with(project: Project) -> None:
    """Checkpoints of every learning rate that was tried are most of what fills a disk."""
    head = "params: {{lr: {lr}}}\n"
    for lr in (1, 2, 3):
        project.manifest(SAVES, head.format(lr=lr)).run("apply", "--yes")

    def saved() -> list[str]:
        return sorted(path.read_text().strip() for path in (project.root / ".albor/work/train").glob("*/checkpoint"))

    said = project.run("store", "gc", "--keep-runs", "0", "--dry-run")
    assert "localhost: 2 work folders that no attempt goes on with would go too, 4 B of it." in said.out, said.out
    assert said.out.count("  localhost  .albor/work/train/") == 2 and saved() == ["1", "2", "3"]
    project.does("store", "gc", "--keep-runs", "0")
    assert saved() == ["2"] and "work folder" not in project.run("store", "gc", "--keep-runs", "0").out


def test_gc_keeps_the_work_folder_of_a_running_attempt(project: Project) -> None:
    slow = "slow:\n  type: task\n  command: touch $ALBOR_WORK/saved begun; sleep 30\n"
    project.manifest(slow).killed("begun", "apply").does("store", "gc", "--keep-runs", "0")
    assert list((project.root / ".albor/work/slow").glob("*/saved"))
    project.does("cancel", "slow").wait(lambda: not project.json("ps")["attempts"])


def test_gc_keeps_what_was_made_while_no_controller_was_there_to_record_it(project: Project) -> None:
    slow = "slow:\n  type: task\n  command: touch begun; sleep 1; echo made | tee -a log > out.txt\n  outputs: [out.txt]\n"
    project.manifest(slow).killed("begun", "apply").wait(lambda: not project.json("ps")["attempts"])
    project.does("store", "gc", "--keep-runs", "0").does("apply")
    (project.root / "out.txt").unlink()
    project.does("apply").holds("out.txt", "made\n").holds("log", "made\n")


def test_two_pipelines_run_at_once_while_a_third_sweeps_the_store_that_they_share(project: Project) -> None:
    """Both make the same bytes, each goes forth and back; what one is about to use is never taken away by another."""
    head = 'version: "1.0"\nname: {name}\nresources:\n  {name}:\n    type: task\n    command: '
    work = "mkdir -p {name}; for i in 1 2 3; do echo {n} $i > {name}/$i; done\n    outputs: [{name}]\n"

    def words(verb: str, name: str, *more: str) -> tuple[str, ...]:
        return (*verb.split(), f"manifests/{name}.yaml", "--state-dir", f"state-{name}", *more)

    project.file("manifests/idle.yaml", 'version: "1.0"\nname: idle\nresources: {}\n')
    for n in (1, 2, 1, 2, 1):
        for name in ("one", "two"):
            project.file(f"manifests/{name}.yaml", (head + work).format(name=name, n=n))
        running = [project.start(*words("apply", name, "--yes")) for name in ("one", "two")]
        while any(process.poll() is None for process in running):
            project.does(*words("store gc", "idle", "--keep-runs", "0"))
        for name, process in zip(("one", "two"), running, strict=True):
            said = project.end(process)
            assert said.exit == 0, said
            project.holds(f"{name}/3", f"{n} 3\n")
    for name in ("one", "two"):
        (project.root / name / "2").unlink()
        project.does(*words("apply", name, "--yes")).holds(f"{name}/2", "1 2\n")
        assert project.json(*words("history", name))["events"][-2]["what"] == "restored"
    assert project.json(*words("store verify", "one"))["machines"][0]["corrupt"] == []


def test_two_pipelines_in_one_folder_share_the_store_and_neither_cleans_what_the_other_has_in_force(project: Project) -> None:
    grown(project, 1, 2)
    other = 'version: "1.0"\nname: other\nresources:\n  b:\n    type: task\n    command: seq 2 > b.txt\n    outputs: [b.txt]\n'
    project.file("manifests/other.yaml", other)
    project.does("apply", "manifests/other.yaml", "--state-dir", "other-state")
    project.does("store", "gc", "--keep-runs", "0", "manifests/other.yaml", "--state-dir", "other-state")
    for name in ("out.txt", "sum.txt", "b.txt"):
        (project.root / name).unlink()
    project.does("apply", "manifests/albor.yaml").does("apply", "manifests/other.yaml", "--state-dir", "other-state")
    project.holds("out.txt", "1\n2\n").holds("b.txt", "1\n2\n")
    assert project.json("history", "manifests/albor.yaml")["events"][-2]["what"] == "restored"


def test_verify_names_what_is_corrupt_and_sets_it_aside(project: Project) -> None:
    grown(project, 1, 2)
    path = next(path for path in objects(project) if path.read_text() == "1\n2\n")
    path.chmod(0o644)
    path.write_text("evil")
    said = project.run("store", "verify")
    assert said.exit == 4
    assert f"  corrupt  {path.name}  on localhost; it was set aside and is not used" in said.out
    assert "make of run 0002 can not be restored" in said.out and "localhost: 4 objects, 10 B read, 1 corrupt." in said.out
    project.says("store", "verify", out="localhost: 3 objects, 6 B read, 0 corrupt.")
    assert project.json("plan")["steps"][0]["action"] == "rerun"


def test_state_list_show_mv_and_rm(project: Project) -> None:
    grown(project, 1)
    said = project.run("state", "list")
    assert "  localhost  make      task  run 0001, DAY TIME, made" in said.out and "2 rows, serial " in said.out
    assert project.json("state", "show", "make")["rows"][0]["in_force"]["outputs"]["out.txt"]["files"] == 1
    project.says("state", "mv", "make", "made", out="make@localhost is made@localhost now.")
    project.edit("make:", "made:").edit("inputs: [make]", "inputs: [made]")
    assert project.json("plan")["steps"][0]["action"] == "skip"
    project.says("state", "rm", "made", out="made@localhost: forgotten; nothing else was touched.").holds("out.txt", "1\n")
    nothing = "error[no-row]: nothing is recorded of `made`\n  = what is: albor-pipeline state list"
    project.says("state", "rm", "made", err=nothing, exit=1)
    refused = project.run("state", "mv", "sum", "sum")
    assert refused.exit == 1 and "is recorded already" in refused.err


def test_of_several_results_of_one_fingerprint_another_is_chosen_with_state_use(project: Project) -> None:
    """What a task makes depends on a file that it does not declare: three forced runs leave three results."""
    project.manifest("make:\n  type: task\n  command: cp which out.txt\n  outputs: [out.txt]\n")
    for text in ("a", "b", "c"):
        project.file("which", text).does("apply", "--force", "--yes")
    found = ids(project, "make")
    assert [run for run, _ in found] == ["0001", "0002", "0003"] and project.holds("out.txt", "c")
    kept = f"3 results of this are kept: {found[0][1]} (run 0001), {found[1][1]} (run 0002), {found[2][1]} (run 0003, in force)"
    assert f"{kept}\n           to choose: albor-pipeline state use make RESULT" in project.run("why", "make").out
    project.does("state", "use", "make", found[0][1]).holds("out.txt", "a")
    assert project.json("plan")["steps"][0]["action"] == "skip" and project.run("drift").exit == 0
    (project.root / "out.txt").unlink()
    project.does("apply").holds("out.txt", "a")
    refused = project.run("state", "use", "make", "zz")
    assert refused.exit == 1 and "0 results of make@localhost begin with `zz`" in refused.err


@pytest.mark.parametrize("argv", [("store", "gc", "--keep-runs", "-1"), ("store",), ("state", "show")])
def test_wrong_usage_is_64(project: Project, argv: tuple[str, ...]) -> None:
    assert grown(project).manifest(TASKS, HEAD).run(*argv).exit == 64


def test_a_store_of_a_machine_nobody_declared_is_an_error(project: Project) -> None:
    said: Any = project.manifest(TASKS, HEAD).run("store", "ls", "--machine", "mars")
    assert said.exit == 1 and "there is no machine `mars`" in said.err and not os.path.lexists(project.root / ".albor")


@pytest.mark.root
def test_outputs_that_find_no_room_in_the_store_are_told_of_with_the_end_of_their_task(project: Project) -> None:
    if os.geteuid() != 0:
        pytest.skip("takes root, to mount a small disk")
    place = project.root / ".albor/store"
    place.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], check=True)
    try:
        project.manifest("a: {type: task, command: head -c 3000000 /dev/urandom > o, outputs: [o]}")
        said = project.run("apply")
        assert said.exit == 0 and "o is not kept: No space left on device; free some, or see `store gc --dry-run`" in said.err, said
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)
