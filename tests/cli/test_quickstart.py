"""The whole small ladder through the real command, on a few files: it runs, it is a no-op, and each change re-runs exactly what it must."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.torch, pytest.mark.slow]

PROJECT = Path(__file__).resolve().parent.parent.parent
MANIFEST = "manifests/quickstart.yaml"
PRETRAIN = "manifests/train/pretrain-quickstart.yaml"
LADDER = ["ingest", "split", "tokenize", "pack", "pretrain", "evaluate", "export"]
SMALL = {
    PRETRAIN: {
        "max_steps": 30, "warmup_steps": 3, "eval_interval": 10, "checkpoint_interval": 10, "layers": 1, "d_model": 32, "ffn": 64,
        "vocab_size": 512, "seq_len": 64, "context": 64,
    },
    "manifests/train/evaluate-quickstart.yaml": {"stride": 32, "max_new_tokens": 8},
    MANIFEST: {"source": "corpus", "vocab_size": 512, "seq_len": 64, "val_permille": 200},
}  # fmt: skip
CORPUS = ("    outputs: [data/quickstart/raw]", "    inputs: [corpus]\n    outputs: [data/quickstart/raw]")


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text, f"{old} is not in {path.name}"
    path.write_text(text.replace(old, new))


def shrink(path: Path, key: str, value: object) -> None:
    text, count = re.subn(rf"\b{key}: [^\s,}}]+", f"{key}: {value}", path.read_text())
    assert count, f"{key} is not in {path.name}"
    path.write_text(text)


def albor(root: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "albor_pipeline", *argv]
    return subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, check=False)


def planned(root: Path) -> dict[str, tuple[str, str]]:
    """What a plan would do to each resource, and why; the unchanged ones are left out."""
    done = albor(root, "plan", MANIFEST, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    steps: list[dict[str, Any]] = json.loads(done.stdout)["steps"]
    return {step["resource_id"]: (step["action"], step["reason"]["text"]) for step in steps if step["action"] != "skip"}


def applied(root: Path) -> list[str]:
    """The resources that one apply ran, in order."""
    done = albor(root, "apply", MANIFEST, "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    return [line.split()[2] for line in done.stderr.splitlines() if line[2:3] == ":" and " running" in line]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with a small corpus and a small model, applied once."""
    root = tmp_path_factory.mktemp("quickstart")
    for name in ("manifests", "stages"):
        shutil.copytree(PROJECT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name, values in SMALL.items():
        for key, value in values.items():
            shrink(root / name, key, value)
    replace(root / MANIFEST, *CORPUS)
    library = Path(sysconfig.get_path("stdlib"))
    for package in ("json", "email", "html", "logging", "urllib"):
        shutil.copytree(library / package, root / "corpus" / package, ignore=shutil.ignore_patterns("__pycache__"))
    assert applied(root) == LADDER
    return root


def test_nothing_to_do_in_under_a_second_beside_the_floor(root: Path) -> None:
    began = time.perf_counter()
    bare = subprocess.run([sys.executable, "-c", "pass"], check=True)
    floor = time.perf_counter() - began
    assert bare.returncode == 0
    began = time.perf_counter()
    done = albor(root, "apply", MANIFEST)
    took = time.perf_counter() - began
    assert done.stdout == f"Nothing to do: {len(LADDER)} unchanged.\n"
    assert took < max(1.0, 60 * floor)


@pytest.mark.soak
def test_the_table_at_the_end_names_artifacts_figures_and_the_next_command(root: Path) -> None:
    config = "config: { model: models/quickstart/base,"
    replace(root / MANIFEST, config, f"env: {{ ONCE: more }}\n    {config}")
    done = albor(root, "apply", MANIFEST)
    for text in ("models/quickstart/hf", "blake3:", "bits per byte", "xz -9e", "to type next:  albor-stage complete apply"):
        assert text in done.stdout


@pytest.mark.soak
def test_a_changed_learning_rate_runs_pretrain_and_what_follows(root: Path) -> None:
    before = next(line for line in (root / PRETRAIN).read_text().splitlines() if line.startswith("  lr: ")).split()[1]
    shrink(root / PRETRAIN, "lr", "5e-4")
    plan = planned(root)
    assert plan["pretrain"] == ("rerun", f"config.optimizer.lr {before} -> 5e-4")
    assert {name: action for name, (action, _) in plan.items()} == {"pretrain": "rerun", "evaluate": "may_run", "export": "may_run"}
    assert applied(root) == ["pretrain", "evaluate", "export"]


def test_a_statement_in_export_runs_export_only_and_a_comment_nothing(root: Path) -> None:
    path = root / "stages" / "export.py"
    path.write_text(path.read_text() + "\n# a comment costs nothing\n")
    assert planned(root) == {}
    path.write_text(path.read_text() + "\n_A_STATEMENT = 1\n")
    assert planned(root) == {"export": ("rerun", "code stages/export.py changed")}
    assert applied(root) == ["export"]


def test_one_flipped_byte_of_one_shard_is_named(root: Path) -> None:
    shard = next((root / "data" / "quickstart" / "packed" / "train").glob("shard-*.arrow"))
    body = bytearray(shard.read_bytes())
    body[len(body) // 2] ^= 1
    shard.write_bytes(bytes(body))
    name = str(shard.relative_to(root))
    action, reason = planned(root)["pack"]
    assert action == "rerun"
    assert name in reason and "modified" in reason
    drift = albor(root, "drift", MANIFEST)
    assert (drift.returncode, name in drift.stdout) == (4, True)
    refused = albor(root, "apply", MANIFEST)
    assert refused.returncode == 1
    assert "--yes" in refused.stderr and name in refused.stderr
    assert applied(root) == ["pack"]
    kept = list((root / ".albor" / "kept").rglob("shard-*.arrow"))
    assert [path.read_bytes() for path in kept if path.name == shard.name] == [bytes(body)]


def test_a_lost_state_folder_trains_nothing(root: Path) -> None:
    shutil.rmtree(root / "state")
    assert {action for action, _ in planned(root).values()} == {"adopt"}
    assert applied(root) == []
    assert planned(root) == {}


def test_a_typo_costs_a_second_not_a_week(root: Path) -> None:
    replace(root / PRETRAIN, "optimizer:", "optimiser:")
    done = albor(root, "plan", MANIFEST)
    assert done.returncode == 1
    assert "did you mean `optimizer`?" in done.stderr
    assert "Traceback" not in done.stderr
    replace(root / PRETRAIN, "optimiser:", "optimizer:")
