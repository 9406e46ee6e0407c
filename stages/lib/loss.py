"""Next-token loss in nats, as sums, so that every average is weighted by tokens; knows no optimizer and no files.

The head's logits are made for some hundred tokens at a time and turned at once into loss and gradient: with 32,768 words, logits of a
micro-batch are what a card runs out of.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.lib.device import Compute
from stages.lib.model import Llama
from stages.lib.products import by_fp32
from stages.lib.settings import CHUNK_TOKENS

IGNORED = -100
_ALIGNED = 64


def token_losses(model: nn.Module, inputs: Tensor, targets: Tensor, compute: Compute) -> Tensor:
    """The loss of every target (rows, count) in fp32; 0 where the target is IGNORED."""
    with compute.context():
        logits = model(inputs)
    flat = F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="none")
    return flat.view_as(targets)


def loss_sum(
    model: Llama, inputs: Tensor, targets: Tensor, compute: Compute, eos_id: int | None = None, *,
    weight: Tensor | None = None, z_loss: float = 0.0, compiled: bool = False,
) -> tuple[Tensor, Tensor]:
    """What to differentiate, and the summed loss of a batch without z-loss; with `eos_id` the documents of a row do not see one another.

    The first is `weight` (0-dimensional, 1 if not given) x (loss + z_loss x log(Z)^2 summed over targets), Z the sum that softmax
    divides by (PaLM, Chowdhery et al. 2022, section 5). Gradients are made on the way there, so a loss scale belongs into `weight`.
    `compiled`: with the model's body as compiled, and on a card the head's work too; else both as written, whatever was compiled.
    """
    with compute.context():
        states = (model.model if compiled else model.model.forward)(inputs, eos_id=eos_id)
    one = weight if weight is not None else torch.ones((), device=inputs.device)
    of_chunk = _compiled_chunk() if compiled and states.device.type != "cpu" else _chunk  # on a CPU its room gives more than compiling
    found = _Head.apply(states.flatten(0, 1), model.lm_head.weight, targets.flatten(), one, z_loss, compute.product_type, of_chunk)
    return cast(tuple[Tensor, Tensor], found)


@torch.no_grad()
def mean_loss(
    model: Llama, batches: Iterable[tuple[Tensor, Tensor]], compute: Compute, eos_id: int | None = None,
) -> float:
    """Nats a token over all batches, each token counting once whatever the size of its batch."""
    total, tokens = 0.0, 0
    for inputs, targets in batches:
        total += float(loss_sum(model, inputs, targets, compute, eos_id)[1])
        tokens += int((targets != IGNORED).sum())
    return total / tokens


class _Room:
    """Where the numbers of every chunk of a batch are made, one chunk after the other; the two that are not there at once share a place.

    The C library of a CPU (glibc before 2.38) fits no aligned tensor where an equal one lay: each chunk would take new room.
    """

    def __init__(self, tokens: int, head: Tensor, few: torch.dtype, wide: torch.dtype, way_back: bool) -> None:
        numbers, grown = tokens * len(head), way_back * head.numel() * head.dtype.itemsize
        low = 0 if few == wide else math.ceil(numbers * few.itemsize / _ALIGNED) * _ALIGNED
        shared = torch.empty(max(numbers * wide.itemsize, low + grown), dtype=torch.uint8)
        self.logits = torch.empty(tokens, len(head), dtype=wide)
        self.exponentials = shared[: numbers * wide.itemsize].view(wide).view(tokens, -1)
        self.low = shared[: numbers * few.itemsize].view(few).view(tokens, -1) if low else self.logits
        self.grown = shared[low : low + grown].view(head.dtype).view(head.shape) if way_back else None

    def logits_and_log_z(self, states: Tensor, head: Tensor) -> tuple[Tensor, Tensor]:
        """Logits, and the logarithm of the sum of their exponentials, to the bit as torch.logsumexp."""
        logits, low = self.logits[: len(states)], self.low[: len(states)]
        torch.mm(states, head.t(), out=logits if head.dtype == logits.dtype else low)
        if self.low is not self.logits:
            logits.copy_(low.copy_(logits) if head.dtype == logits.dtype else low)
        top = logits.amax(1, keepdim=True)
        top.masked_fill_(top.isinf(), 0)
        sums = torch.sub(logits, top, out=self.exponentials[: len(states)]).exp_().sum(1)
        return logits, sums.log_().add_(top.squeeze(1))

    def as_states(self, back: Tensor, states: Tensor) -> Tensor:
        """The gradient of the logits, rounded as they are, in the number format of the states."""
        if self.low is self.logits:
            return back
        low = self.low[: len(back)].copy_(back)
        return low if low.dtype == states.dtype else back.copy_(low)


def _chunk(
    states: Tensor, head: Tensor, targets: Tensor, weight: Tensor, z_loss: float, way_back: bool, room: _Room | None = None,
) -> list[Tensor]:
    """Of some tokens' states (n, d) and the head (V, d) in one number format: what to differentiate, the loss alone, both in fp32 and
    summed; with `way_back` also the gradients of states (n, d) and head (V, d).

    d loss / d logits = softmax - onehot; d log(Z)^2 / d logits = 2 log(Z) softmax. With a `room` the last gradient lies there.
    """
    if room is not None:
        logits, log_z = room.logits_and_log_z(states, head)
    else:
        logits = torch.mm(states, head.t()).to(torch.promote_types(states.dtype, torch.float32))
        log_z = logits.logsumexp(1)
    counted = (targets != IGNORED).to(logits.dtype)
    place = targets.clamp(min=0)[:, None]
    loss = ((log_z - logits.gather(1, place).squeeze(1)) * counted).sum()
    whole = weight * (loss + z_loss * (log_z.square() * counted).sum()) if z_loss else weight * loss
    if not way_back:
        return [whole, loss]
    scale = counted * weight
    grown = scale * (1 + 2 * z_loss * log_z) if z_loss else scale
    back = logits.sub_(log_z[:, None]).exp_().mul_(grown[:, None])
    back.scatter_(1, place, back.gather(1, place) - scale[:, None])
    low = back.to(states.dtype) if room is None else room.as_states(back, states)
    return [whole, loss, torch.mm(low, head), torch.mm(low.t(), states, out=None if room is None else room.grown)]


@cache
def _compiled_chunk() -> OfChunk:
    return torch.compile(_chunk, dynamic=False)


OfChunk = Callable[..., list[Tensor]]


class _Head(torch.autograd.Function):
    """The head and its loss, chunk by chunk; the gradients are made on the way there and only scaled on the way back."""

    @staticmethod
    def forward(
        ctx: Any, states: Tensor, head: Tensor, targets: Tensor, weight: Tensor, z_loss: float, kind: torch.dtype | None,
        of_chunk: OfChunk,
    ) -> tuple[Tensor, Tensor]:
        way_back = any(ctx.needs_input_grad[:2])
        few = kind or head.dtype
        low = head.to(few).float() if by_fp32(head.device, kind) else head.to(few)
        wide = torch.promote_types(states.dtype, torch.float32)
        whole, loss = states.new_zeros((), dtype=wide), states.new_zeros((), dtype=wide)
        ctx.states = torch.empty_like(states) if way_back else None
        ctx.head = torch.zeros_like(head) if way_back else None
        count = CHUNK_TOKENS[states.device.type]
        room = {"room": _Room(min(count, len(states)), low, few, wide, way_back)} if states.device.type == "cpu" else {}
        for begin in range(0, len(states), count):
            end = begin + count
            found = of_chunk(states[begin:end].to(few).to(low.dtype), low, targets[begin:end], weight, z_loss, way_back, **room)
            whole += found[0]
            loss += found[1]
            if way_back:
                ctx.states[begin:end] = found[2]
                ctx.head += found[3]
            del found  # else this chunk's gradient of the head is held until the next one's is made
        ctx.mark_non_differentiable(loss)
        return whole, loss

    @staticmethod
    def backward(ctx: Any, *grown: Tensor) -> tuple[Tensor, Tensor, None, None, None, None, None]:
        states, head = ctx.states, ctx.head
        ctx.states = ctx.head = None
        return states.mul_(grown[0]), head.mul_(grown[0]), None, None, None, None, None
