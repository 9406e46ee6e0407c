"""Export: a folder that transformers loads with our logits, or none."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from support_data import apply_of, plan_of, tree
from support_model import SHAPE, corpus, pretrain, settings

from stages.lib.stage import StageError

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module", params=[True, False], ids=["tied", "untied"])
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = corpus(tmp_path_factory.mktemp("corpus"))
    model = {**SHAPE, "tie_word_embeddings": request.param, "rope_theta": 300.0}
    pretrain(settings(folder, folder / "model", model=model), folder / "run")
    return folder


def export(trained: Path, out: Path, **values: Any) -> Any:
    return apply_of("export", out.parent / f"{out.name}.run", **{"model": str(trained / "model"), "out": str(out), **values})


def test_transformers_loads_it_with_our_logits_and_its_tokenizer(trained: Path, tmp_path: Path) -> None:
    """ALB-033, ALB-086, ALB-108: shapes, layout of the head, a tokenizer the next tool cannot read."""
    transformers = pytest.importorskip("transformers")
    import torch

    from stages.lib import hf

    report = export(trained, tmp_path / "hf")
    peer = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "hf", local_files_only=True).float()
    assert type(peer).__name__ == "LlamaForCausalLM"
    ours = hf.read(trained / "model", torch.device("cpu"))
    words = transformers.AutoTokenizer.from_pretrained(tmp_path / "hf", local_files_only=True)
    text = "def function_1(value, name):\n    return"
    line = torch.tensor([words(text)["input_ids"][:16]])
    assert words.decode(words(text)["input_ids"]) == text
    assert float((peer(line).logits - ours(line)).abs().max()) <= 1e-5
    assert report.metrics["transformers_logit_difference"] <= 1e-5
    assert any("transformers" in line for line in report.headline)


def test_a_model_with_options_is_trained_and_exported_as_the_class_that_computes_it(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    corpus(tmp_path)
    scaling = {"rope_type": "llama3", "factor": 2.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
               "original_max_position_embeddings": 8}
    model = {**SHAPE, "tied": False, "qk_norm": True, "rope_scaling": scaling}
    for masked in (False, True):
        pretrain(settings(tmp_path, tmp_path / f"model{masked}", model=model, training__document_mask=masked),
                 tmp_path / f"run{masked}")
    assert tree(tmp_path / "modelFalse")["model.safetensors"] != tree(tmp_path / "modelTrue")["model.safetensors"]
    (tmp_path / "modelTrue").rename(tmp_path / "model")
    report = export(tmp_path, tmp_path / "hf")
    assert any("Qwen3ForCausalLM gives the same logits" in line for line in report.headline)
    peer = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "hf", local_files_only=True)
    assert type(peer).__name__ == "Qwen3ForCausalLM"
    told = json.loads((tmp_path / "model/training.json").read_text())["made_with"]
    assert (told["training.document_mask"], told["model.qk_norm"]) == ("True", "True")


def test_an_option_that_is_off_is_not_named_so_that_older_checkpoints_go_on(trained: Path) -> None:
    told = json.loads((trained / "model/training.json").read_text())["made_with"]
    assert {key for key in told if key.startswith("watch.")} == set()
    assert not {"training.document_mask", "training.ema", "training.compile", "optimizer.name", "model.qk_norm"} & told.keys()
    assert not {"qk_norm", "rope_scaling"} & json.loads((trained / "model/config.json").read_text()).keys()


def test_greedy_text_is_that_of_transformers(trained: Path, tmp_path: Path) -> None:
    """ALB-089: one reader of the weights wrote other text than another."""
    transformers = pytest.importorskip("transformers")
    import torch

    from stages.lib import hf
    from stages.lib.sample import generate

    export(trained, tmp_path / "hf")
    peer = transformers.LlamaForCausalLM.from_pretrained(tmp_path / "hf", local_files_only=True).float()
    ours = generate(hf.read(tmp_path / "hf", torch.device("cpu")), [40, 41], 10, eos_id=0)
    theirs = peer.generate(torch.tensor([[0, 40, 41]]), max_new_tokens=10, do_sample=False, pad_token_id=1)[0, 3:].tolist()
    assert ours == [token for token in theirs if token != 0]


def test_equal_models_give_equal_bytes_and_only_what_a_reader_needs(trained: Path, tmp_path: Path) -> None:
    export(trained, tmp_path / "a")
    export(trained, tmp_path / "b")
    files = tree(tmp_path / "a")
    assert files == tree(tmp_path / "b")
    assert {"config.json", "model.safetensors", "tokenizer.json", "generation_config.json"} <= set(files)
    told = json.loads(files["config.json"])
    assert (told["architectures"], told["torch_dtype"]) == (["LlamaForCausalLM"], "float32")


def test_a_folder_whose_logits_differ_is_not_left_there(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    """U-7: a step that did nothing, or wrong, reported success."""
    import torch

    from stages.lib import hf

    write = hf.write

    def harmed(folder: Path, model: Any, *rest: Any) -> None:
        kept = model.model.norm.weight.detach().clone()
        model.model.norm.weight.data.mul_(1.01)
        write(folder, model, *rest)
        with torch.no_grad():
            model.model.norm.weight.copy_(kept)

    monkeypatch.setattr(hf, "write", harmed)
    with pytest.raises(StageError, match="nothing was exported"):
        export(trained, tmp_path / "hf")
    assert not (tmp_path / "hf").exists()


@pytest.mark.parametrize("harm", ["missing", "extra", "shape"])
def test_weights_that_do_not_fit_their_config_are_named(trained: Path, tmp_path: Path, harm: str) -> None:
    import safetensors.torch
    import torch

    shutil.copytree(trained / "model", tmp_path / "model")
    file = tmp_path / "model/model.safetensors"
    weights = safetensors.torch.load_file(file)
    name = "model.layers.0.mlp.up_proj.weight"
    if harm == "extra":
        weights["model.layers.7.mlp.up_proj.weight"] = torch.zeros(2, 2)
    else:
        held = weights.pop(name)
        weights |= {name: held.flatten()} if harm == "shape" else {}
    safetensors.torch.save_file(weights, file)
    with pytest.raises(StageError, match=r"mlp\.up_proj\.weight"):
        export(trained, tmp_path / "hf", model=str(tmp_path / "model"))


def test_plan_says_what_is_not_there_yet_and_what_is_wrong(trained: Path, tmp_path: Path) -> None:
    found = plan_of("export", model=str(tmp_path / "none"), out=str(tmp_path / "hf"))
    assert found.ok and [c.name for c in found.checks if c.level == "when-ready"] == ["model"]
    assert not plan_of("export", model=str(trained / "model"), out=str(trained / "model/hf")).ok
