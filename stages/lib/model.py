"""The LLaMA network under Hugging Face's tensor names; knows no files, no data and no training."""

import hashlib
import math
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from stages.lib.products import Projection

INIT_STD = 0.02


class RopeScaling(Protocol):
    """How rotary positions are stretched; `stages.lib.shape.RopeScaling` is the real one."""

    @property
    def rope_type(self) -> str: ...
    @property
    def factor(self) -> float: ...
    @property
    def low_freq_factor(self) -> float | None: ...
    @property
    def high_freq_factor(self) -> float | None: ...
    @property
    def original_max_position_embeddings(self) -> int | None: ...


class Shape(Protocol):
    """What the network must be told; `stages.lib.shape.Shape` is the real one."""

    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    intermediate_size: int
    vocab_size: int
    max_position_embeddings: int
    rms_norm_eps: float
    rope_theta: float
    tie_word_embeddings: bool
    qk_norm: bool

    @property
    def head_dim(self) -> int: ...
    @property
    def rope_scaling(self) -> RopeScaling | None: ...


class Cache:
    """Keys and values already seen, of one batch: `2 * layers * kv_heads * head_dim * context` numbers a row."""

    def __init__(self, shape: Shape, rows: int, like: Tensor) -> None:
        room = (shape.num_hidden_layers, rows, shape.num_key_value_heads, shape.max_position_embeddings, shape.head_dim)
        self.keys = torch.empty(room, dtype=like.dtype, device=like.device)
        self.values = torch.empty_like(self.keys)
        self.length = 0

    def put(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Stores the new positions of one layer and returns all of them, old and new."""
        end = self.length + keys.shape[2]
        self.keys[layer, :, :, self.length : end] = keys
        self.values[layer, :, :, self.length : end] = values
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]


class RMSNorm(nn.Module):
    """x / rms(x) * weight (Zhang & Sennrich 2019); the sum is made in at least fp32."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        return F.rms_norm(wide, self.weight.shape, self.weight, self.eps).to(x.dtype)


def rotary(shape: Shape, start: int, count: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """cos and sin, each (count, head_dim / 2), of positions `start ...` (Su et al. 2021), angles in fp32."""
    half = torch.arange(0, shape.head_dim, 2, dtype=torch.float32, device=like.device) / shape.head_dim
    positions = torch.arange(start, start + count, dtype=torch.float32, device=like.device)
    angles = torch.outer(positions, _stretched(1.0 / shape.rope_theta**half, shape.rope_scaling))
    return angles.cos().to(like.dtype), angles.sin().to(like.dtype)


def _stretched(frequencies: Tensor, scaling: RopeScaling | None) -> Tensor:
    """The frequencies (head_dim / 2) as `scaling` says, in radians a position; formulas in stages.lib.shape.RopeScaling."""
    if scaling is None:
        return frequencies
    slow = frequencies / scaling.factor
    if scaling.rope_type == "linear":
        return slow
    low, high, context = scaling.low_freq_factor, scaling.high_freq_factor, scaling.original_max_position_embeddings
    assert low is not None and high is not None and context is not None
    turns = context * frequencies / (2 * math.pi)
    kept = ((turns - low) / (high - low)).clamp(0.0, 1.0)
    return (1 - kept) * slow + kept * frequencies


def documents_mask(ids: Tensor, eos_id: int, dtype: torch.dtype) -> Tensor:
    """What is added to the scores (rows, 1, count, count) so that a token sees only its own document: 0 or -inf.

    An end-of-text opens the document that follows it, as where a model is evaluated or continued. Positions go on through
    the row: rotary scores depend on differences of positions alone, so starting anew would change nothing.
    """
    number = (ids == eos_id).cumsum(dim=1)
    seen = (number[:, None, :, None] == number[:, None, None, :]).tril()
    return torch.zeros(seen.shape, dtype=dtype, device=ids.device).masked_fill_(~seen, float("-inf"))


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turns each pair (i, i + head_dim/2) by its angle: the NeoX halves that Hugging Face's LLaMA uses."""
    first, second = x.chunk(2, dim=-1)
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


class Attention(nn.Module):
    """Causal self-attention in which groups of query heads share a key and value head (Ainslie et al. 2023)."""

    def __init__(self, shape: Shape, layer: int) -> None:
        super().__init__()
        self.layer, self.head_dim = layer, shape.head_dim
        self.shared_by = shape.num_attention_heads // shape.num_key_value_heads
        queries, keys = shape.num_attention_heads * shape.head_dim, shape.num_key_value_heads * shape.head_dim
        self.q_proj = Projection(shape.hidden_size, queries)
        self.k_proj = Projection(shape.hidden_size, keys)
        self.v_proj = Projection(shape.hidden_size, keys)
        self.o_proj = Projection(queries, shape.hidden_size)
        self.q_norm = RMSNorm(shape.head_dim, shape.rms_norm_eps) if shape.qk_norm else None
        self.k_norm = RMSNorm(shape.head_dim, shape.rms_norm_eps) if shape.qk_norm else None

    def forward(
        self, x: Tensor, cos: Tensor, sin: Tensor, cache: Cache | None, mask: Tensor | None = None,
    ) -> Tensor:
        rows, count, _ = x.shape
        q, k, v = (
            project(x).view(rows, count, -1, self.head_dim).transpose(1, 2)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        if cache is not None:
            k, v = cache.put(self.layer, k, v)
            mask = torch.ones(count, k.shape[2], dtype=torch.bool, device=x.device).tril(k.shape[2] - count)
        k, v = k.repeat_interleave(self.shared_by, dim=1), v.repeat_interleave(self.shared_by, dim=1)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None)
        return self.o_proj(mixed.transpose(1, 2).reshape(rows, count, -1))


class MLP(nn.Module):
    """SwiGLU (Shazeer 2020): down(silu(gate(x)) * up(x))."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate_proj = Projection(shape.hidden_size, shape.intermediate_size)
        self.up_proj = Projection(shape.hidden_size, shape.intermediate_size)
        self.down_proj = Projection(shape.intermediate_size, shape.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Block(nn.Module):
    """One layer: attention and MLP, each normed before and added after."""

    def __init__(self, shape: Shape, layer: int) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(shape.hidden_size, shape.rms_norm_eps)
        self.self_attn = Attention(shape, layer)
        self.post_attention_layernorm = RMSNorm(shape.hidden_size, shape.rms_norm_eps)
        self.mlp = MLP(shape)

    def forward(
        self, x: Tensor, cos: Tensor, sin: Tensor, cache: Cache | None, mask: Tensor | None = None,
    ) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, cache, mask)
        return x + self.mlp(self.post_attention_layernorm(x))


class Body(nn.Module):
    """Embedding, layers and last norm: everything that Hugging Face files under `model.`.

    `recompute`: a layer keeps only its input for the way back and is computed again there (Chen et al. 2016).
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.recompute = False
        self.embed_tokens = nn.Embedding(shape.vocab_size, shape.hidden_size)
        self.layers = nn.ModuleList(Block(shape, layer) for layer in range(shape.num_hidden_layers))
        self.norm = RMSNorm(shape.hidden_size, shape.rms_norm_eps)

    def forward(self, ids: Tensor, cache: Cache | None = None, eos_id: int | None = None) -> Tensor:
        """Normed states (rows, count, hidden_size), from which the head makes logits; the rest as in Llama.forward."""
        if cache is not None and eos_id is not None:
            raise ValueError("a cache holds one document; it takes no eos_id")
        start = cache.length if cache is not None else 0
        if start + ids.shape[1] > self.shape.max_position_embeddings:
            raise ValueError(
                f"{start + ids.shape[1]} positions, but the model has {self.shape.max_position_embeddings}"
            )
        x = self.embed_tokens(ids)
        cos, sin = rotary(self.shape, start, ids.shape[1], x)
        mask = documents_mask(ids, eos_id, _score_dtype(x)) if eos_id is not None else None
        for block in self.layers:
            if self.recompute and torch.is_grad_enabled():
                x = checkpoint(block, x, cos, sin, cache, mask, use_reentrant=False)
            else:
                x = block(x, cos, sin, cache, mask)
        if cache is not None:
            cache.length += ids.shape[1]
        return self.norm(x)


class Llama(nn.Module):
    """The whole network. `seed` given: weights drawn by `initialise`; None: left for a loader to fill."""

    def __init__(self, shape: Shape, seed: int | None = None) -> None:
        super().__init__()
        self.shape = shape
        self.model = Body(shape)
        self.lm_head = Projection(shape.hidden_size, shape.vocab_size)
        if shape.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight
        if seed is not None:
            initialise(self, seed)

    def forward(self, ids: Tensor, cache: Cache | None = None, eos_id: int | None = None) -> Tensor:
        """Logits (rows, count, vocabulary) of ids (rows, count).

        With a cache the ids follow those it holds. `eos_id` given: a row holds documents that do not see one another.
        ValueError when the ids would pass `max_position_embeddings`, or with both a cache and `eos_id`.
        """
        return self.lm_head(self.model(ids, cache, eos_id))


def _score_dtype(x: Tensor) -> torch.dtype:
    """The number format attention computes in, so that one mask serves every layer without a copy."""
    autocast = torch.is_autocast_enabled(x.device.type)
    return torch.get_autocast_dtype(x.device.type) if autocast else x.dtype


def initialise(model: Llama, seed: int) -> None:
    """Fills every weight from `seed` and its own name, so neither device, build nor order of layers changes it.

    Norms are 1, matrices N(0, 0.02), those that write into the residual stream N(0, 0.02 / sqrt(2 * layers))
    (Radford et al. 2019, section 2.3). Drawn by numpy's Philox in fp32, whose stream is fixed by its specification.
    """
    into_residual = INIT_STD / math.sqrt(2 * model.shape.num_hidden_layers)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim == 1:
                weight.fill_(1.0)
                continue
            std = into_residual if name.endswith(("o_proj.weight", "down_proj.weight")) else INIT_STD
            key = int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:16], "little")
            draw = np.random.Generator(np.random.Philox(key=key)).standard_normal(tuple(weight.shape), dtype=np.float32)
            weight.copy_(torch.from_numpy(draw * np.float32(std)))
