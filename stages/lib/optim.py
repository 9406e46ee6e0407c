"""AdamW over a model's weights from one configuration; knows no schedule, no data and no loop."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stages.lib.settings import OptimizerConfig


def build(model: nn.Module, settings: OptimizerConfig) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter 2019), fused; matrices decay, vectors (norms) do not, all else is equal."""
    weights = list(model.parameters())
    groups = [
        {"params": [w for w in weights if w.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [w for w in weights if w.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.lr, betas=settings.betas, eps=settings.eps, fused=True)


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """The same rate for every group."""
    for group in optimizer.param_groups:
        group["lr"] = lr


def clip(model: nn.Module, max_norm: float | None) -> Tensor:
    """The norm of all gradients together, before they are scaled down to `max_norm`; None scales nothing."""
    limit = float("inf") if max_norm is None else max_norm
    return nn.utils.clip_grad_norm_(model.parameters(), limit)


def moments(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """What AdamW remembers, as `weight name/entry`."""
    return {
        f"{name}/{entry}": value
        for name, weight in model.named_parameters()
        for entry, value in optimizer.state[weight].items()
    }


def restore_moments(model: nn.Module, optimizer: torch.optim.Optimizer, saved: dict[str, Tensor]) -> None:
    """Puts back, bit for bit, what `moments` gave; KeyError when one is missing."""
    for name, weight in model.named_parameters():
        optimizer.state[weight] = {
            entry: saved[f"{name}/{entry}"].to(weight.device, copy=True) for entry in ("step", "exp_avg", "exp_avg_sq")
        }
