"""What a model pays for whole documents, every byte counted; knows no files and no training."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from stages.lib.device import Compute
from stages.lib.loss import IGNORED, token_losses


@dataclass(frozen=True)
class Price:
    """Nats and tokens (each document's end-of-text included) and the bytes of text they stand for."""

    nats: float
    tokens: int
    text_bytes: int

    @property
    def loss(self) -> float:
        """Nats a token."""
        return self.nats / self.tokens

    @property
    def bits_per_byte(self) -> float:
        """Bits for each byte of the text."""
        return self.nats / math.log(2) / self.text_bytes


def windows(length: int, context: int, stride: int) -> Iterator[tuple[int, int, int]]:
    """(start, end, first scored) over `length` predictions, so that each is scored once.

    The first window scores all it holds; each next one starts `stride` later and scores what no earlier one did, so
    that there every scored token sees at least `context - stride` tokens before it.
    """
    scored = start = 0
    while scored < length:
        end = min(start + context, length)
        yield start, end, scored
        scored, start = end, start + stride


@torch.no_grad()
def price(
    model: nn.Module, documents: Sequence[Sequence[int]], text_bytes: int, eos_id: int, context: int, stride: int,
    compute: Compute, batch_size: int, beat: Callable[[], None],
) -> Price:
    """Scores every document alone: given end-of-text it must predict the first token, and at last end-of-text."""
    pieces = []
    for ids in documents:
        line = torch.tensor([eos_id, *ids, eos_id])
        for start, end, scored in windows(len(ids) + 1, context, stride):
            pieces.append((line[start : end + 1], scored - start))
    pieces.sort(key=lambda piece: -len(piece[0]))
    nats, tokens = 0.0, 0
    for first in range(0, len(pieces), batch_size):
        batch = pieces[first : first + batch_size]
        inputs = torch.full((len(batch), len(batch[0][0]) - 1), eos_id)
        targets = torch.full_like(inputs, IGNORED)
        for row, (line, skip) in enumerate(batch):
            inputs[row, : len(line) - 1] = line[:-1]
            targets[row, skip : len(line) - 1] = line[1 + skip :]
        losses = token_losses(model, inputs.to(compute.device), targets.to(compute.device), compute)
        nats += float(losses.double().sum())
        tokens += int((targets != IGNORED).sum())
        beat()
    return Price(nats, tokens, text_bytes)
