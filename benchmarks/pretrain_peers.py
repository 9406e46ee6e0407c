"""The loops that `benchmarks.pretrain` runs beside the stage: NAME CONFIG LOG. Imports nothing of ours: a peer may have its own Python."""

from __future__ import annotations

import json
import math
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F


def rows_of(side: Path) -> Any:
    """Every row of a side."""
    return np.load(side.with_suffix(".npy")).astype("int64")


def hf(shape: dict[str, int]) -> tuple[Any, Any]:
    """Hugging Face's model as its users train it."""
    from transformers import LlamaConfig, LlamaForCausalLM

    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=shape["vocab_size"], hidden_size=shape["d_model"], intermediate_size=shape["ffn"], num_hidden_layers=shape["layers"],
        num_attention_heads=shape["heads"], num_key_value_heads=shape["kv_heads"], max_position_embeddings=shape["context"],
        rms_norm_eps=1e-5, tie_word_embeddings=True, use_cache=False, attn_implementation="sdpa"))
    return model, lambda ids: model(input_ids=ids).logits


def litgpt(shape: dict[str, int]) -> tuple[Any, Any]:
    """LitGPT's model, compiled as its trainer does."""
    from litgpt.config import Config
    from litgpt.model import GPT

    model = GPT(Config(
        name="x", n_layer=shape["layers"], n_embd=shape["d_model"], n_head=shape["heads"], n_query_groups=shape["kv_heads"],
        vocab_size=shape["vocab_size"], padded_vocab_size=shape["vocab_size"], block_size=shape["context"],
        intermediate_size=shape["ffn"], rotary_percentage=1.0, parallel_residual=False, bias=False, norm_class_name="RMSNorm",
        norm_eps=1e-5, mlp_class_name="LLaMAMLP"))
    model.lm_head.weight = model.transformer.wte.weight
    return model, torch.compile(model)


def init(model: Any, layers: int) -> None:
    """The start that our model has, in distribution."""
    for name, weight in model.named_parameters():
        if weight.ndim > 1:
            into_residual = name.endswith(("o_proj.weight", "down_proj.weight", "attn.proj.weight", "mlp.proj.weight"))
            torch.nn.init.normal_(weight, 0.0, 0.02 / math.sqrt(2 * layers) if into_residual else 0.02)


def main() -> None:
    """Trains, writing a line a step."""
    name, config, log = sys.argv[1], json.loads(Path(sys.argv[2]).read_text()), Path(sys.argv[3])
    training, optimizer, shape = config["training"], config["optimizer"], config["model"]
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")) if training["threads"] else os.cpu_count() or 1)
    torch.manual_seed(training["seed"])
    model, logits = {"hf": hf, "litgpt": litgpt}[name](shape)
    init(model, shape["layers"])
    rows, steps, peak = rows_of(Path(config["data"]["train"])), training["max_steps"], optimizer["lr"]
    held_out = rows_of(Path(config["data"]["val"]))
    adamw = torch.optim.AdamW(model.parameters(), lr=peak, betas=tuple(optimizer["betas"]), weight_decay=optimizer["weight_decay"])
    order = np.random.Generator(np.random.Philox(key=[training["seed"], 0])).permutation(len(rows))
    low = training["dtype"] == "bf16"
    with log.open("w") as out:
        for step in range(1, steps + 1):
            if training["schedule"] == "cosine":
                warm = training["warmup_steps"]
                done = 0.5 * (1 + math.cos(math.pi * (step - warm) / (steps - warm)))
                for group in adamw.param_groups:
                    group["lr"] = peak * (step / warm if step <= warm else done)
            places = order[np.arange((step - 1) * training["batch_size"], step * training["batch_size"]) % len(rows)]
            batch = torch.from_numpy(rows[places])
            with torch.autocast("cpu", torch.bfloat16, enabled=low):
                loss = F.cross_entropy(logits(batch[:, :-1]).flatten(0, 1).float(), batch[:, 1:].flatten())
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            adamw.step()
            adamw.zero_grad(set_to_none=True)
            out.write(json.dumps({"step": step, "loss": loss.item()}) + "\n")
            out.flush()
        model.eval()
        with torch.no_grad():
            told = [F.cross_entropy(logits(torch.from_numpy(part[:, :-1])).flatten(0, 1).float(), torch.from_numpy(part[:, 1:]).flatten())
                    for part in np.array_split(held_out, 4)]
        out.write(json.dumps({"step": steps, "val": float(torch.stack(told).mean())}) + "\n")


if __name__ == "__main__":
    main()
