"""Complete: continue a piece of Python with a model folder; knows no engine and writes no file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from stages.lib.config import Config as BaseConfig
from stages.lib.config import HumanFloat, HumanInt, PathText
from stages.lib.device import DeviceName, choose
from stages.lib.folders import model_checks, shape_in
from stages.lib.stage import Plan, Report, Run


class Config(BaseConfig):
    """Temperature 0 takes the likeliest token; above it, `seed` decides."""

    model: PathText
    prompt: str = "def "
    max_new_tokens: Annotated[HumanInt, Field(ge=1)] = 64
    temperature: Annotated[HumanFloat, Field(ge=0)] = 0.0
    seed: Annotated[HumanInt, Field(ge=0)] = 0
    device: DeviceName = "auto"
    threads: Annotated[HumanInt, Field(ge=1)] | None = None


def plan(config: Config) -> Plan:
    """Judges that the model is there."""
    shape = shape_in(Path(config.model))
    how = "greedy" if config.temperature == 0 else f"temperature {config.temperature:g}, seed {config.seed}"
    return Plan(
        "complete",
        (
            ("Model", (shape.text() if shape else config.model,)),
            ("Prompt", (repr(config.prompt), f"up to {config.max_new_tokens} tokens more, {how}")),
        ),
        tuple(model_checks(config.model)), reads=(config.model,), writes=(),
        estimates={"parameters": shape.parameters() if shape else 0, "tokens": config.max_new_tokens, "seconds": 3},
    )


def apply(config: Config, run: Run) -> Report:
    """The headline is the prompt and what the model adds to it."""
    compute = choose(config.device, "fp32", config.threads)

    import torch

    from stages.lib import hf
    from stages.lib.sample import generate
    from stages.lib.words import encode, open_words

    folder = Path(config.model)
    words, model = open_words(folder), hf.read(folder, compute.device)
    new = generate(
        model, encode(words, [config.prompt])[0], config.max_new_tokens, eos_id=hf.end_of_text(folder),
        temperature=config.temperature, seed=config.seed,
    )
    run.progress(1, 1)
    return Report({"tokens": len(new)}, (config.prompt + words.decode(new),), {}, {"torch": torch.__version__}, config.seed)
