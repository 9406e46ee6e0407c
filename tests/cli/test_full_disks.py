"""A disk of a machine that others fill up: the run ends in its own words, with its exit code and report, and goes on once there is room."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from sshd import Box, Network

from cli.builder import Project, there
from cli.test_moves import BIG, HEAD, SIZE, applied

pytestmark = [pytest.mark.root, pytest.mark.slow]
NOT_NOTED = "intel could not note how far this run came: No space left on device; the next run tells it again"
ROOM = SIZE * 3 // 2


@pytest.fixture
def boxes(network: Network) -> Iterator[tuple[Box, Box]]:
    """lambda and intel, whose pipeline lies on a small disk of its own."""
    made = network.add("lambda", machine_id="1" * 32), network.add("intel")  # one with an id of its own sees no disk mounted later
    place = there(made[1])
    place.mkdir(parents=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", str(place)], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    yield made
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(path: Path) -> None:
    """Take the room that is left to the last byte, as a stranger would."""
    with path.open("wb", buffering=0) as file:
        for size in (1 << 20, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue


def test_one_that_fills_up_during_a_transfer_ends_the_run_with_its_report(project: Project, boxes: tuple[Box, Box]) -> None:
    project.manifest(BIG, HEAD).does("apply", "--target", "make")
    running = project.start("apply")
    incoming, hog = there(boxes[1], ".albor/incoming"), there(boxes[1], "hog")
    project.wait(lambda: any(part.stat().st_size > SIZE // 8 for part in incoming.glob("*.part")))
    fill(hog)
    said = project.end(running)
    assert said.exit == 3 and "on intel, no room for big.bin" in said.err and NOT_NOTED in said.err, said
    assert "1 failed" in said.out, said
    report = json.loads((project.root / "state/runs/0002/report.json").read_text())
    assert report["counts"]["failed"] == 1, report
    (part,) = incoming.glob("*.part")
    size = part.stat().st_size
    hog.unlink()
    assert applied(project) == [("big.bin", "lambda", "intel", 1, SIZE - size)]
    assert there(boxes[1], "big.bin").read_bytes() == there(boxes[0], "big.bin").read_bytes()
    project.says("apply", out="Nothing to do: 2 unchanged.")


def test_one_that_is_full_before_the_run_leaves_the_others_to_it(project: Project, boxes: tuple[Box, Box]) -> None:
    other = "other: {type: task, machine: intel, command: echo o > o.txt, outputs: [o.txt]}\n"
    first = "first: {type: task, machine: lambda, command: echo f > f.txt, outputs: [f.txt]}\n"
    project.manifest(other, HEAD).does("apply")
    fill(there(boxes[1], "hog"))
    said = project.manifest(other + first, HEAD).run("apply")
    assert said.exit == 0 and NOT_NOTED in said.err, said
    assert there(boxes[0], "f.txt").read_text() == "f\n"
    there(boxes[1], "hog").unlink()
    project.says("apply", out="Nothing to do: 2 unchanged.")
