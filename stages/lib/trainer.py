"""Gradients of a step, the update they lead to, validation, and what a resumed run needs; knows no files, no clock and no loop."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from stages.lib import optim, random_state
from stages.lib.device import Compute
from stages.lib.loader import Loader
from stages.lib.loss import IGNORED, loss_sum, mean_loss
from stages.lib.model import Llama
from stages.lib.phases import Phases
from stages.lib.prefetch import Prefetch
from stages.lib.settings import OptimizerConfig, TrainingConfig

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Gradients:
    """What the gradients of one step showed: mean loss in nats a token, norm before clipping, tokens they come from.

    `overflowed`: an fp16 scale over 1 was too large for them, so that there is no update and the scale falls. `micro_norm`: that of the
    first micro-batch alone, where it was asked for, each gradient a mean over tokens.
    """

    loss: float
    norm: float
    tokens: int
    overflowed: bool
    micro_norm: float | None


class Trainer:
    """A model with its optimizers and the order of its data; `eos_id` given: documents of a row do not see one another.

    A step is `gradients`, then `update` or `skip`: whether such gradients may be learned from is for others to say.
    """

    def __init__(
        self, model: Llama, loader: Loader | Prefetch, optimizer: OptimizerConfig, training: TrainingConfig, compute: Compute,
        eos_id: int | None = None, compiled: bool = False,
    ) -> None:
        self.model, self.loader, self.training, self.compute = model.to(compute.device), loader, training, compute
        self.eos_id, self.compiled = eos_id, compiled
        self.phases = Phases(compute.device)
        self.model.model.recompute = training.activation_checkpointing
        if compiled:
            self.model.model.compile(dynamic=False)
        self.optimizers = optim.build(self.model, optimizer)
        self.scaler = self._new_scaler()
        self.weights = list(self.model.parameters())
        if training.accumulation > 1:
            for weight in self.weights:
                weight.grad = torch.zeros_like(weight)
        self.average = [weight.detach().clone() for weight in self.weights] if training.ema is not None else []

    def gradients(self, position: int, look: bool = False) -> Gradients:
        """The gradients of the rows at `position` (from 1): every micro-batch weighs as its tokens, so accumulation equals one batch.

        `look` also measures the first micro-batch's alone.
        """
        self.phases.begin()
        micro = list(self.loader.micro_batches(position, self.training.batch_size))
        self.phases.end("data")
        counts = [int((targets != IGNORED).sum()) for _, targets in micro]
        tokens, device = sum(counts), self.compute.device
        self.model.train()
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=self.training.accumulation == 1)
        total, first = torch.zeros((), device=device), None
        weight = self.scaler.scale(torch.ones((), device=device)) / tokens
        for number, (inputs, targets) in enumerate(micro):
            whole, loss = loss_sum(
                self.model, inputs.to(device, non_blocking=True), targets.to(device, non_blocking=True), self.compute, self.eos_id,
                weight=weight, z_loss=self.training.z_loss, compiled=self.compiled,
            )
            self.phases.end("forward")
            whole.backward()
            total += loss
            del whole, loss
            if look and number == 0:
                first = optim.norm(self.model) / (weight * counts[0])
            self.phases.end("backward")
        if self.compute.half:
            for optimizer in self.optimizers:
                self.scaler.unscale_(optimizer)
        self._norm = optim.norm(self.model)
        norm, loss_now = float(self._norm), float(total) / tokens
        self.phases.end("optimizer")
        overflowed = self.compute.half and math.isfinite(loss_now) and not math.isfinite(norm) and self.scaler.get_scale() > 1
        return Gradients(loss_now, norm, tokens, overflowed, None if first is None else float(first))

    def update(self, lr: float, max_norm: float | None) -> None:
        """Learns from the gradients at hand, scaled down to `max_norm` where they are longer."""
        self.phases.begin()
        optim.set_lr(self.optimizers, lr)
        if max_norm is not None:
            optim.clip(self.model, self._norm, max_norm)
        for optimizer in self.optimizers:
            self.scaler.step(optimizer)
        self.scaler.update()
        if self.training.ema is not None:
            get_ema_multi_avg_fn(self.training.ema)(self.average, [weight.detach() for weight in self.weights], None)
        self.phases.end("optimizer")

    def skip(self) -> None:
        """Learns nothing from the gradients at hand; an fp16 scale that was too large for them falls."""
        if self.compute.half:
            self.scaler.update()

    def gradient_norms(self) -> dict[str, float]:
        """The norm of each weight's gradient, before clipping and in fp64, by name; 0 where there is none."""
        return self._norms({name: weight.grad for name, weight in self.model.named_parameters()})

    def weight_norms(self) -> dict[str, float]:
        """The norm of each weight in fp64, by name."""
        return self._norms({name: weight.detach() for name, weight in self.model.named_parameters()})

    def _norms(self, tensors: Mapping[str, Tensor | None]) -> dict[str, float]:
        zero = torch.zeros((), dtype=torch.float64, device=self.compute.device)
        found = [zero if one is None else torch.linalg.vector_norm(one, dtype=torch.float64) for one in tensors.values()]
        return dict(zip(tensors, torch.stack(found).tolist(), strict=True))

    def reset(self) -> None:
        """Forgets what optimizers, averages and the scale learned: the weights at hand are those before the first step."""
        for optimizer in self.optimizers:
            optimizer.state.clear()
        self.scaler = self._new_scaler()
        for weight, average in zip(self.weights, self.average, strict=False):
            average.copy_(weight.detach())

    def _new_scaler(self) -> torch.amp.GradScaler:
        return torch.amp.GradScaler(self.compute.device.type, enabled=self.compute.half)

    def validate(self, batches: Iterable[tuple[Tensor, Tensor]]) -> float:
        """Nats a token on held-out rows, of the averaged weights where there are such."""
        self.model.eval()
        there = ((x.to(self.compute.device), y.to(self.compute.device)) for x, y in batches)
        with self.averaged():
            return mean_loss(self.model, there, self.compute, self.eos_id)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The model with its averaged weights, where there are such."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for weight, average in zip(self.weights, self.average, strict=False):
            weight.data, average.data = average.data, weight.data

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """Weights, their average, what the optimizers remember and random state, by the file each goes to."""
        names = [name for name, _ in self.model.named_parameters()]
        found = {
            "weights": {name: weight.detach() for name, weight in zip(names, self.weights, strict=True)},
            "moments": optim.moments(self.model, self.optimizers), "random": random_state.captured(self.compute.device),
        }
        if self.average:
            found["average"] = dict(zip(names, self.average, strict=True))
        return found

    def counters(self) -> dict[str, Any]:
        """What is no tensor: the scale of fp16 gradients."""
        return {"scaler": self.scaler.state_dict()} if self.compute.half else {}

    def restore(self, saved: Mapping[str, dict[str, Tensor]], counters: Mapping[str, Any]) -> None:
        """Puts back, bit for bit, what `tensors` and `counters` gave."""
        with torch.no_grad():
            for name, weight in self.model.named_parameters():
                weight.copy_(saved["weights"][name])
            for (name, _), average in zip(self.model.named_parameters(), self.average, strict=False):
                average.copy_(saved["average"][name])
        optim.restore_moments(self.model, self.optimizers, saved["moments"])
        random_state.restore(saved["random"], self.compute.device)
        if self.compute.half:
            self.scaler.load_state_dict(counters["scaler"])
