"""Models as Hugging Face folders, written and read; knows no training and never imports transformers."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from torch import Tensor

from stages.lib.files import canonical_json
from stages.lib.folders import END_OF_TEXT
from stages.lib.model import Llama
from stages.lib.shape import Shape, shape_of_hf
from stages.lib.stage import StageError
from stages.lib.strict_json import read_object

WEIGHTS, CONFIG = "model.safetensors", "config.json"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


def hf_config(shape: Shape, eos_id: int) -> dict[str, Any]:
    """config.json as transformers' class `shape.architecture` reads it; an option that is off is not named in it."""
    kind = {"model_type": "qwen3", "use_sliding_window": False} if shape.qk_norm else {"model_type": "llama", "mlp_bias": False}
    return {
        **shape.model_dump(exclude={"qk_norm"}, exclude_none=True), **kind,
        "architectures": [shape.architecture], "hidden_act": "silu", "head_dim": shape.head_dim,
        "attention_bias": False, "attention_dropout": 0.0, "initializer_range": 0.02,
        "bos_token_id": eos_id, "eos_token_id": eos_id, "torch_dtype": "float32", "use_cache": True,
    }


def write(folder: Path, model: Llama, shape: Shape, tokenizer: Path, extra: Mapping[str, Any]) -> None:
    """Fills `folder` (which exists) with config, weights in fp32, the tokenizer's files and `extra` JSON files.

    Equal weights give equal bytes. A tied head is written once, as Hugging Face does.
    """
    weights = {name: w.detach().float().cpu().contiguous() for name, w in model.named_parameters()}
    safetensors.torch.save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    (folder / CONFIG).write_bytes(canonical_json(hf_config(shape, end_of_text(tokenizer))))
    for name in TOKENIZER_FILES:
        if (tokenizer / name).is_file():
            shutil.copyfile(tokenizer / name, folder / name)
    for name, value in extra.items():
        (folder / name).write_bytes(canonical_json(value))


def read_shape(folder: Path) -> Shape:
    """The shape in config.json; StageError when it is not there or no LLaMA of ours."""
    try:
        return shape_of_hf(read_object(folder / CONFIG))
    except ValidationError as fault:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in fault.errors())
        raise StageError(f"{folder / CONFIG}: {wrong}") from None
    except ValueError as fault:
        raise StageError(f"{folder / CONFIG}: {fault}") from None


def read(folder: Path, device: torch.device) -> Llama:
    """The model in `folder`, in fp32 on `device`; StageError when config and weights do not fit together."""
    model = Llama(read_shape(folder))
    fill(model, folder)
    return model.to(device).eval()


def fill(model: Llama, folder: Path) -> None:
    """Puts the weights of `folder` into `model`, every one; StageError naming each that is missing, extra or misshapen."""
    try:
        saved = safetensors.torch.load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as fault:
        raise StageError(f"cannot read {folder / WEIGHTS}: {fault}") from None
    wanted = dict(model.named_parameters())
    _drop_tied_copy(saved, wanted, folder)
    wrong = [f"{name} is missing" for name in wanted.keys() - saved.keys()]
    wrong += [f"{name} is not part of this model" for name in saved.keys() - wanted.keys()]
    wrong += [
        f"{name} is {tuple(saved[name].shape)}, not {tuple(weight.shape)}"
        for name, weight in wanted.items() if name in saved and saved[name].shape != weight.shape
    ]
    if wrong:
        raise StageError(f"{folder / WEIGHTS} does not fit its {CONFIG}: {'; '.join(sorted(wrong)[:5])}")
    with torch.no_grad():
        for name, weight in wanted.items():
            weight.copy_(saved[name])


def end_of_text(tokenizer: Path) -> int:
    """The id of <|endoftext|>; StageError when the tokenizer has none."""
    for token in read_object(tokenizer / "tokenizer.json").get("added_tokens", []):
        if token.get("content") == END_OF_TEXT:
            return int(token["id"])
    raise StageError(f"{tokenizer / 'tokenizer.json'} has no {END_OF_TEXT}")


def _drop_tied_copy(saved: dict[str, Tensor], wanted: Mapping[str, Tensor], folder: Path) -> None:
    """Other writers repeat a tied head; it is taken only when it is the embedding."""
    if "lm_head.weight" in saved and "lm_head.weight" not in wanted:
        head = saved.pop("lm_head.weight")
        if not torch.equal(head, saved.get("model.embed_tokens.weight", torch.empty(0))):
            raise StageError(f"{folder / WEIGHTS}: the head is said to be tied, but is not the embedding")
