"""The bytes that pretraining holds, part by part, as the trainer of this project allocates them; imports no torch, opens no file.

Shapes are counted as what autograd keeps for the way back (tests compare each with torch's own list), so a change of the model or of the
loss changes this file too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from stages.lib.settings import CHUNK_TOKENS, OptimizerConfig, TrainingConfig
from stages.lib.shape import Shape

VALIDATED_ROWS = 16
_GPU_RUNTIME = 500_000_000
_CPU_RUNTIME = 420_000_000
_GPU_ROUNDING = 0.05
_NAMES = {"adamw": "AdamW", "muon": "Muon"}
_HEAP, _HEAP_BY_FP32 = 0.2, 0.3
_CPU_COMPILER = 100_000_000
_COMPILED_KEEPS = 0.85


@dataclass(frozen=True)
class Memory:
    """`parts` in bytes, in the order of a plan; their sum is the peak. `layers`: what each layer keeps. Bytes of a host are apart.

    `live_bytes` are the tensors of a step at its fullest moment, as an allocator without holes would hold them.
    """

    parts: Mapping[str, int]
    layers: tuple[int, ...]
    staging_bytes: int
    live_bytes: int

    @property
    def total_bytes(self) -> int:
        """The peak."""
        return sum(self.parts.values())


def layer_bytes(shape: Shape, rows: int, count: int, bf16: bool) -> int:
    """Bytes that one layer keeps for the way back, of `rows` rows of `count` tokens.

    A token of width d, FFN f, h heads, in fp32: each of two norms keeps its input, its normed value and 1/rms (2 x (8d + 4)) and gives
    its output to a projection (2 x 4d); attention keeps queries, keys and values (of all heads, for shared ones are repeated), its output
    and that output laid out for the projection (20d), and one log-sum a head (4h); SwiGLU keeps gate, silu(gate), up and their product
    (16f). In bf16 norms stay in fp32, each of the five projections' inputs is a cast of its own (10d), attention takes 10d, SwiGLU 8f,
    and the weights are kept once more as bf16. Normed heads add their fp32 input and normed value (8 bytes a number) and 1/rms.
    """
    wide, ffn, heads, kv = shape.hidden_size, shape.intermediate_size, shape.num_attention_heads, shape.num_key_value_heads
    token = 2 * (8 * wide + 4) + 4 * heads
    token += 20 * wide + 8 * ffn if bf16 else 28 * wide + 16 * ffn
    if shape.qk_norm:
        token += (heads + kv) * (8 * shape.head_dim + 4)
    return rows * count * token + (2 * _matrix_numbers_of_a_layer(shape) if bf16 else 0)


def memory(
    shape: Shape, training: TrainingConfig, seq_len: int, *, bf16: bool, on_cpu: bool, optimizer: OptimizerConfig | None = None,
    val_rows: int = VALIDATED_ROWS, compiled: bool = False, by_fp32: bool = False,
) -> Memory:
    """The peak of a run, by part. Weights, gradients, averaged weights (`ema`) and each moment are fp32: 4P bytes; AdamW has two moments,
    Muon one.

    logits: those of a chunk of c tokens, 4Vc bytes, with their exponentials as many again. head: its gradient, 4Vd, with that of the
    chunk as many again. The two second ones are not there at once, so that only the larger counts; in bf16 the second is 2Vd beside the
    logits rounded, 2Vc, and the head is there in fewer bits, 2Vd. `by_fp32`, where fp32's instructions make products of bf16, these two
    of the head are 4Vd each. The gradient of the head's inputs is kept (4d a token).
    activations: with `activation_checkpointing` each layer keeps its input alone, and one layer at a time is computed again.
    validation: the part of 16 rows' way through a layer, made without a way back, that goes beyond what training holds.
    fragmentation: a CPU's heap does not fit new tensors into all the room of freed ones (glibc before 2.38 none where an equal one lay):
    a share of the activations, larger `by_fp32`, fitted to measured peaks (docs/performance.md). A GPU's share is not measured yet.
    runtime: on a CPU what a model of no size holds and what products take for themselves, measured; on a GPU the driver's context.
    staging: the host copy of weights, averages and moments from which checkpoints are written while training goes on; a run that saves
    only at its end has none. Packed rows are mapped files, which a system takes back when memory is short.
    A compiled run keeps less: on a CPU a share that was fitted in the same way, which has the holes in it, and the compiler stays in
    memory; on a GPU it is counted as if it were not compiled.
    """
    count, numbers, vocabulary, wide = seq_len - 1, shape.parameters(), shape.vocab_size, shape.hidden_size
    tokens, val_tokens = training.batch_size * count, min(VALIDATED_ROWS, val_rows) * count
    one = layer_bytes(shape, training.batch_size, count, bf16)
    outer = tokens * (8 * wide + 4 + 8)
    if training.document_mask:
        outer += training.batch_size * count * count * (2 if bf16 else 4)
    layers = shape.num_hidden_layers
    kept = outer + (layers * 4 * wide * tokens + one if training.activation_checkpointing else layers * one)
    if compiled and on_cpu:
        kept = int(_COMPILED_KEEPS * kept)
    chunk = min(tokens, CHUNK_TOKENS["cpu" if on_cpu else "cuda"])
    rounded, grown, copy = (0, 4, 0) if not bf16 else (2, 4, 4) if by_fp32 else (2, 2, 2)
    for_logits = 4 * chunk >= rounded * chunk + grown * wide
    logits = vocabulary * chunk * (4 + (4 if for_logits else rounded))
    head = vocabulary * wide * (4 + copy + (0 if for_logits else grown)) + 4 * wide * tokens
    judged = val_tokens * (6 if bf16 else 12) * shape.intermediate_size
    holes = int((_HEAP_BY_FP32 if by_fp32 else _HEAP) * kept) if on_cpu and not compiled else 0
    kind = optimizer.name if optimizer is not None else "adamw"
    moments = 8 * numbers - (4 * layers * _matrix_numbers_of_a_layer(shape) if kind == "muon" else 0)
    average = 4 * numbers if training.ema is not None else 0
    standing = 4 * numbers + moments + average
    staging = standing if training.saves_before_the_end() else 0
    parts = {
        "weights": 4 * numbers, "gradients": 4 * numbers, _NAMES[kind]: moments, "average": average, "activations": kept,
        "logits": logits, "head": head, "validation": max(0, judged - kept - holes),
        "staging": staging if on_cpu else 0,
    }
    rounding = holes if on_cpu else int(_GPU_ROUNDING * (kept + logits))
    parts |= {"fragmentation": rounding, "runtime": _CPU_RUNTIME + compiled * _CPU_COMPILER if on_cpu else _GPU_RUNTIME}
    # At the loss the first micro-batch has no gradients beside it yet; after the way back there is nothing else.
    at_the_loss = standing + (4 * numbers if training.accumulation > 1 else 0) + kept + logits + head
    live = max(at_the_loss, standing + 4 * numbers + 4 * vocabulary * wide)
    return Memory(parts, (one,) * layers, 0 if on_cpu else staging, live)


def _matrix_numbers_of_a_layer(shape: Shape) -> int:
    kv = shape.num_key_value_heads * shape.head_dim
    return 2 * shape.hidden_size**2 + 2 * shape.hidden_size * kv + 3 * shape.hidden_size * shape.intermediate_size
