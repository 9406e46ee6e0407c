"""Matrix products in few bits; a CPU that makes them slower than those of fp32 makes them by fp32's instructions, to the same numbers."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.lib.device import cpu_multiplies_by_fp32

_CPU_BY_FP32 = cpu_multiplies_by_fp32()


def by_fp32(device: torch.device, kind: torch.dtype | None) -> bool:
    """Whether products of numbers rounded to `kind` are made by fp32's instructions there."""
    return _CPU_BY_FP32 and device.type == "cpu" and kind in (torch.bfloat16, torch.float16)


class Projection(nn.Linear):
    """x @ weight.T without bias, in the number format of the autocast around it."""

    def __init__(self, width: int, features: int) -> None:
        super().__init__(width, features, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        kind = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None
        if kind is None or not by_fp32(x.device, kind):
            return F.linear(x, self.weight)
        return product(x.to(kind).flatten(0, -2), self.weight.to(kind).t()).unflatten(0, x.shape[:-1])


@torch.library.custom_op("albor::product", mutates_args=())
def product(left: Tensor, right: Tensor) -> Tensor:
    """left (m, k) @ right (k, n), both bf16 or both fp16, made as by tensor cores: exact products, sums in fp32, rounded once.

    An operation of its own, since what torch compiles leaves roundings out.
    """
    with torch.autocast("cpu", enabled=False):
        return torch.mm(left.float(), right.float()).to(left.dtype)


@product.register_fake
def _(left: Tensor, right: Tensor) -> Tensor:
    return left.new_empty(len(left), right.shape[1])


def _keep(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _back(ctx: Any, grown: Tensor) -> tuple[Tensor, Tensor]:
    left, right = ctx.saved_tensors
    return product(grown, right.t()), product(left.t(), grown)


product.register_autograd(_back, setup_context=_keep)
