"""The plan's memory against what torch keeps and what the process then holds."""

from __future__ import annotations

import gc
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support_data import ROOT, albor_stage, plan_of, write_config
from support_model import drawn_rows, settings

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

from stages.lib.device import Compute  # noqa: E402
from stages.lib.loss import loss_sum  # noqa: E402
from stages.lib.memory import Memory, memory  # noqa: E402
from stages.lib.model import Llama  # noqa: E402
from stages.lib.settings import OptimizerConfig, TrainingConfig  # noqa: E402
from stages.lib.shape import Shape  # noqa: E402

SHAPE = {"d_model": 64, "layers": 2, "heads": 4, "kv_heads": 2, "ffn": 176, "vocab_size": 512, "context": 512}
TOLERANCE, WITHOUT_HOLES = 0.10, 0.05
NO_HOLES = {"MALLOC_MMAP_THRESHOLD_": "65536"}


def kept_by_autograd(shape: Shape, rows: int, seq_len: int, bf16: bool, masked: bool) -> int:
    """Bytes of everything that torch stores for the way back and that is no weight, each storage once."""
    model = Llama(shape, seed=1)
    ids = torch.randint(0, shape.vocab_size, (rows, seq_len), generator=torch.Generator().manual_seed(1))
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    seen: dict[int, Any] = {}

    def look(tensor: Any) -> Any:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            seen.setdefault(storage.data_ptr(), storage)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(look, lambda tensor: tensor):
        loss_sum(model, ids[:, :-1], ids[:, 1:], Compute(torch.device("cpu"), bf16), 0 if masked else None)
    return sum(storage.nbytes() for storage in seen.values())


def needed_of(
    shape: Shape, rows: int, seq_len: int, *, bf16: bool, masked: bool = False, accumulation: int = 1, again: bool = False,
) -> Memory:
    training = TrainingConfig(max_steps=9, batch_size=rows, accumulation=accumulation, document_mask=masked,
                              activation_checkpointing=again)
    return memory(shape, training, seq_len, bf16=bf16, on_cpu=True)


@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
@pytest.mark.parametrize("bf16", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize("values", [{}, {"kv_heads": 4}, {"qk_norm": True}, {"tied": False}, {"layers": 5, "d_model": 128, "ffn": 100}])
def test_activations_are_what_torch_keeps_for_the_way_back(values: dict[str, Any], bf16: bool, masked: bool) -> None:
    """Within a hundredth: only rotary tables of a few rows are not counted. What the head keeps is no activation: see `head`."""
    shape = Shape(**{**SHAPE, **values})
    kept = kept_by_autograd(shape, 3, 41, bf16, masked)
    counted = needed_of(shape, 3, 41, bf16=bf16, masked=masked).parts["activations"]
    assert counted == pytest.approx(kept, rel=0.01)


def test_nothing_of_a_micro_batch_is_held_when_the_next_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gradient of the head, the largest tensor there is, was held until the loss of the next micro-batch was made."""
    from stages.lib import trainer
    from stages.lib.loader import Loader

    held: list[int] = []
    made = trainer.loss_sum

    def looked(*given: Any, **named: Any) -> Any:
        held.append(sum(one.nbytes for one in gc.get_objects() if type(one) in (torch.Tensor, torch.nn.Parameter)))
        return made(*given, **named)

    monkeypatch.setattr(trainer, "loss_sum", looked)
    lines = torch.randint(0, SHAPE["vocab_size"], (12, 33)).numpy().astype("uint16")
    training = TrainingConfig(max_steps=1, batch_size=3, accumulation=4)
    compute = Compute(torch.device("cpu"), False)
    trainer.Trainer(Llama(Shape(**SHAPE), 1), Loader(lines, 12, 1, None), OptimizerConfig(lr=1e-3), training, compute).gradients(1)
    assert max(held) - held[0] < 1000, held


def drawn(seed: int) -> list[dict[str, Any]]:
    """Three shapes and batches, with and without accumulation, tied and untied."""
    dice = random.Random(seed)
    found = []
    for accumulation in (1, 2, 1):
        head = dice.choice([32, 64])
        heads = dice.choice([4, 6])
        shape = {"d_model": head * heads, "heads": heads, "kv_heads": dice.choice([2, heads]), "layers": dice.randint(4, 7),
                 "ffn": dice.choice([512, 768, 1024]), "vocab_size": dice.choice([8192, 12288, 16384]), "context": 512,
                 "tied": dice.random() < 0.5, "qk_norm": dice.random() < 0.5}
        found.append({"shape": shape, "rows": dice.randint(6, 9), "seq_len": dice.choice([192, 256]), "accumulation": accumulation})
    return found


def measure(shape: dict[str, Any], rows: int, seq_len: int, accumulation: int, device: str) -> int:
    """Bytes at the peak of three steps, beyond those held once libraries are loaded and a tiny model has stepped."""
    import numpy as np

    from stages.lib.device import choose
    from stages.lib.loader import Loader
    from stages.lib.trainer import Trainer

    compute = choose("cuda" if device == "cuda" else "cpu", "bf16" if device == "cuda" else "fp32", 1)

    def steps(one: Shape, batch: int, length: int, cycle: int) -> None:
        lines = np.random.Generator(np.random.Philox(key=1)).integers(0, one.vocab_size, (batch * cycle * 3, length), dtype=np.uint16)
        training = TrainingConfig(max_steps=3, batch_size=batch, accumulation=cycle)
        trainer = Trainer(Llama(one, 1), Loader(lines, batch * cycle, 1, None), OptimizerConfig(lr=1e-3), training, compute)
        for step in (1, 2, 3):
            trainer.gradients(step)
            trainer.update(1e-3, None)

    steps(Shape(**{**SHAPE, "d_model": 16, "heads": 2, "ffn": 16}), 2, 16, 2)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        steps(Shape(**shape), rows, seq_len, accumulation)
        return int(torch.cuda.max_memory_allocated())
    before = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    steps(Shape(**shape), rows, seq_len, accumulation)
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(peak.split()[1]) * 1024 - before


def measured(case: dict[str, Any], device: str, environ: dict[str, str] | None = None) -> int:
    """`measure` in a process of its own."""
    code = "import json, sys, test_memory as t; print(t.measure(**json.loads(sys.argv[1])))"
    done = subprocess.run([sys.executable, "-c", code, json.dumps({**case, "device": device})], capture_output=True, text=True,
                          check=True, env={**os.environ, "PYTHONPATH": f"{ROOT}:{Path(__file__).parent}", **(environ or {})})
    return int(done.stdout.split()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("number", [pytest.param(0, marks=pytest.mark.soak), 1, pytest.param(2, marks=pytest.mark.soak)])
def test_the_tensors_of_three_drawn_shapes_are_those_of_the_plan(number: int) -> None:
    """At the fullest moment of a step, where the C library gives back what is freed."""
    seed = random.SystemRandom().randrange(10**6)
    case = drawn(seed)[number]
    needed = needed_of(Shape(**case["shape"]), case["rows"], case["seq_len"], bf16=False, accumulation=case["accumulation"])
    held = measured(case, "cpu", NO_HOLES)
    print(f"seed {seed} {case}: planned {needed.live_bytes:,}, held {held:,}, ratio {needed.live_bytes / held:.3f}")
    assert needed.live_bytes == pytest.approx(held, rel=WITHOUT_HOLES), (seed, case, dict(needed.parts))


def held_and_planned(shape: dict[str, Any], seq_len: int, training: dict[str, Any], folder: Path) -> tuple[int, int]:
    """Bytes of a stage's process by the kernel's mark, its libraries, validation, checkpoints and the holes of its heap; and as planned."""
    data = drawn_rows(folder, shape["vocab_size"], seq_len, 80)
    values = settings(data, folder / "out", model=shape, data__seq_len=seq_len, training__threads=2, training__compile=False)
    values["training"] |= {"batch_size": 8, "accumulation": 1, "max_steps": 4, "warmup_steps": 0, "eval_interval": 2, **training}
    config, compiles_anew = write_config(folder, "config.json", **values), {"TORCHINDUCTOR_CACHE_DIR": str(folder / "compiled")}
    done = albor_stage("pretrain", "apply", config, "--out", "run", cwd=folder, environ=compiles_anew)
    assert done.returncode == 0, done.stderr
    held = int(json.loads((folder / "run/result.json").read_text())["metrics"]["peak_memory_bytes"])
    planned = int(plan_of("pretrain", **values).estimates["memory_bytes"])
    print(f"{shape} {training}: planned {planned:,}, held {held:,}, ratio {planned / held:.3f}")
    return held, planned


@pytest.mark.slow
@pytest.mark.parametrize(("number", "training"), [
    (0, {"checkpoint_interval": 2}), (1, {"dtype": "bf16"}), pytest.param(2, {}, marks=pytest.mark.soak),
])
def test_what_a_whole_process_holds_is_within_a_tenth_of_the_plan(number: int, training: dict[str, Any], tmp_path: Path) -> None:
    """Of three shapes drawn anew each time."""
    seed = random.SystemRandom().randrange(10**6)
    case = drawn(seed)[number]
    chosen = {"batch_size": case["rows"], "accumulation": case["accumulation"], **training}
    held, planned = held_and_planned(case["shape"], case["seq_len"], chosen, tmp_path)
    assert planned == pytest.approx(held, rel=TOLERANCE), seed


SIZES = {
    "2M": {"layers": 4, "d_model": 128, "heads": 4, "kv_heads": 2, "ffn": 384, "vocab_size": 8192, "context": 257},
    "8M": {"layers": 6, "d_model": 256, "heads": 8, "kv_heads": 4, "ffn": 1024, "vocab_size": 8192, "context": 257},
    "20M": {"layers": 8, "d_model": 384, "heads": 6, "kv_heads": 2, "ffn": 1024, "vocab_size": 16384, "context": 257},
}


@pytest.mark.soak
@pytest.mark.slow
@pytest.mark.parametrize(("name", "training"), [
    ("2M", {"checkpoint_interval": 2}), ("8M", {"checkpoint_interval": 2}), ("8M", {"accumulation": 2, "dtype": "bf16"}), ("20M", {}),
    ("2M", {"compile": True}), ("8M", {"compile": True}), ("20M", {"compile": True, "dtype": "bf16"}),
])
def test_what_a_whole_process_of_a_known_size_holds_is_within_a_tenth_of_the_plan(
    name: str, training: dict[str, Any], tmp_path: Path,
) -> None:
    """The shapes of docs/performance.md, also compiled."""
    held, planned = held_and_planned(SIZES[name], 257, training, tmp_path)
    assert planned == pytest.approx(held, rel=TOLERANCE)


@pytest.mark.slow
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device to measure on")
def test_the_peak_on_a_gpu_is_within_a_tenth_of_the_plan() -> None:
    seed = random.SystemRandom().randrange(10**6)
    for case in drawn(seed):
        training = TrainingConfig(max_steps=9, batch_size=case["rows"], accumulation=case["accumulation"])
        needed = memory(Shape(**case["shape"]), training, case["seq_len"], bf16=True, on_cpu=False)
        assert needed.live_bytes == pytest.approx(measured(case, "cuda"), rel=TOLERANCE), (seed, case)
