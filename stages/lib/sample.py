"""Continues a text token by token with a cache of keys and values; knows no files and no tokenizer."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from stages.lib.model import Cache, Llama


@torch.no_grad()
def generate(
    model: Llama, prompt: Sequence[int], max_new_tokens: int, *, eos_id: int, temperature: float = 0.0, seed: int = 0,
) -> list[int]:
    """New ids after end-of-text and `prompt`, until end-of-text (not returned) or `max_new_tokens`.

    Temperature 0 takes the likeliest; above it, draws by `seed`. When the context is full, its older half is dropped
    and the rest read again, so a prompt longer than the context counts by its end.
    """
    device = next(model.parameters()).device
    random = torch.Generator().manual_seed(seed)
    context = model.shape.max_position_embeddings
    cache, unread = Cache(model.shape, 1, model.model.norm.weight), [eos_id, *prompt][-context:]
    new: list[int] = []
    while len(new) < max_new_tokens:
        if cache.length + len(unread) > context:
            unread = [eos_id, *prompt, *new][-(context // 2) :]
            cache.length = 0
        logits = model(torch.tensor([unread], device=device), cache)[0, -1].float().cpu()
        token = int(logits.argmax()) if temperature == 0 else _draw(logits / temperature, random)
        if token == eos_id:
            break
        new.append(token)
        unread = [token]
    return new


def _draw(logits: torch.Tensor, random: torch.Generator) -> int:
    return int(torch.multinomial(logits.softmax(-1), 1, generator=random))
