"""Next-token loss in nats, as sums, so that every average is weighted by tokens; knows no optimizer and no files."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.lib.device import Compute

IGNORED = -100


def token_losses(model: nn.Module, inputs: Tensor, targets: Tensor, compute: Compute) -> Tensor:
    """The loss of every target (rows, count) in fp32; 0 where the target is IGNORED."""
    with compute.context():
        logits = model(inputs)
    flat = F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="none")
    return flat.view_as(targets)


def loss_sum(
    model: nn.Module, inputs: Tensor, targets: Tensor, compute: Compute, eos_id: int | None = None,
) -> Tensor:
    """The summed loss of a batch, differentiable; with `eos_id` the documents of a row do not see one another."""
    with compute.context():
        logits = model(inputs) if eos_id is None else model(inputs, eos_id=eos_id)
    return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum")


@torch.no_grad()
def mean_loss(
    model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], compute: Compute, eos_id: int | None = None,
) -> float:
    """Nats a token over all batches, each token counting once whatever the size of its batch."""
    total, tokens = 0.0, 0
    for inputs, targets in batches:
        total += float(loss_sum(model, inputs, targets, compute, eos_id))
        tokens += int((targets != IGNORED).sum())
    return total / tokens
