"""Nothing is made twice: flip-back, what was deleted, what was edited; and what is never given back."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from support_run import Project, task

TOP = "params: { n: 1 }\n"
PAIR = (
    task("make", "seq {{params.n}} > out.txt", "outputs: [out.txt]"),
    task("sum", "wc -c < out.txt > sum.txt", "inputs: [make]", "outputs: [sum.txt]"),
    task("tell", "cat sum.txt", "inputs: [sum]"),
)


def flip(project: Project, n: int) -> None:
    project.manifest(*PAIR, top=TOP.replace("1", str(n)))


def done(project: Project, *names: str) -> None:
    """Apply; exactly these commands ran."""
    before = len(project.starts())
    said = project.run("apply", "--yes")
    assert said.code == 0, said.out + said.err
    assert sorted(project.starts()[before:]) == sorted(names)


def changes(project: Project) -> dict[str, tuple[str, str]]:
    """What a plan would do, without what is unchanged."""
    return {name: step for name, step in project.actions().items() if step[0] != "skip"}


@pytest.fixture
def pair(project: Project) -> Project:
    """The pair, run with n=1 and then with n=2."""
    for n in (1, 2):
        flip(project, n)
        done(project, "make", "sum", "tell")
    return project


def objects(project: Project) -> list[Path]:
    return [path for path in (project.root / ".albor/store/objects").rglob("*") if path.is_file()]


def spoil(project: Project, text: str) -> None:
    """Change the bytes of the object that holds `text`, as a program run by root could."""
    path = next(path for path in objects(project) if path.read_text() == text)
    path.chmod(0o644)
    path.write_text("x" * len(text))


def test_a_flipped_back_param_runs_nothing_that_has_outputs(pair: Project) -> None:
    flip(pair, 1)
    actions = pair.actions()
    assert actions["make"][0] == actions["sum"][0] == "restore"
    assert actions["make"][1].startswith("command changed: 2 -> 1; made in run 0001 at ")
    assert actions["tell"][0] == "rerun", "a task without outputs exists for what it does"
    done(pair, "tell")
    assert ((pair.root / "out.txt").read_text(), (pair.root / "sum.txt").read_text()) == ("1\n", "2\n")
    assert changes(pair) == {}
    assert pair.row("make")["status"] == "converged"
    flip(pair, 2)
    done(pair, "tell")
    assert (pair.root / "sum.txt").read_text() == "4\n" and pair.run("drift").code == 0


def test_a_deleted_output_comes_back_without_a_run_and_its_dependents_do_not_notice(pair: Project) -> None:
    (pair.root / "out.txt").unlink()
    assert changes(pair)["make"] == ("restore", "output out.txt deleted")
    done(pair)
    assert (pair.root / "out.txt").read_text() == "1\n2\n"


def test_an_edited_output_is_kept_aside_and_the_recorded_one_comes_back(pair: Project) -> None:
    (pair.root / "out.txt").unlink()
    (pair.root / "out.txt").write_text("mine\n")
    assert pair.actions()["make"][1].endswith("; it is kept aside in .albor/kept/")
    refused = pair.run("apply")
    assert refused.code == 1 and "--yes" in refused.err and (pair.root / "out.txt").read_text() == "mine\n"
    said = pair.run("apply", "--yes")
    assert "what lay at the outputs of make is now .albor/kept/0003/make/out.txt" in said.err
    assert (pair.root / ".albor/kept/0003/make/out.txt").read_text() == "mine\n"
    assert (pair.root / "out.txt").read_text() == "1\n2\n" and len(pair.starts()) == 6


def test_a_corrupt_object_known_to_the_plan_means_a_run(pair: Project) -> None:
    spoil(pair, "1\n2\n")
    assert pair.actions()["make"][0] == "rerun", "the output is the object by another name"
    done(pair, "make")
    assert (pair.root / "out.txt").read_text() == "1\n2\n" and changes(pair) == {}


def test_a_result_that_turns_out_to_be_gone_is_named_and_made_again(pair: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    from albor_pipeline.run import session

    flip(pair, 1)
    take = session.Session.take_leases

    def late(self: session.Session, *given: object) -> None:
        take(self, *given)  # type: ignore[arg-type]
        for path in objects(pair):
            path.unlink()

    monkeypatch.setattr(session.Session, "take_leases", late)
    said = pair.run("apply", "--yes")
    assert said.code == 0, said.err
    assert "the result of make cannot be restored: the object " in said.err and "is missing" in said.err
    assert pair.starts()[6:] == ["make", "sum", "tell"]


def test_cache_false_is_never_restored(project: Project) -> None:
    for n in (1, 2, 1):
        project.manifest(task("publish", f"echo {n} > p.txt", "outputs: [p.txt]", "cache: false"))
        done(project, "publish")
    assert objects(project) == []
    (project.root / "p.txt").unlink()
    assert project.actions()["publish"] == ("rerun", "output p.txt deleted")


@pytest.mark.root
def test_large_copies_are_kept_where_the_manifest_asks_for_them(project: Project) -> None:
    """An output of 1.1 GB on another file system: a copy is needed, and made only for `store: true`."""
    if os.geteuid() != 0 or shutil.disk_usage(project.root).free < 4 << 30:
        pytest.skip("takes root, and 4 GB of disk")
    (project.root / "far").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2g", "tmpfs", str(project.root / "far")], check=True)
    try:
        for lines, kept in ((("outputs: [far/o]",), {}), (("outputs: [far/o]", "store: true"), {"far/o": "copy"})):
            project.manifest(task("big", "truncate -s 1100M far/o", *lines))
            assert project.run("apply", "--yes", "--force").code == 0
            machine = project.run("store", "ls", "--json").json()["machines"][0]
            assert machine["results"][-1]["kept"] == kept
    finally:
        subprocess.run(["umount", "-l", str(project.root / "far")], check=True)


def test_what_may_run_is_restored_when_what_it_reads_turns_out_as_before(project: Project) -> None:
    """`make` is forced and gives other bytes, then the first ones again: `sum` runs once for each of them."""
    project.file("which", "1")
    project.manifest(
        task("make", "cp which out.txt", "outputs: [out.txt]"),
        task("sum", "cp out.txt sum.txt", "inputs: [make]", "outputs: [sum.txt]"),
    )
    done(project, "make", "sum")
    for text, ran in (("2", ["make", "sum"]), ("1", ["make"])):
        project.file("which", text)
        before = len(project.starts())
        assert project.run("apply", "--yes", "--force", "--target", "make").code == 0
        assert project.run("apply", "--yes").code == 0
        assert project.starts()[before:] == ran and (project.root / "sum.txt").read_text() == text


def test_the_whole_project_moved_runs_nothing_and_restores_at_its_new_place(pair: Project, tmp_path: Path) -> None:
    new = tmp_path.parent / "moved here"
    pair.root.rename(new)
    pair.root = new
    assert changes(pair) == {}
    (new / "sum.txt").unlink()
    done(pair)
    assert (new / "sum.txt").read_text() == "4\n"


def test_a_lost_state_and_lost_outputs_come_back_from_the_store(pair: Project) -> None:
    shutil.rmtree(pair.root / "state")
    shutil.rmtree(pair.root / ".albor" / "attempts")
    for name in ("out.txt", "sum.txt"):
        (pair.root / name).unlink()
    action, reason = pair.actions()["make"]
    assert action == "restore" and reason.startswith("found on localhost, made in run 0002 at ")
    done(pair, "tell")
    assert (pair.root / "sum.txt").read_text() == "4\n"


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """What machines that are connected to from now on say of the bytes that are free."""
    from albor_pipeline.run import session

    connect = session.Session.connect

    def says(count: int) -> None:
        def connected(self: session.Session, keys: object) -> None:
            connect(self, keys)  # type: ignore[arg-type]
            for agent in self.fleet.agents.values():
                agent.hello = {**agent.hello, "disk_free_bytes": count}

        monkeypatch.setattr(session.Session, "connect", connected)

    return says


def test_a_plan_refuses_what_the_disk_has_no_room_for(project: Project, free: Callable[[int], None]) -> None:
    """Two tasks that wrote a megabyte each are to run again, on a disk that has room for one of them."""
    def manifest(n: int) -> None:
        project.manifest(*(task(name, f"head -c 1{n}00000 /dev/zero > {name}.bin", f"outputs: [{name}.bin]") for name in ("a", "b")))

    manifest(0)
    done(project, "a", "b")
    free(1_500_000)
    manifest(1)
    said = project.run("apply", "--yes")
    assert said.code == 1 and len(project.starts()) == 2
    assert "error[no-space]: localhost has 1.5 MB free, and what is to be made takes about 2.0 MB: a 1.0 MB, b 1.0 MB" in said.err
    assert "store gc --dry-run" in said.err
    free(3_000_000)
    done(project, "a", "b")
    free(1)
    assert changes(project) == {}
    manifest(0)
    done(project)


def test_a_plan_warns_of_what_may_find_no_room(project: Project, free: Callable[[int], None]) -> None:
    """The second task runs again only if the first one's output comes out differently."""
    def manifest(n: int) -> None:
        make = task("make", f"head -c 1{n}0000 /dev/zero > a.bin", "outputs: [a.bin]")
        project.manifest(make, task("use", "cat a.bin a.bin a.bin a.bin > b.bin", "inputs: [make]", "outputs: [b.bin]"))

    manifest(0)
    done(project, "make", "use")
    free(200_000)
    manifest(1)
    said = project.run("plan")
    assert said.code == 0, said.err
    assert "warning[no-space]: localhost has 0.2 MB free, and what may have to be made takes about 0.5 MB: use 0.4 MB, make 0.1" in said.err


def test_a_result_of_another_folder_of_this_machine_is_fetched_and_kept_here_too(project: Project) -> None:
    top = "machines:\n  one: { addr: localhost, workdir: one }\n  two: { addr: localhost, workdir: two }\n"
    make = ("make", "mkdir o; echo 1 > o/x; ln -s x o/l", "outputs: [o]")
    for name in ("one", "two"):
        (project.root / name).mkdir()
    project.manifest(task(*make, "machine: one"), top=top)
    assert project.run("apply").code == 0 and project.starts("one/starts.log") == ["make"]
    project.manifest(task(*make, "machine: [one, two]"), top=top)
    steps = project.run("plan", "--json").json()["steps"]
    found = {step["machine"]: (step["action"], step["reason"]["text"]) for step in steps}
    assert found["two"][0] == "fetch" and found["two"][1].startswith("found on one, made on one in run 0001 at ")
    said = project.run("apply")
    assert said.code == 0 and "Done: 1 fetched, 1 unchanged." in said.out, said.out + said.err
    assert project.starts("two/starts.log") == [] and (project.root / "two/o/l").readlink() == Path("x")
    (project.root / "two/o/x").unlink()
    (project.root / "one/.albor/store/results/make").rename(project.root / "elsewhere")
    said = project.run("apply")
    assert said.code == 0 and "Done: 1 restored, 1 unchanged." in said.out and (project.root / "two/o/x").read_text() == "1\n"


def test_the_project_on_another_host_is_adopted_and_nothing_runs(pair: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole folder was copied: the state names a machine that this one is not, the attempts prove what is there."""
    from albor_pipeline.run import fleet

    greeted = fleet.greeted

    def elsewhere(client: fleet.AgentClient, attempts: str = "all") -> fleet.AgentClient:
        found = greeted(client, attempts)
        found.hello = {**found.hello, "machine_id": "another"}
        return found

    monkeypatch.setattr(fleet, "greeted", elsewhere)
    assert {action for action, _ in pair.actions().values()} == {"adopt"}
    done(pair)
    assert changes(pair) == {} and pair.run("drift").code == 0


def test_the_project_on_another_host_restores_what_its_newest_attempts_did_not_make(pair: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Flipped back before it was copied: what is in force was restored, and the newest attempt was of other settings."""
    from albor_pipeline.run import fleet

    flip(pair, 1)
    done(pair, "tell")
    greeted = fleet.greeted

    def elsewhere(client: fleet.AgentClient, attempts: str = "all") -> fleet.AgentClient:
        found = greeted(client, attempts)
        found.hello = {**found.hello, "machine_id": "another"}
        return found

    monkeypatch.setattr(fleet, "greeted", elsewhere)
    assert {name: action for name, (action, _) in pair.actions().items()} == {"make": "restore", "sum": "restore", "tell": "adopt"}
    done(pair)
    assert changes(pair) == {} and (pair.root / "out.txt").read_text() == "1\n"


def test_what_was_kept_before_the_first_result_was_recorded_is_restored(project: Project) -> None:
    """Two controllers are killed, each over an attempt of its own settings: neither result is in force when the first are wanted again."""
    for n in (1, 2):
        project.manifest(task("make", f"seq {n} > out.txt; sleep 0.2", "outputs: [out.txt]"))
        controller = project.start("apply", "--yes")
        project.wait(lambda: len(project.starts()) == n)  # noqa: B023
        project.kill(controller)
        project.quiet()
    project.manifest(task("make", "seq 1 > out.txt; sleep 0.2", "outputs: [out.txt]"))
    assert project.actions()["make"][0] == "restore"
    done(project)
    assert (project.root / "out.txt").read_text() == "1\n" and changes(project) == {}


def test_what_nobody_recorded_is_restored_when_its_output_was_edited_since(pair: Project) -> None:
    """The controller is killed, its attempt ends well and is kept, and then the output is edited: no run, and the edit is not lost."""
    pair.manifest(task("make", "seq 3 > out.txt; sleep 0.2", "outputs: [out.txt]"))
    controller = pair.start("apply", "--yes")
    pair.wait(lambda: len(pair.starts()) == 7)
    pair.kill(controller)
    pair.quiet()
    (pair.root / "out.txt").unlink()
    (pair.root / "out.txt").write_text("mine\n")
    assert pair.actions()["make"][0] == "restore" and pair.run("apply").code == 1
    done(pair)
    assert (pair.root / "out.txt").read_text() == "1\n2\n3\n"
    assert [path.read_text() for path in (pair.root / ".albor/kept").rglob("out.txt")] == ["mine\n"]


@pytest.mark.parametrize("by_hand", [False, True])
def test_a_renamed_task_is_restored_from_what_was_kept_under_its_old_name(pair: Project, by_hand: bool) -> None:
    renamed = (PAIR[0].replace("  make:", "  maker:"), PAIR[1].replace("inputs: [make]", "inputs: [maker]"), PAIR[2])
    top = TOP
    if by_hand:
        assert pair.run("state", "mv", "make", "maker").code == 0
    else:
        top += "moved: [{from: make, to: maker}]\n"
    pair.manifest(*renamed, top=top.replace("n: 1", "n: 2"))
    assert changes(pair) == {}
    (pair.root / "out.txt").unlink()
    assert changes(pair)["maker"] == ("restore", "output out.txt deleted")
    done(pair)
    pair.manifest(*renamed, top=top)
    done(pair, "tell")
    assert (pair.root / "out.txt").read_text() == "1\n" and pair.run("store", "gc", "--keep-runs", "0").code == 0
    (pair.root / "out.txt").unlink()
    done(pair)
    assert (pair.root / "out.txt").read_text() == "1\n" and changes(pair) == {}
