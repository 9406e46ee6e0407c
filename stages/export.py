"""Export: a model folder that transformers loads, proven by its logits; knows no engine and trains nothing."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from stages.lib.checks import apart_check, disk_check
from stages.lib.config import Config as BaseConfig
from stages.lib.config import OutText, PathText
from stages.lib.device import choose
from stages.lib.files import canonical_json, digest_path, output_folder
from stages.lib.folders import model_checks, shape_in
from stages.lib.plan_text import size
from stages.lib.stage import Plan, Report, Run, StageError

if TYPE_CHECKING:
    from torch import Tensor

_TOLERANCE = 1e-5
_PROBE_TOKENS = 64


class Config(BaseConfig):
    """A model folder in, a Hugging Face folder out."""

    model: PathText
    out: OutText


def plan(config: Config) -> Plan:
    """Judges that the model is there and that the output has room."""
    shape = shape_in(Path(config.model))
    need_bytes = 4 * shape.parameters() if shape else 0
    written = f"{shape.architecture if shape else 'a model'}, safetensors in fp32, tokenizer   {size(need_bytes)}"
    return Plan(
        "export",
        (
            ("Model", (shape.text() if shape else config.model,)),
            ("Writes", (f"{config.out}: {written}",)),
            ("Proof", (f"logits of the written folder within {_TOLERANCE:g} of the model's",)),
        ),
        (*model_checks(config.model), apart_check(config.out, [config.model]), disk_check(config.out, need_bytes)),
        reads=(config.model,), writes=(config.out,),
        estimates={"parameters": shape.parameters() if shape else 0, "disk_bytes": need_bytes, "seconds": 5},
    )


def apply(config: Config, run: Run) -> Report:
    """Writes the folder, reads it back and compares logits; a difference leaves no output."""
    cpu = choose("cpu", "fp32", None).device

    import safetensors
    import torch

    from stages.lib import hf

    source, out = Path(config.model), Path(config.out)
    model = hf.read(source, cpu)
    eos_id = hf.end_of_text(source)
    ids = torch.arange(min(_PROBE_TOKENS, model.shape.max_position_embeddings))[None] * 31 % model.shape.vocab_size
    with torch.no_grad(), output_folder(out) as folder:
        hf.write(folder, model, hf.read_shape(source), source, {})
        generation = {"bos_token_id": eos_id, "eos_token_id": eos_id, "do_sample": False}
        (folder / "generation_config.json").write_bytes(canonical_json(generation))
        wanted = model(ids)
        worst = _difference(wanted, hf.read(folder, cpu)(ids), "the folder read back")
        run.progress(1, 2)
        by_peer = _difference(wanted, peer, "transformers") if (peer := _peer_logits(folder, ids)) is not None else None
        run.progress(2, 2)
    lines = [f"{config.out}: {model.shape.parameters():,} parameters, logits within {worst:.1e} when read back"]
    metrics: dict[str, float | int | str] = {"parameters": model.shape.parameters(), "logit_difference": worst}
    if by_peer is not None:
        lines.append(f"transformers.{model.shape.architecture} gives the same logits within {by_peer:.1e}")
        metrics["transformers_logit_difference"] = by_peer
    return Report(metrics, tuple(lines), {config.out: digest_path(out)},
                  {"torch": torch.__version__, "safetensors": safetensors.__version__})


def _peer_logits(folder: Path, ids: Tensor) -> Tensor | None:
    """What transformers computes, where it is installed."""
    if importlib.util.find_spec("transformers") is None:
        return None
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()

    return AutoModelForCausalLM.from_pretrained(folder, local_files_only=True).float().eval()(ids).logits


def _difference(wanted: Tensor, found: Tensor, who: str) -> float:
    worst = float((wanted - found).abs().max())
    if not worst <= _TOLERANCE:
        raise StageError(f"logits of {who} differ by {worst:.3g} from the model's, more than {_TOLERANCE:g}; "
                         "nothing was exported")
    return worst
