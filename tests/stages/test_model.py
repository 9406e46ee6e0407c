"""The network against transformers, against algebra, and against itself."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from support_model import in_float64

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

from stages.lib.hf import hf_config  # noqa: E402
from stages.lib.loss import loss_sum  # noqa: E402
from stages.lib.model import MLP, Block, Cache, Llama, rotary, rotate  # noqa: E402
from stages.lib.sample import generate  # noqa: E402
from stages.lib.shape import Shape  # noqa: E402

GOLDEN_INIT = "9810087d0f6e767e75a3e5da44a910a2cb93a873d310a3beb88e59eef55a1880"


def shape(**values: Any) -> Shape:
    return Shape(**{"d_model": 32, "layers": 2, "heads": 4, "kv_heads": 2, "ffn": 48, "vocab_size": 290, "context": 16,
                    **values})


def ids(count: int = 16, rows: int = 3, vocabulary: int = 290) -> Any:
    return torch.randint(0, vocabulary, (rows, count), generator=torch.Generator().manual_seed(1))


def peer_of(model: Llama, one: Shape, monkeypatch: pytest.MonkeyPatch) -> Any:
    transformers = pytest.importorskip("transformers")
    peer = transformers.LlamaForCausalLM(transformers.LlamaConfig(**hf_config(one, 0)))
    weights = dict(model.named_parameters())
    if one.tie_word_embeddings:
        weights["lm_head.weight"] = model.model.embed_tokens.weight
    peer.load_state_dict(weights)
    return in_float64(peer, monkeypatch)


@pytest.mark.parametrize("values", [
    {}, {"kv_heads": 4}, {"kv_heads": 1}, {"tie_word_embeddings": False}, {"rope_theta": 500.0, "rms_norm_eps": 1e-3},
    {"vocab_size": 1000, "d_model": 16, "heads": 2}, {"ffn": 7, "layers": 1},
])
def test_logits_and_gradients_are_those_of_transformers(values: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """ALB-041, ALB-106, ALB-108, ALB-119: swapped arguments, no RoPE, a transposed head; also where V is not H."""
    one = shape(**values)
    model = Llama(one, seed=5)
    for weight in model.parameters():
        weight.data.mul_(5.0)  # far from the flat start, where errors hide
    peer = peer_of(model, one, monkeypatch)
    model.double()
    line = ids(vocabulary=one.vocab_size)
    ours, theirs = model(line), peer(line).logits
    assert torch.allclose(ours, theirs, rtol=1e-12, atol=1e-12)
    ours.square().mean().backward()
    theirs.square().mean().backward()
    found = dict(peer.named_parameters())
    for name, weight in model.named_parameters():
        assert torch.allclose(weight.grad, found[name].grad, rtol=1e-10, atol=1e-12 * float(weight.grad.abs().max())), name


def test_every_weight_gets_a_gradient() -> None:
    """ALB-038, ALB-043: no gradient reached the layers, or the up projection."""
    from stages.lib.device import Compute

    model = Llama(shape(tie_word_embeddings=False), seed=1)
    line = ids()
    loss_sum(model, line[:, :-1], line[:, 1:], Compute(torch.device("cpu"), False))[0].backward()
    for name, weight in model.named_parameters():
        assert float(weight.grad.abs().sum()) > 0, name


@pytest.mark.parametrize("autocast", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
def test_attention_is_torchs_flash_kernel_and_no_tensor_of_all_scores_is_made(autocast: bool, masked: bool) -> None:
    """Scores of all pairs, 4 T^2 bytes for each head of each row, are what a card runs out of at long rows."""
    from torch.utils._python_dispatch import TorchDispatchMode

    kernels: set[str] = set()

    class Seen(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if "attention" in str(func):
                kernels.add(str(func))
            made = func(*args, **(kwargs or {}))
            assert not (isinstance(made, torch.Tensor) and made.shape[-2:] == (96, 96) and made.numel() > 3 * 96 * 96), func
            return made

    model = Llama(Shape(d_model=64, layers=1, heads=4, kv_heads=2, ffn=48, vocab_size=50, context=96), seed=1)
    with Seen():
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            logits = model(torch.randint(0, 50, (3, 96)), eos_id=0 if masked else None)
        logits.sum().backward()
    assert kernels and all("flash" in name for name in kernels), kernels


def test_the_order_of_tokens_matters() -> None:
    """ALB-106: without RoPE, attention cannot tell one order from another."""
    model = Llama(shape(layers=1), seed=1)
    line = ids(rows=1)
    turned = torch.cat((line[:, :-1].flip(1), line[:, -1:]), dim=1)
    assert not torch.allclose(model(line)[:, -1], model(turned)[:, -1], atol=1e-6)


def test_rotation_and_swiglu_have_the_right_gradients() -> None:
    """ALB-043, ALB-119: the factor `up`, or the rotation, was missing on the way back."""
    one = shape(d_model=8, heads=2, kv_heads=1, ffn=6)
    x = torch.randn(1, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    cos, sin = rotary(one, 2, 3, x)
    assert torch.autograd.gradcheck(lambda v: rotate(v, cos, sin), (x,))
    mlp = MLP(one).double()
    assert torch.autograd.gradcheck(mlp, (torch.randn(2, 8, dtype=torch.float64, requires_grad=True),))


def test_a_layer_that_adds_nothing_passes_the_gradient_unchanged() -> None:
    """ALB-126: the gradient of the residual path went through the norm."""
    one = shape()
    block = Block(one, 0)
    torch.nn.init.zeros_(block.self_attn.o_proj.weight)
    torch.nn.init.zeros_(block.mlp.down_proj.weight)
    for norm in (block.input_layernorm, block.post_attention_layernorm):
        torch.nn.init.ones_(norm.weight)
    x = torch.randn(1, 4, 32, requires_grad=True)
    wanted = torch.randn(1, 4, 32)
    block(x, *rotary(one, 0, 4, x), None).backward(wanted)
    assert torch.equal(x.grad, wanted)


def test_more_positions_than_the_model_has_are_refused() -> None:
    """ALB-074: a sequence longer than the context read beyond its buffers."""
    with pytest.raises(ValueError, match="17 positions, but the model has 16"):
        Llama(shape(), seed=1)(ids(17))


def test_the_start_is_fixed_by_the_seed_for_every_build() -> None:
    """U-12: the same seed started two builds from different weights."""
    torch.manual_seed(99)
    weights = dict(Llama(shape(), seed=7).named_parameters())
    hasher = hashlib.sha256(json.dumps(sorted(weights)).encode())
    for name in sorted(weights):
        hasher.update(weights[name].detach().numpy().tobytes())
    assert hasher.hexdigest() == GOLDEN_INIT


def test_the_start_of_one_weight_depends_on_no_other() -> None:
    small, large = Llama(shape(layers=2), seed=7), Llama(shape(layers=2, tie_word_embeddings=False), seed=7)
    assert torch.equal(small.model.embed_tokens.weight, large.model.embed_tokens.weight)
    other = Llama(shape(), seed=8)
    assert not torch.equal(small.model.embed_tokens.weight, other.model.embed_tokens.weight)
    assert abs(float(small.model.embed_tokens.weight.detach().std()) - 0.02) < 0.001


def test_the_start_of_a_weight_follows_from_its_name_and_shape_whatever_is_built_before_it() -> None:
    """U-12: drawn one after another, a wider FFN in the first layer would move every weight behind it."""
    torch.manual_seed(1)
    one, other = (dict(Llama(shape(ffn=ffn, vocab_size=words), seed=7).named_parameters()) for ffn, words in ((48, 290), (56, 310)))
    same = [name for name, weight in one.items() if weight.shape == other[name].shape]
    assert len(same) == 2 * 6 + 1 and "model.layers.1.self_attn.q_proj.weight" in same
    assert [name for name in same if not torch.equal(one[name], other[name])] == []

    class Backwards(Llama):
        def named_parameters(self, *given: Any, **named: Any) -> Any:
            return reversed(list(super().named_parameters(*given, **named)))

    turned = dict(Backwards(shape(), seed=7).named_parameters())
    assert [name for name, weight in one.items() if not torch.equal(weight, turned[name])] == []


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device to build on")
def test_the_start_is_the_same_on_a_gpu() -> None:
    here = dict(Llama(shape(), seed=7).named_parameters())
    with torch.device("cuda"):
        there = dict(Llama(shape(), seed=7).named_parameters())
    assert {weight.device.type for weight in there.values()} == {"cuda"}
    assert [name for name, weight in here.items() if not torch.equal(weight, there[name].cpu())] == []


def test_the_cache_is_as_large_as_keys_and_values_and_not_larger() -> None:
    """ALB-102: the cache was allocated for all heads."""
    one = shape()
    cache = Cache(one, 1, torch.empty(0))
    assert cache.keys.nbytes + cache.values.nbytes == 2 * 2 * (2 * one.head_dim) * 16 * 4


def test_a_cache_is_written_where_it_lies_and_read_without_a_copy() -> None:
    """ALB-103, ALB-104: keys and values of all tokens before were copied for every new one."""
    one = shape()
    cache = Cache(one, 1, torch.empty(0))
    places = cache.keys.data_ptr(), cache.values.data_ptr()
    for _ in range(5):
        found = cache.put(1, *(torch.ones(1, one.num_key_value_heads, 1, one.head_dim) for _ in range(2)))
        cache.length += 1
        assert [part.untyped_storage().data_ptr() for part in found] == list(places)
    assert (cache.keys.data_ptr(), cache.values.data_ptr()) == places
    assert float(cache.keys[1, :, :, :5].sum()) == float(found[0].sum()) == 5 * one.num_key_value_heads * one.head_dim


def test_reading_in_pieces_gives_the_logits_of_reading_at_once() -> None:
    """U-14: training and decoding must be the same function."""
    model = Llama(shape(), seed=2)
    line = ids(rows=2)
    cache = Cache(model.shape, 2, model.model.norm.weight)
    parts = [model(line[:, a:b], cache) for a, b in ((0, 5), (5, 6), (6, 16))]
    assert torch.allclose(torch.cat(parts, dim=1), model(line), atol=1e-6)


def test_greedy_decoding_is_the_naive_one_until_the_context_is_full_and_goes_on_after() -> None:
    model = Llama(shape(), seed=2)
    for weight in model.parameters():
        weight.data.mul_(8.0)
    new = generate(model, [5, 6, 7], 30, eos_id=0)
    line = [0, 5, 6, 7]
    while len(line) < 16:
        line.append(int(model(torch.tensor([line]))[0, -1].argmax()))
    assert new[: len(line) - 4] == line[4:]
    assert len(new) == 30
    assert len(generate(model, list(range(1, 60)), 3, eos_id=0)) == 3
