"""One optimizer step, one validation, and the tensors a resumed run needs; knows no files, no clock and no loop."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from stages.lib import optim, random_state
from stages.lib.device import Compute
from stages.lib.loader import Loader
from stages.lib.loss import IGNORED, loss_sum, mean_loss
from stages.lib.model import Llama
from stages.lib.prefetch import Prefetch
from stages.lib.settings import OptimizerConfig, TrainingConfig
from stages.lib.stage import StageError


@dataclass(frozen=True)
class Step:
    """What one step showed: mean loss in nats a token, gradient norm before clipping, rate, tokens learned from."""

    loss: float
    grad_norm: float
    lr: float
    tokens: int


class Trainer:
    """A model with its optimizer and the order of its data; `eos_id` given: documents of a row do not see one another."""

    def __init__(
        self, model: Llama, loader: Loader | Prefetch, optimizer: OptimizerConfig, training: TrainingConfig, compute: Compute,
        eos_id: int | None = None,
    ) -> None:
        self.model, self.loader, self.training, self.compute = model.to(compute.device), loader, training, compute
        self.peak_lr = optimizer.lr
        self.eos_id = eos_id
        self.optimizer = optim.build(self.model, optimizer)

    def step(self, step: int) -> Step:
        """Makes `step` (from 1): every micro-batch weighs as its tokens, so accumulation equals one large batch.

        StageError when loss or gradient is not a number, or the loss is exactly 0; the weights are then untouched.
        """
        lr = self.training.lr_at(step, self.peak_lr)
        micro = [(x.to(self.compute.device, non_blocking=True), y.to(self.compute.device, non_blocking=True))
                 for x, y in self.loader.micro_batches(step, self.training.batch_size)]
        tokens = sum(int((targets != IGNORED).sum()) for _, targets in micro)
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), device=self.compute.device)
        for inputs, targets in micro:
            loss = loss_sum(self.model, inputs, targets, self.compute, self.eos_id) / tokens
            loss.backward()
            total += loss.detach()
        norm = float(optim.clip(self.model, self.training.grad_clip))
        _refuse_broken(step, float(total), norm)
        optim.set_lr(self.optimizer, lr)
        self.optimizer.step()
        return Step(float(total), norm, lr, tokens)

    def validate(self, batches: Iterable[tuple[Tensor, Tensor]]) -> float:
        """Nats a token on held-out rows."""
        self.model.eval()
        there = ((x.to(self.compute.device), y.to(self.compute.device)) for x, y in batches)
        return mean_loss(self.model, there, self.compute, self.eos_id)

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """Weights, optimizer moments and random state, by the file each goes to."""
        weights = {name: weight.detach() for name, weight in self.model.named_parameters()}
        random = random_state.captured(self.compute.device)
        return {"weights": weights, "moments": optim.moments(self.model, self.optimizer), "random": random}

    def restore(self, saved: Mapping[str, dict[str, Tensor]]) -> None:
        """Puts back, bit for bit, what `tensors` gave."""
        with torch.no_grad():
            for name, weight in self.model.named_parameters():
                weight.copy_(saved["weights"][name])
        optim.restore_moments(self.model, self.optimizer, saved["moments"])
        random_state.restore(saved["random"], self.compute.device)


def _refuse_broken(step: int, loss: float, norm: float) -> None:
    if not math.isfinite(loss):
        raise StageError(f"the loss of step {step} is {loss}; training stopped and saved nothing of it")
    if not math.isfinite(norm):
        raise StageError(f"the gradient of step {step} is {norm}; training stopped and saved nothing of it")
    if loss == 0.0:
        raise StageError(f"the loss of step {step} is exactly 0, which no text gives; training stopped")
