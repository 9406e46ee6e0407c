"""What one machine makes and another reads goes there by itself, over SSH, once, and goes on where it was cut."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from sshd import Box, Network

from cli.builder import Project, Said, there

HEAD = """
machines:
  here: {addr: localhost}
  lambda: {addr: lambda}
  intel: {addr: intel}
"""
ROUND = """
raw: {type: task, machine: here, command: mkdir -p raw; echo one > raw/a; echo two > raw/b, outputs: [raw]}
mix: {type: task, machine: lambda, command: 'mkdir mixed; cat raw/* > mixed/all; ln -s all mixed/link', inputs: [raw], outputs: [mixed]}
use: {type: task, machine: intel, command: wc -l < mixed/link > count.txt, inputs: [mix], outputs: [count.txt]}
end: {type: task, machine: here, command: cp count.txt end.txt, inputs: [use], outputs: [end.txt]}
"""
PAIR = """
make: {type: task, machine: lambda, command: 'echo make >> starts; echo one > out.txt', outputs: [out.txt]}
use: {type: task, machine: intel, command: 'echo use >> starts; cat out.txt out.txt > used.txt', inputs: [make], outputs: [used.txt]}
"""
SIZE = 96_000_000
BIG = f"""
make: {{type: task, machine: lambda, command: head -c {SIZE} /dev/urandom > big.bin, outputs: [big.bin]}}
use: {{type: task, machine: intel, command: b2sum < big.bin > sum.txt, inputs: [make], outputs: [sum.txt]}}
"""


@pytest.fixture
def boxes(network: Network) -> tuple[Box, Box]:
    """lambda and intel, two machines with ids of their own."""
    return network.add("lambda", machine_id="1" * 32), network.add("intel", machine_id="2" * 32)


def files(root: Path) -> set[str]:
    """Every file and link below a folder but for the project's own, and what is in .albor."""
    found = {path.relative_to(root) for path in root.rglob("*") if path.is_symlink() or path.is_file()}
    return {str(path) for path in found if path.parts[0] not in (".albor", "manifests")}


def step(project: Project, name: str, *words: str) -> tuple[str, list[dict[str, Any]]]:
    """What a plan would do with a task, and what it would move for it."""
    steps = project.json("plan", *words)["steps"]
    (found,) = [each for each in steps if each["resource_id"] == name and each["action"] != "forget"]
    return found["action"], found["moves"]


def applied(project: Project, *words: str) -> list[tuple[str, str, str, int, int]]:
    """Apply; what was moved: path, from, to, files and bytes that were sent."""
    said = project.run("apply", "--json", "--yes", *words)
    assert said.exit == 0, said.err
    return [(one["path"], one["from"], one["to"], one["files"], one["size_bytes"]) for one in json.loads(said.out).get("moves", ())]


def test_exactly_what_is_read_goes_to_where_it_is_read_and_only_what_changed_goes_again(project: Project, boxes: tuple[Box, Box]) -> None:
    one, two = boxes
    project.manifest(ROUND, HEAD)
    moved = applied(project)
    assert moved == [("raw", "here", "lambda", 2, 8), ("mixed", "lambda", "intel", 1, 8), ("count.txt", "intel", "here", 1, 2)]
    assert (project.root / "end.txt").read_text() == "2\n" and there(two, "mixed/link").readlink() == Path("all")
    assert files(there(one)) == {"raw/a", "raw/b", "mixed/all", "mixed/link"}
    assert files(there(two)) == {"mixed/all", "mixed/link", "count.txt"}
    project.says("apply", out="Nothing to do: 4 unchanged.")
    project.edit("echo two", "echo TWO")
    assert applied(project) == [("raw", "here", "lambda", 1, 4), ("mixed", "lambda", "intel", 1, 8)]
    assert there(two, "mixed/link").read_text() == "one\nTWO\n" and files(there(one)) == {"raw/a", "raw/b", "mixed/all", "mixed/link"}
    project.says("apply", out="Nothing to do: 4 unchanged.")


def test_a_plan_says_what_would_be_moved_and_a_run_when_it_was(project: Project, boxes: tuple[Box, Box]) -> None:
    project.manifest(PAIR, HEAD)
    assert "+ use   task  intel   run  new; moves out.txt from lambda" in project.run("plan").out
    said = project.run("apply")
    assert "intel   use   moving     out.txt from lambda    1 file, 4 B\n" in said.err, said
    assert "intel   use   moved      0.0 s    out.txt from lambda    1 file, 4 B    " in said.err
    project.edit("cat out.txt", "cat ./out.txt")
    assert step(project, "use") == ("rerun", [])
    there(boxes[1], "out.txt").unlink()
    assert "; moves 4 B from lambda" in project.run("plan").out
    assert step(project, "use") == ("rerun", [{"path": "out.txt", "from": "lambda", "size_bytes": 4}])
    assert applied(project) == [("out.txt", "lambda", "intel", 1, 4)]


def test_what_reads_nothing_anew_moves_nothing(project: Project, boxes: tuple[Box, Box]) -> None:
    """A maker that runs again and makes the same; and a task that only comes after, and names no inputs."""
    after = "after: {type: task, machine: intel, command: echo x > x.txt, depends_on: [make], outputs: [x.txt]}"
    project.manifest(f"{PAIR}\n{after}", HEAD)
    applied(project)
    there(boxes[1], "out.txt").unlink()
    assert applied(project, "--force", "--target", "make") == [] and applied(project) == []
    assert there(boxes[0], "starts").read_text() == "make\nmake\n" and there(boxes[1], "starts").read_text() == "use\n"
    assert not there(boxes[1], "out.txt").exists()


def test_two_tasks_that_read_the_same_wait_for_one_transfer(project: Project, boxes: tuple[Box, Box]) -> None:
    each = "u%d: {type: task, machine: intel, command: cp out.txt %d.txt, inputs: [make], outputs: [%d.txt]}\n"
    more = "".join(each % (n, n, n) for n in range(4))
    project.manifest(PAIR + more, HEAD)
    assert applied(project) == [("out.txt", "lambda", "intel", 1, 4)]
    assert files(there(boxes[1])) == {"out.txt", "used.txt", "starts", *(f"{n}.txt" for n in range(4))}


def test_without_moving_what_would_need_it_is_refused_by_name_and_what_does_not_runs(project: Project, boxes: tuple[Box, Box]) -> None:
    project.manifest(PAIR, HEAD)
    said = project.run("apply", "--no-move")
    assert said.exit == 1
    assert "error[not-moved]: `use` on intel reads `out.txt`, which is on lambda; with --no-move it stays there" in said.err
    assert "put it there on intel yourself, leave --no-move out, or declare the `mount` that both share" in said.err
    project.does("apply", "--target", "make", "--no-move")
    there(boxes[1]).mkdir(parents=True, exist_ok=True)
    there(boxes[1], "out.txt").write_text("one\n")
    assert applied(project, "--no-move") == [] and there(boxes[1], "used.txt").read_text() == "one\none\n"
    project.edit("echo one", "echo two")
    said = project.run("apply", "--no-move")
    assert said.exit == 1 and "`out.txt` would have to be moved from lambda, and --no-move says no" in said.err, said
    assert there(boxes[1], "used.txt").read_text() == "one\none\n"


def test_what_a_user_left_there_is_kept_aside_and_named(project: Project, boxes: tuple[Box, Box]) -> None:
    project.manifest(PAIR, HEAD)
    there(boxes[1]).mkdir(parents=True)
    there(boxes[1], "out.txt").write_text("mine\n")
    said = project.run("apply")
    assert said.exit == 0 and "what lay at out.txt on intel is now .albor/kept/0001/use/out.txt there" in said.err
    assert there(boxes[1], ".albor/kept/0001/use/out.txt").read_text() == "mine\n" and there(boxes[1], "out.txt").read_text() == "one\n"


def test_a_source_that_changes_after_the_plan_fails_the_step_with_its_name(project: Project, boxes: tuple[Box, Box]) -> None:
    first = "first: {type: task, machine: here, command: 'touch begun; until [ -e go ]; do sleep 0.05; done'}\n"
    pair = PAIR.replace("outputs: [out.txt]}", "outputs: [out.txt], cache: false}").replace("[make]", "[make], depends_on: [first]")
    project.manifest(pair + first, HEAD).does("apply", "--target", "make")
    running = project.start("apply")
    project.wait_for("begun")
    there(boxes[0], "out.txt").unlink()
    there(boxes[0], "out.txt").write_text("two\n")
    project.file("go", "")
    said = project.end(running)
    assert said.exit == 3 and "out.txt could not be moved from lambda: on lambda, out.txt is not as it was recorded" in said.err, said
    assert not there(boxes[1], "used.txt").exists() and not there(boxes[1], "out.txt").exists()


def under_way(project: Project, box: Box) -> tuple[subprocess.Popen[str], Path]:
    """Start to move the big file to a machine, and wait until a part of it is there."""
    project.manifest(BIG, HEAD)
    project.does("apply", "--target", "make")
    running = project.start("apply")
    folder = there(box, ".albor/incoming")
    project.wait(lambda: any(path.stat().st_size > SIZE // 4 for path in folder.glob("*.part")))
    return running, folder


def goes_on(project: Project, boxes: tuple[Box, Box], folder: Path) -> None:
    """The same command sends what is lacking and nothing else, once the agent that was cut off has written what it had."""
    (part,) = folder.glob("*.part")
    project.wait(lambda: _is_free(part))
    size = part.stat().st_size
    assert SIZE // 4 < size < SIZE
    assert applied(project) == [("big.bin", "lambda", "intel", 1, SIZE - size)]
    assert there(boxes[1], "big.bin").read_bytes() == there(boxes[0], "big.bin").read_bytes()
    assert [path.name for path in folder.rglob("*") if path.is_file()] == [".lock"]


def _is_free(part: Path) -> bool:
    """Whether nobody writes to it, or means to."""
    with part.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, 1])
def test_a_machine_that_is_lost_while_it_moves_holds_the_step_and_the_same_command_sends_the_rest(
    project: Project, boxes: tuple[Box, Box], lost: int
) -> None:
    running, folder = under_way(project, boxes[1])
    boxes[lost].cut()
    said = project.end(running)
    assert said.exit == 6, said
    assert f"unknown    {('lambda', 'intel')[lost]} does not answer: the connection was cut" in said.err, said
    assert "; what came of big.bin is kept" in said.err
    goes_on(project, boxes, folder)


@pytest.mark.slow
def test_a_killed_controller_sends_the_rest_when_it_is_started_again(project: Project, boxes: tuple[Box, Box]) -> None:
    running, folder = under_way(project, boxes[1])
    os.killpg(running.pid, signal.SIGKILL)
    running.communicate()
    project.wait(lambda: not boxes[1].programs())
    goes_on(project, boxes, folder)


@pytest.mark.slow
@pytest.mark.parametrize(("times", "said_of_it"), [(1, "1 not started"), (2, "1 cancelled")])
def test_ctrl_c_leaves_a_transfer_and_the_next_run_goes_on_with_it(
    project: Project, boxes: tuple[Box, Box], times: int, said_of_it: str
) -> None:
    running, folder = under_way(project, boxes[1])
    for number in range(times):
        os.killpg(running.pid, signal.SIGINT)
        project.wait(lambda number=number: number + 1 == times or _read_until(running, "Stopping"))  # type: ignore[misc]
    said = project.end(running)
    assert said.exit == 130 and f"Interrupted: {said_of_it}, 1 unchanged." in said.out and "goes on" not in said.out, said
    project.wait(lambda: not boxes[1].programs())
    if list(folder.glob("*.part")):
        goes_on(project, boxes, folder)


def _read_until(process: subprocess.Popen[str], word: str) -> bool:
    assert process.stderr is not None
    return any(word in line for line in process.stderr)


@pytest.mark.slow
def test_nothing_that_is_moved_touches_the_disk_of_the_controller(
    project: Project, boxes: tuple[Box, Box], tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path_factory.mktemp("scratch")
    monkeypatch.setenv("TMPDIR", str(scratch))
    running, _ = under_way(project, boxes[1])
    opened = [path.resolve() for path in Path(f"/proc/{running.pid}/fd").iterdir()]
    memory = int(Path(f"/proc/{running.pid}/status").read_text().partition("VmRSS:")[2].split()[0])
    assert project.end(running).exit == 0
    assert not [path for path in opened if path.is_file() and path.stat().st_size > 1_000_000 and path.is_relative_to(project.root)]
    assert sum(path.stat().st_size for folder in (project.root, scratch) for path in folder.rglob("*") if path.is_file()) < 2_000_000
    assert memory * 1024 < SIZE + 60_000_000, "the file was held in memory"


def test_a_result_that_another_machine_keeps_is_fetched_and_not_made_again(project: Project, boxes: tuple[Box, Box]) -> None:
    project.manifest(PAIR, HEAD)
    applied(project)
    project.edit("make: {type: task, machine: lambda", "make: {type: task, machine: intel")
    plan = project.run("plan").out
    assert "fetch" in plan and "found on lambda, made on lambda in run 0001" in plan, plan
    said = project.run("apply", "--yes")
    assert said.exit == 0 and "1 fetched" in said.out, said
    assert there(boxes[0], "starts").read_text() == "make\n" and there(boxes[1], "starts").read_text() == "use\n"
    assert there(boxes[1], "out.txt").read_text() == "one\n"
    assert "make" in project.run("store", "ls", "--machine", "intel").out
    there(boxes[1], "out.txt").unlink()
    assert "1 restored" in project.run("apply", "--yes").out
    project.says("apply", out="Nothing to do: 2 unchanged.")


def test_a_result_that_is_gone_where_it_was_kept_is_made_again(project: Project, boxes: tuple[Box, Box]) -> None:
    project.manifest(PAIR, HEAD)
    applied(project)
    project.edit("make: {type: task, machine: lambda", "make: {type: task, machine: intel")
    assert step(project, "make")[0] == "fetch"
    there(boxes[0], "out.txt").unlink()
    for path in there(boxes[0], ".albor/store/objects").rglob("*"):
        if path.is_file():
            path.unlink()
    assert step(project, "make")[0] == "run"
    applied(project)
    assert there(boxes[1], "starts").read_text() == "use\nmake\n"


def test_with_no_move_a_result_of_another_machine_is_made_anew(project: Project, boxes: tuple[Box, Box]) -> None:
    project.manifest(PAIR, HEAD)
    applied(project)
    project.edit("make: {type: task, machine: lambda", "make: {type: task, machine: intel")
    assert applied(project, "--no-move") == [] and there(boxes[1], "starts").read_text() == "use\nmake\n"


def test_what_broke_off_is_named_and_freed_by_gc(project: Project, boxes: tuple[Box, Box]) -> None:
    project.manifest(PAIR, HEAD)
    applied(project)
    there(boxes[1], ".albor/incoming/aa.part").write_bytes(b"12345")
    said: Said = project.run("store", "gc", "--dry-run", "--machine", "intel")
    assert "intel: 1 file of transfers that broke off would go too, 5 B of it." in said.out
    project.does("store", "gc")
    assert not there(boxes[1], ".albor/incoming/aa.part").exists()


@pytest.mark.root
@pytest.mark.slow
def test_a_full_disk_fails_the_step_with_what_is_free_and_the_same_command_goes_on(project: Project, network: Network) -> None:
    """The target's disk is of 64 MB, then of 200."""
    if os.geteuid() != 0:
        pytest.skip("takes root, to mount a small disk")
    _, box = network.add("lambda", machine_id="1" * 32), network.add("intel")
    place = there(box)
    place.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(place)], check=True)
    try:
        small = BIG.replace("command: head", "command: head -c 30000000 /dev/urandom > small.bin; head")
        project.manifest(small.replace("[big.bin]}", "[small.bin, big.bin]}"), HEAD)
        said = project.run("apply")
        assert said.exit == 3 and "big.bin could not be moved from lambda: on intel, no room for big.bin: 96000000 bytes" in said.err, said
        assert "`store gc`" in said.err and not (place / "sum.txt").exists()
        subprocess.run(["mount", "-o", "remount,size=200m", str(place)], check=True)
        assert ("big.bin", "lambda", "intel", 1, SIZE) in applied(project) and (place / "sum.txt").exists()
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)
