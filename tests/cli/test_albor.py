"""manifests/albor.yaml without its machines: it is valid, it plans, a target selects what it needs, and its training runs fit its data.

On two machines it is run in tests/testbed/test_albor.py.
"""

from __future__ import annotations

import json
import shutil
from typing import Any

import pytest
import yaml
from rules.project import ROOT

from albor_pipeline.manifest.load import load
from albor_pipeline.resources.task import Task
from cli.builder import Project
from stages.lib.load import load_file
from stages.lib.settings import PretrainConfig

SILENT = {"addr: localhost": "addr: 127.0.0.3", "intel: 10.0.0.12": "intel: 127.0.0.2"}
NEEDED = {
    "packages", "cuda-driver", "data-dir", "train-env", "data-env", "validate-contracts", "validate-configs", "ingest-local",
    "ingest-external", "data-mix", "split", "tokenize", "pack", "train-50m", "pretrain",
}  # fmt: skip
NOT_NEEDED = {
    "vulkan-driver", "teacher-model", "nfs-server", "exports", "nfs-service", "data-share", "checkpoint-share", "eval-base", "export-base",
}  # fmt: skip
ENVIRONMENTS = pytest.mark.parametrize("env", [(), ("--env", "tiny")], ids=["real", "tiny"])


@pytest.fixture
def project(project: Project) -> Project:
    """The project with its manifest, whose machines are addresses at which no server listens."""
    for part in ("stages", "contracts", "manifests/train", "tests/rules"):
        shutil.copytree(ROOT / part, project.root / part, ignore=shutil.ignore_patterns("__pycache__"))
    text = (ROOT / "manifests/albor.yaml").read_text()
    for old, new in SILENT.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return project.file("manifests/albor.yaml", text)


@ENVIRONMENTS
def test_it_is_valid_and_with_its_machines_off_every_step_is_unknown(project: Project, env: tuple[str, ...]) -> None:
    project.says("validate", *env, out="OK: albor-training-pipeline (2 machines, 24 resources)")
    said = project.run("plan", *env)
    assert said.exit == 6 and "Plan: 29 unknown.\n" in said.out, said
    assert {line.split("]")[0] for line in said.err.splitlines() if line.startswith("error")} == {"error[unreachable"}


@ENVIRONMENTS
def test_a_target_selects_what_it_needs_and_nothing_else(project: Project, env: tuple[str, ...]) -> None:
    assert "warning" not in project.run("plan", "--target", "pretrain", *env).err, "no card has been seen yet, and no processor is meant"
    steps = project.json("plan", "--target", "pretrain", *env, exit=6)["steps"]
    assert {step["resource_id"] for step in steps} == NEEDED
    assert {step["resource_id"] for step in project.json("plan", *env, exit=6)["steps"]} == NEEDED | NOT_NEEDED


def _with(params: dict[str, Any], value: Any) -> Any:
    text = json.dumps(value)
    for name, each in params.items():
        text = text.replace("{{params." + name + "}}", str(each))
    return json.loads(text)


@pytest.mark.parametrize("size", ["50m", "125m", "350m", "tiny"])
def test_every_training_run_reads_what_the_ladder_makes(size: str) -> None:
    document = yaml.safe_load((ROOT / "manifests/albor.yaml").read_text())
    params = document["params"] | (document["environments"]["tiny"]["params"] if size == "tiny" else {})
    tokenize, pack = (_with(params, document["resources"][name]["config"]) for name in ("tokenize", "pack"))
    path = ROOT / f"manifests/train/pretrain-{size}.yaml"
    config = load_file(PretrainConfig, "pretrain", path, [])
    same = load_file(PretrainConfig, "pretrain", path, [f"model.vocab_size={tokenize['vocab_size']}", f"data.seq_len={pack['seq_len']}"])
    assert (config.data.train, config.data.val) == (f"{pack['out']}/train", f"{pack['out']}/val")
    assert config.data.tokenizer == tokenize["out"] == pack["tokenizer"]
    assert config == same


@pytest.mark.parametrize("size", ["50m", "125m", "350m"])
def test_no_long_run_ends_by_one_bad_step_or_hides_what_goes_wrong(size: str) -> None:
    config = load_file(PretrainConfig, "pretrain", ROOT / f"manifests/train/pretrain-{size}.yaml", [])
    watch, training = config.watch, config.training
    assert watch.spikes is not None and watch.zclip is not None and watch.dead is not None and training.keep > 1
    assert 0 < watch.patience * training.eval_interval < training.max_steps
    assert {alert.condition for alert in config.monitoring.alerts} >= {"gradient_norm > 100"}


@pytest.mark.parametrize("name", ["train-50m", "pretrain"])
def test_a_long_run_that_hangs_is_noticed_and_made_again_and_one_that_is_ended_may_save(name: str) -> None:
    task = load(ROOT / "manifests/albor.yaml", fetch=lambda *_: {}).resources[name].fields
    assert isinstance(task, Task) and task.retry is not None
    assert task.heartbeat_s is not None and task.heartbeat_s >= 600 and {"hang", "gpu", "lost", "killed"} <= {*task.retry.on}
    assert task.grace >= 60
