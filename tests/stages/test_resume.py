"""A run that is killed and started again ends as one that was not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from support_data import ROOT, tree
from support_model import corpus, metrics, pretrain, settings

from stages.lib.files import digest_path

pytestmark = [pytest.mark.torch, pytest.mark.slow]

# Ends the process by SIGKILL at a named place; the argument is `place number`.
DYING = """
import os, sys
from stages import pretrain
from stages.lib import checkpoint, cli, files
from stages.lib.trainer import Trainer
place, number = sys.argv[1], int(sys.argv[2])
calls = []
def dying(original, after):
    def call(*a, **k):
        calls.append(1)
        if len(calls) == number and not after: os.kill(os.getpid(), 9)
        result = original(*a, **k)
        if len(calls) == number: os.kill(os.getpid(), 9)
        return result
    return call
if place == "step": Trainer.step = dying(Trainer.step, True)
if place == "before-sync": files.sync_tree = dying(files.sync_tree, False)
if place == "before-rename": files.sync_tree = dying(files.sync_tree, True)
if place == "weights": checkpoint.safetensors.torch.save_file = dying(checkpoint.safetensors.torch.save_file, True)
if place == "saved": checkpoint.save = dying(checkpoint.save, True)
sys.exit(cli.main(sys.argv[3:]))
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def undisturbed(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("undisturbed")
    pretrain(settings(data, folder / "out", **RUN), folder / "run")
    return tree(folder / "out")


# Three epochs long, so that every kill is followed by a change of epoch too.
RUN: dict[str, Any] = {"training__epochs": 3, "training__batch_size": 16, "training__max_steps": 10}


def command(data: Path, folder: Path, place: str, number: int, **changes: Any) -> list[str]:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(settings(data, folder / "out", **{**RUN, **changes})))
    return [sys.executable, "-c", DYING, place, str(number), "pretrain", "apply", str(folder / "config.json"),
            "--out", str(folder / f"run-{place}-{number}")]


def start(argv: list[str], folder: Path) -> subprocess.Popen[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "ALBOR_WORK": str(folder / "work")}
    return subprocess.Popen(argv, cwd=folder, env=env, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, err = process.communicate(timeout=120)
    return process.returncode, err


def test_the_corpus_is_read_in_several_epochs(data: Path) -> None:
    rows = json.loads((data / "packed/manifest.json").read_text())["train"]["rows"]
    assert rows // 32 < 10 <= 3 * (rows // 32), f"{rows} rows; choose RUN anew"


@pytest.mark.parametrize(("place", "number", "goes_on_from"), [
    pytest.param("step", 5, 0, marks=pytest.mark.soak), ("weights", 1, 0), pytest.param("before-sync", 2, 5, marks=pytest.mark.soak),
    ("saved", 1, 5), ("before-rename", 3, 10),
])
def test_ten_steps_are_five_a_kill_and_five_more(
    data: Path, tmp_path: Path, undisturbed: dict[str, bytes], place: str, number: int, goes_on_from: int,
) -> None:
    """ALB-096, ALB-118, ALB-120, U-2: killed in a step, in every part of a save, and before the model is written."""
    code, _ = finish(start(command(data, tmp_path, place, number), tmp_path))
    assert code == -signal.SIGKILL and not (tmp_path / "out").exists()
    code, err = finish(start(command(data, tmp_path, "nowhere", 0), tmp_path))
    assert code == 0, err
    assert (f"going on from step-{goes_on_from:08d}" in err) is (goes_on_from > 0)
    assert tree(tmp_path / "out") == undisturbed
    assert not [p.name for p in (tmp_path / "work/checkpoints").iterdir() if "partial" in p.name]


def test_two_kills_and_a_torn_checkpoint_change_nothing(
    data: Path, tmp_path: Path, undisturbed: dict[str, bytes],
) -> None:
    every = {"training__checkpoint_interval": 2, "training__keep": 3}
    finish(start(command(data, tmp_path, "step", 5, **every), tmp_path))
    torn = tmp_path / "work/checkpoints/step-00000004/moments.safetensors"
    torn.write_bytes(torn.read_bytes()[:-7])
    finish(start(command(data, tmp_path, "step", 6, **every), tmp_path))
    code, err = finish(start(command(data, tmp_path, "nowhere", 0, **every), tmp_path))
    assert code == 0 and "going on from step-00000006" in err
    assert tree(tmp_path / "out") == undisturbed


def test_sigterm_saves_where_it_is_and_says_so(data: Path, tmp_path: Path) -> None:
    long = {"training__epochs": 100_000, "training__max_steps": 100_000}
    process = start(command(data, tmp_path, "nowhere", 0, **long), tmp_path)
    log = tmp_path / "run-nowhere-0/metrics.jsonl"
    until = time.monotonic() + 60
    while time.monotonic() < until and not (log.exists() and '"lr"' in log.read_text()):
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    code, err = finish(process)
    assert code == 143 and "stopped by SIGTERM after step" in err
    step = int(err.split("after step ")[1].split(";")[0])
    assert (tmp_path / f"work/checkpoints/step-{step:08d}/index.json").is_file()
    assert not (tmp_path / "out").exists()


def test_going_on_writes_nothing_over_what_it_began_with(data: Path, tmp_path: Path) -> None:
    """ALB-132: the checkpoint a run resumed from was saved again, from other weights."""
    finish(start(command(data, tmp_path, "step", 7), tmp_path))
    source = tmp_path / "work/checkpoints/step-00000005"
    before, stamp = digest_path(source), source.stat().st_mtime_ns
    finish(start(command(data, tmp_path, "step", 2), tmp_path))
    finish(start(command(data, tmp_path, "nowhere", 0), tmp_path))
    assert (digest_path(source), source.stat().st_mtime_ns) == (before, stamp)


def test_the_rate_counts_only_steps_that_were_made(data: Path, tmp_path: Path) -> None:
    """U-1: after a restart, tokens that were skipped were counted as trained."""
    slow = {"training__max_steps": 40, "training__epochs": 20, "training__checkpoint_interval": 30}
    values = settings(data, tmp_path / "out", **{**RUN, **slow})
    pretrain(values, tmp_path / "fresh", tmp_path / "work-1")
    finish(start(command(data, tmp_path, "step", 31, **slow), tmp_path))
    pretrain(values, tmp_path / "again", tmp_path / "work")
    fresh, again = (
        [line for line in metrics(tmp_path / name) if "tokens_per_s" in line] for name in ("fresh", "again")
    )
    assert again[0]["step"] == 31
    # Thirty skipped steps would show the first one at about thirty times the rate; cores shared with others swing less.
    assert again[0]["tokens_per_s"] < 8 * max(line["tokens_per_s"] for line in fresh)
    assert again[-1]["eta_s"] == 0
