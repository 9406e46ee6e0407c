"""The optimizers of a model from one configuration; knows no schedule, no data and no loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from stages.lib.settings import OptimizerConfig

Optimizers = Sequence[torch.optim.Optimizer]


def build(model: nn.Module, settings: OptimizerConfig) -> Optimizers:
    """AdamW (Loshchilov & Hutter 2019), fused; matrices decay, vectors (norms) do not, all else is equal.

    With `muon` the matrices between embedding and head go to Muon (Jordan et al. 2024), scaled so that one learning rate serves both
    (Liu et al. 2025, "Muon is scalable", section 2.2).
    """
    named = list(model.named_parameters())
    hidden = [weight for name, weight in named if weight.ndim == 2 and ".layers." in name] if settings.name == "muon" else []
    held = {id(weight) for weight in hidden}
    rest = [weight for _, weight in named if id(weight) not in held]
    groups = [
        {"params": [w for w in rest if w.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [w for w in rest if w.ndim <= 1], "weight_decay": 0.0},
    ]
    adamw = torch.optim.AdamW(groups, lr=settings.lr, betas=settings.betas, eps=settings.eps, fused=True)
    if not hidden:
        return (adamw,)
    muon = torch.optim.Muon(hidden, lr=settings.lr, weight_decay=settings.weight_decay, momentum=settings.momentum,
                            adjust_lr_fn="match_rms_adamw")
    return adamw, muon


def set_lr(optimizers: Optimizers, lr: float) -> None:
    """The same rate for every group of every optimizer."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = lr


def norm(model: nn.Module) -> Tensor:
    """The norm of all gradients together (0-dimensional)."""
    return nn.utils.get_total_norm([weight.grad for weight in model.parameters() if weight.grad is not None])


def clip(model: nn.Module, found: Tensor, max_norm: float) -> None:
    """Scales all gradients, whose norm is `found`, down to `max_norm`: by max_norm / found, never up."""
    if float(found) > max_norm:
        nn.utils.clip_grads_with_norm_(model.parameters(), max_norm, found)


def moments(model: nn.Module, optimizers: Optimizers) -> dict[str, Tensor]:
    """What the optimizers remember, as `weight name/entry`."""
    return {
        f"{name}/{entry}": value
        for name, weight in model.named_parameters()
        for optimizer in optimizers
        for entry, value in optimizer.state.get(weight, {}).items()
    }


def restore_moments(model: nn.Module, optimizers: Optimizers, saved: Mapping[str, Tensor]) -> None:
    """Puts back, bit for bit, what `moments` gave; what was not there then is forgotten."""
    found: dict[str, dict[str, Tensor]] = {}
    for key, value in saved.items():
        name, _, entry = key.rpartition("/")
        found.setdefault(name, {})[entry] = value
    for optimizer in optimizers:
        optimizer.state.clear()
        mine = {id(weight) for group in optimizer.param_groups for weight in group["params"]}
        for name, weight in model.named_parameters():
            if id(weight) in mine and name in found:
                optimizer.state[weight] = {entry: value.to(weight.device, copy=True) for entry, value in found[name].items()}
