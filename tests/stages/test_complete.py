"""Complete: text from a model folder, the same each time, and every setting counts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support_data import ROOT, albor_stage, apply_of, write_config
from support_model import corpus, pretrain, settings

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = corpus(tmp_path_factory.mktemp("corpus"))
    values = settings(folder, folder / "model", training__max_steps=60, training__epochs=50)
    pretrain(values, folder / "run")
    return folder / "model"


def completed(model: Path, folder: Path, **values: object) -> str:
    return apply_of("complete", folder / "run", model=str(model), **values).headline[0]


def test_every_setting_changes_the_text_and_greedy_never_does(model: Path, tmp_path: Path) -> None:
    """U-11: temperature, seed and length were read and dropped."""
    greedy = completed(model, tmp_path, max_new_tokens=20)
    assert greedy == completed(model, tmp_path, max_new_tokens=20, seed=5)
    assert greedy.startswith("def ") and greedy.startswith(completed(model, tmp_path, max_new_tokens=10))
    assert completed(model, tmp_path, prompt="class ").startswith("class ")
    warm = completed(model, tmp_path, max_new_tokens=20, temperature=1.5)
    assert warm != greedy and warm == completed(model, tmp_path, max_new_tokens=20, temperature=1.5)
    assert warm != completed(model, tmp_path, max_new_tokens=20, temperature=1.5, seed=1)
    assert warm != completed(model, tmp_path, max_new_tokens=20, temperature=0.7)


def test_an_empty_prompt_and_one_beyond_the_context_are_answered(model: Path, tmp_path: Path) -> None:
    """ALB-111: an odd prompt hung the server."""
    assert completed(model, tmp_path, prompt="", max_new_tokens=8) is not None
    long = "x = 1\n" * 200
    assert completed(model, tmp_path, prompt=long, max_new_tokens=30).startswith(long)


def test_the_command_prints_the_text(model: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path, "complete.json", model=str(model), max_new_tokens=5)
    done = albor_stage("complete", "apply", config, "--set", 'prompt="import "', cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("import ")


@pytest.mark.parametrize("stage", ["pretrain", "evaluate", "export", "complete"])
def test_a_plan_loads_no_heavy_library(stage: str, tmp_path: Path) -> None:
    values = {"pretrain": settings(tmp_path, tmp_path / "out"), "complete": {"model": "m"},
              "evaluate": {"model": "m", "val_text": "t", "out": "o"}, "export": {"model": "m", "out": "o"}}[stage]
    config = write_config(tmp_path, f"{stage}.json", **values)
    code = ("import sys; from stages.lib import cli; code = cli.main(sys.argv[1:]); "
            "heavy = {'torch', 'numpy', 'pyarrow', 'tokenizers', 'transformers', 'safetensors'} & set(sys.modules); "
            "sys.exit(f'{code} {heavy}' if heavy or code else 0)")
    done = subprocess.run([sys.executable, "-c", code, stage, "plan", config], cwd=tmp_path, capture_output=True,
                          text=True, env={"PYTHONPATH": str(ROOT)}, check=False)
    assert done.returncode == 0, done.stderr
