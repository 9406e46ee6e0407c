"""kill -9 of the controller at any moment, then the same command: each task started once, each end proven, an undisturbed state."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

TASKS = 12
LIMIT_S = 60.0
DIES_BEFORE_SNAPSHOT = """
import os, sys
from albor_pipeline.state.folder import StateFolder
real = StateFolder.snapshot
def snapshot(self):
    if self.state.last_run:
        os.killpg(0, 9)
    real(self)
StateFolder.snapshot = snapshot
from albor_pipeline.cli import main
sys.exit(main(["apply"]))
"""


def write_manifest(root: Path, sleep_s: float) -> None:
    """A ladder of twelve: two columns that cross over; every task tells of its start outside its outputs."""
    lines = ['version: "1.0"', "name: twelve", "resources:"]
    for i in range(TASKS):
        ups = [j for j in (i - 1, i - 2) if j >= 0]
        reads = " ".join(f"out/t{j}.txt" for j in ups) or "/dev/null"
        inputs = f"[{', '.join(f't{j}' for j in ups)}]"
        command = f"echo t{i} >> starts.log; sleep {sleep_s}; cat {reads} > out/t{i}.txt; echo t{i} >> out/t{i}.txt"
        lines += [f"  t{i}:", "    type: task", f"    command: {command}", f"    inputs: {inputs}", f"    outputs: [out/t{i}.txt]"]
    (root / "manifests").mkdir(parents=True)
    (root / "manifests" / "twelve.yaml").write_text("\n".join(lines) + "\n")
    (root / "out").mkdir()


def start(root: Path, pause: str | None = None, code: str | None = None) -> subprocess.Popen[str]:
    argv = [sys.executable, "-c", code] if code else [sys.executable, "-m", "albor_pipeline", "apply"]
    env = {**os.environ, "ALBOR_TEST_PAUSE": pause} if pause else dict(os.environ)
    return subprocess.Popen(argv, cwd=root, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def kill(process: subprocess.Popen[str]) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def finish(root: Path) -> None:
    """The same command, with nothing else typed."""
    process = start(root)
    out, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, out + err


def ask(root: Path, *argv: str) -> dict[str, object]:
    done = subprocess.run([sys.executable, "-m", "albor_pipeline", *argv, "--json"], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


def proven(root: Path) -> list[tuple[object, ...]]:
    rows = ask(root, "status")["resources"]
    assert isinstance(rows, list)
    return [(row["resource_id"], row["status"], row["outputs"]) for row in rows]


def check(root: Path, undisturbed: list[tuple[object, ...]]) -> None:
    starts = Counter((root / "starts.log").read_text().split())
    assert starts == Counter(f"t{i}" for i in range(TASKS))
    assert proven(root) == undisturbed
    audit = ask(root, "audit")
    assert (audit["integrity"], audit["completeness"]) == ([], [])
    again = subprocess.run([sys.executable, "-m", "albor_pipeline", "apply"], cwd=root, capture_output=True, text=True, check=False)
    assert again.stdout == f"Nothing to do: {TASKS} unchanged.\n"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[object, ...]]:
    root = tmp_path_factory.mktemp("undisturbed")
    write_manifest(root, 0.0)
    finish(root)
    rows = proven(root)
    assert len(rows) == TASKS
    return rows


@pytest.mark.slow
@pytest.mark.parametrize("seed", [*range(3), *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(3, 10))])
def test_fifty_random_moments(tmp_path: Path, seed: int, undisturbed: list[tuple[object, ...]]) -> None:
    moments = random.Random(seed)
    write_manifest(tmp_path, 0.15)
    for _ in range(5):
        process = start(tmp_path)
        time.sleep(moments.uniform(0.05, 1.6))
        kill(process)
    finish(tmp_path)
    check(tmp_path, undisturbed)


def attempts(root: Path) -> list[Path]:
    return [path for path in (root / ".albor" / "attempts").glob("*/*-*") if path.is_dir()]


WINDOWS: dict[str, Callable[[Path], bool]] = {
    "claimed": lambda folder: not (folder / "pid").exists(),
    "started": lambda folder: (folder / "pid").exists() and not (folder / "proof").exists(),
    "exited": lambda folder: (folder / "pid").exists() and not (folder / "proof").exists(),
    "digesting": lambda folder: (folder / "pid").exists() and not (folder / "proof").exists(),
}


@pytest.mark.slow
@pytest.mark.parametrize("window", WINDOWS)
def test_five_kills_in_each_window_of_an_attempt(tmp_path: Path, window: str, undisturbed: list[tuple[object, ...]]) -> None:
    write_manifest(tmp_path, 0.0)
    inside = WINDOWS[window]
    hits = 0
    for _ in range(5):
        process = start(tmp_path, f"{window}:0.6")
        limit = time.monotonic() + LIMIT_S
        seen = {folder for folder in attempts(tmp_path) if (folder / "proof").exists()}
        while time.monotonic() < limit and process.poll() is None:
            if any(inside(folder) for folder in attempts(tmp_path) if folder not in seen):
                hits += 1
                break
            time.sleep(0.01)
        kill(process)
    assert hits == 5
    finish(tmp_path)
    check(tmp_path, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("turn", [0, *(pytest.param(turn, marks=pytest.mark.soak) for turn in range(1, 5))])
def test_killed_between_journal_and_snapshot(tmp_path: Path, turn: int, undisturbed: list[tuple[object, ...]]) -> None:
    write_manifest(tmp_path, 0.0)
    process = start(tmp_path, code=DIES_BEFORE_SNAPSHOT)
    out, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == -signal.SIGKILL, out + err
    finish(tmp_path)
    check(tmp_path, undisturbed)


@pytest.mark.slow
def test_a_lost_state_folder_is_adopted_from_the_machine(tmp_path: Path, undisturbed: list[tuple[object, ...]]) -> None:
    write_manifest(tmp_path, 0.0)
    finish(tmp_path)
    subprocess.run(["rm", "-r", str(tmp_path / "state")], check=True)
    plan = ask(tmp_path, "plan")["steps"]
    assert isinstance(plan, list)
    assert {step["action"] for step in plan} == {"adopt"}
    finish(tmp_path)
    assert [row[:2] for row in proven(tmp_path)] == [row[:2] for row in undisturbed]
    check(tmp_path, undisturbed)


@pytest.mark.slow
def test_a_state_folder_rebuilt_by_hand_needs_nothing_to_run(tmp_path: Path, undisturbed: list[tuple[object, ...]]) -> None:
    write_manifest(tmp_path, 0.0)
    finish(tmp_path)
    (tmp_path / "state" / "albor.lock.yaml").write_text("not a lock\n")
    done = subprocess.run(
        [sys.executable, "-m", "albor_pipeline", "state", "rebuild"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    check(tmp_path, undisturbed)
