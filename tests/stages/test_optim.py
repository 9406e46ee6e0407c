"""One optimizer step: clipping, groups, accumulation, moments."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

from stages.lib import optim  # noqa: E402
from stages.lib.device import Compute  # noqa: E402
from stages.lib.loader import Loader  # noqa: E402
from stages.lib.model import Llama  # noqa: E402
from stages.lib.settings import OptimizerConfig, TrainingConfig  # noqa: E402
from stages.lib.shape import Shape  # noqa: E402
from stages.lib.trainer import Trainer  # noqa: E402

SHAPE = Shape(d_model=32, layers=2, heads=4, kv_heads=2, ffn=48, vocab_size=290, context=16)
ROWS = np.random.Generator(np.random.Philox(key=1)).integers(0, 290, (64, 16)).astype("uint16")


def trainer(batch_size: int, accumulation: int, **values: Any) -> Trainer:
    torch.set_num_threads(1)
    training = TrainingConfig(max_steps=7, batch_size=batch_size, accumulation=accumulation, threads=1, **values)
    loader = Loader(ROWS, training.rows_per_step, 1, values.pop("pad_id", None))
    return Trainer(Llama(SHAPE, seed=1), loader, OptimizerConfig(lr=0.01), training, Compute(torch.device("cpu"), False))


def step(one: Trainer, number: int) -> Any:
    """One whole step at the schedule's rate; what its gradients showed."""
    found = one.gradients(number)
    one.update(one.training.lr_at(number, 0.01), one.training.grad_clip)
    return found


def test_clipping_scales_all_gradients_together_as_torch_does() -> None:
    """ALB-124: gradients were scaled by the square of the norm, one layer at a time."""
    layer = torch.nn.Linear(2, 2)
    layer.weight.grad, layer.bias.grad = torch.tensor([[6.0, 0.0], [0.0, 0.0]]), torch.tensor([8.0, 0.0])
    found = optim.norm(layer)
    assert float(found) == pytest.approx(10.0)
    optim.clip(layer, found, 1.0)
    assert layer.weight.grad[0, 0] == pytest.approx(0.6)
    assert layer.bias.grad[0] == pytest.approx(0.8)
    found = optim.norm(layer)
    optim.clip(layer, found, 2.0)
    assert float(found) == pytest.approx(1.0) and layer.bias.grad[0] == pytest.approx(0.8), "a short gradient is not made longer"


def test_one_configuration_reaches_every_group_and_only_matrices_decay() -> None:
    """ALB-044: a second optimizer had other betas and decay."""
    model = Llama(SHAPE, seed=1)
    settings = OptimizerConfig(lr=0.005, betas=(0.8, 0.9), eps=1e-6, weight_decay=0.3)
    built = optim.build(model, settings)
    optim.set_lr(built, 0.002)
    for group in built[0].param_groups:
        assert (group["lr"], group["betas"], group["eps"]) == (0.002, (0.8, 0.9), 1e-6)
        assert group["weight_decay"] == (0.3 if group["params"][0].ndim > 1 else 0.0)
    held = [weight for group in built[0].param_groups for weight in group["params"]]
    assert len(held) == len(set(map(id, held))) == len(list(model.parameters()))


def test_the_rate_of_a_step_reaches_every_group_of_every_optimizer() -> None:
    built = optim.build(Llama(SHAPE, seed=1), OptimizerConfig(name="muon", lr=0.005))
    optim.set_lr(built, 0.002)
    assert len(built) == 2 and {group["lr"] for one in built for group in one.param_groups} == {0.002}


def test_accumulating_equals_one_large_batch_in_every_cycle() -> None:
    """ALB-092, ALB-100: what was left of one cycle went into the next, tokens were counted twice."""
    large, small = trainer(8, 1), trainer(2, 4)
    for number in (1, 2, 3):
        a, b = step(large, number), step(small, number)
        assert a.tokens == b.tokens == 8 * 15
        assert a.loss == pytest.approx(b.loss, rel=1e-5)
        assert a.norm == pytest.approx(b.norm, rel=1e-4)
    for one, other in zip(large.model.parameters(), small.model.parameters(), strict=True):
        assert torch.allclose(one, other, atol=2e-5)


def test_the_optimizer_steps_once_per_step_whatever_the_accumulation(monkeypatch: pytest.MonkeyPatch) -> None:
    """ALB-128: the optimizer ran between the parts of one batch."""
    one, calls = trainer(2, 4), []
    original = one.optimizers[0].step
    monkeypatch.setattr(one.optimizers[0], "step", lambda: (calls.append(1), original())[1])
    for number in range(1, 4):
        step(one, number)
    assert len(calls) == 3


def test_moments_come_back_bit_for_bit() -> None:
    """ALB-118: the optimizer began with empty moments after a restart."""
    one, other = trainer(4, 1), trainer(4, 1)
    for number in (1, 2, 3):
        step(one, number)
    other.restore({name: {k: v.clone() for k, v in group.items()} for name, group in one.tensors().items()}, one.counters())
    before, after = one.tensors()["moments"], other.tensors()["moments"]
    assert before.keys() == after.keys() and len(before) == 3 * len(list(one.model.parameters()))
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert step(one, 4) == step(other, 4)


def test_one_batch_is_learned_by_heart() -> None:
    one = trainer(4, 1, schedule="constant", epochs=100)
    one.loader = Loader(ROWS[:4], 4, 1, None)
    losses = [step(one, number).loss for number in range(1, 121)]
    assert losses[0] == pytest.approx(np.log(290), rel=0.05)
    assert losses[-1] < 0.1
