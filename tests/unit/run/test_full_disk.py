"""A disk that fills up under the state folder: the run stops with a sentence, attempts go on, and with room the same command continues."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support_run import Project, task

pytestmark = [pytest.mark.slow, pytest.mark.root]
FILLS = "head -c 4000000 /dev/zero | tr '\\0' x"


@pytest.fixture
def state(project: Project) -> Iterator[Path]:
    """The state folder on a file system of 3 MB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system takes root")
    folder = project.root / "state"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_log_that_does_not_fit_costs_its_copy_and_not_the_run(project: Project, state: Path) -> None:
    project.manifest(task("big", FILLS), task("then", "echo x > out.txt", "outputs: [out.txt]", "depends_on: [big]"))
    said = project.run("apply")
    assert said.code == 0, said.out + said.err
    assert "the log of big is not in state/runs/0001/: No space left on device" in said.err
    assert not list(state.glob("runs/0001/big*"))
    assert len(project.run("logs", "big").out) == 4_000_000
    assert project.starts() == ["big", "then"]


def test_a_journal_that_cannot_grow_stops_the_run_and_the_same_command_continues(project: Project, state: Path) -> None:
    names = [f"t{i:02}" for i in range(30)]
    filler = task("a", "dd if=/dev/zero of=state/filler bs=4k 2>/dev/null; sleep 0.2")
    project.manifest(filler, *(task(name, "true", "depends_on: [a]") for name in names))
    said = project.run("apply", "--max-parallel", "1")
    assert said.code == 1, said.out + said.err
    assert "No space left on device" in said.out
    assert "Attempts that are running go on; the next run finds them." in said.out
    assert len(project.starts()) < len(names)
    assert any('"what":"stopped"' in path.read_text() for path in (state / "journal").iterdir()), "the reserve makes room for it"
    (state / "filler").unlink()
    again = project.run("apply")
    assert again.code == 0, again.out + again.err
    assert sorted(project.starts()) == ["a", *names]
    assert project.run("audit").code == 0
