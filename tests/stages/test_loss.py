"""The head's loss in pieces against torch's in one."""

from __future__ import annotations

import gc
from typing import Any

import pytest

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402

from stages.lib import loss as module  # noqa: E402
from stages.lib.device import Compute  # noqa: E402
from stages.lib.loss import IGNORED, loss_sum, mean_loss  # noqa: E402
from stages.lib.model import Llama  # noqa: E402
from stages.lib.shape import Shape  # noqa: E402

CPU = torch.device("cpu")


def model_of(**values: Any) -> Llama:
    shape = {"d_model": 32, "layers": 2, "heads": 4, "kv_heads": 2, "ffn": 48, "vocab_size": 290, "context": 32, **values}
    return Llama(Shape(**shape), seed=5)


def batch() -> tuple[Any, Any]:
    line = torch.randint(0, 290, (3, 18), generator=torch.Generator().manual_seed(2))
    targets = line[:, 1:].clone()
    targets[1, 4:9] = IGNORED
    return line[:, :-1], targets


def gradients(model: Llama) -> dict[str, Any]:
    found = {name: weight.grad.clone() for name, weight in model.named_parameters()}
    model.zero_grad(set_to_none=True)
    return found


@pytest.mark.parametrize("rows_at_a_time", [1, 7, 17, 51, 1024])
@pytest.mark.parametrize("z_loss", [0.0, 0.1])
@pytest.mark.parametrize("tied", [True, False])
def test_loss_and_gradients_are_those_of_whole_logits(
    monkeypatch: pytest.MonkeyPatch, rows_at_a_time: int, z_loss: float, tied: bool,
) -> None:
    """Whatever the size of the pieces, the last of which is short; targets that do not count give nothing."""
    monkeypatch.setattr(module, "CHUNK_TOKENS", {"cpu": rows_at_a_time})
    model, (inputs, targets) = model_of(tied=tied).double(), batch()
    weight = torch.tensor(0.25, dtype=torch.float64)
    whole, loss = loss_sum(model, inputs, targets, Compute(CPU, False), weight=weight, z_loss=z_loss)
    whole.backward()
    ours = gradients(model)

    logits = model(inputs).flatten(0, 1)
    plain = F.cross_entropy(logits, targets.flatten(), ignore_index=IGNORED, reduction="sum")
    squares = logits.logsumexp(1).square()[targets.flatten() != IGNORED].sum()
    (weight * (plain + z_loss * squares)).backward()
    theirs = gradients(model)
    assert float(loss) == pytest.approx(float(plain.detach()), rel=1e-12)
    assert float(whole.detach()) == pytest.approx(float((weight * (plain + z_loss * squares)).detach()), rel=1e-12)
    assert ours.keys() == theirs.keys()
    assert all(torch.allclose(ours[name], theirs[name], rtol=1e-6, atol=1e-9) for name in ours)


@pytest.mark.parametrize("half", [False, True], ids=["bf16", "fp16"])
def test_fewer_bits_give_nearly_the_same_loss_and_gradients(half: bool) -> None:
    """F-BF16-001: master weights and sums stay in fp32, so the loss is the same to a hundredth."""
    model, (inputs, targets) = model_of(), batch()
    exact, _ = loss_sum(model, inputs, targets, Compute(CPU, False))
    exact.backward()
    wanted = gradients(model)
    rough, _ = loss_sum(model, inputs, targets, Compute(CPU, True, half))
    rough.backward()
    found = gradients(model)
    assert float(rough.detach()) == pytest.approx(float(exact.detach()), rel=0.01)
    assert all(weight.dtype == torch.float32 for weight in found.values())
    for name, value in found.items():
        assert float((value - wanted[name]).norm()) < 0.05 * float(wanted[name].norm()), name


def test_no_tensor_of_all_logits_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a card ran out of (350M at 2,048 tokens): logits of a whole micro-batch."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Largest(TorchDispatchMode):
        numbers = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            made = func(*args, **(kwargs or {}))
            if isinstance(made, torch.Tensor) and made.ndim == 2 and made.shape[1] == 290 and made.shape[0] != 32:
                self.numbers = max(self.numbers, made.numel())
            return made

    monkeypatch.setattr(module, "CHUNK_TOKENS", {"cpu": 10})
    model, (inputs, targets) = model_of(), batch()
    with Largest() as seen:
        loss_sum(model, inputs, targets, Compute(CPU, False))[0].backward()
        mean_loss(model, [(inputs, targets)], Compute(CPU, False))
    assert seen.numbers == 10 * 290


def test_nothing_of_a_piece_is_held_when_the_next_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its gradient of the head is as large as the head: 134 MB of 350M's, held beside the next one's and their sum."""
    held: list[int] = []
    made = module._chunk

    def looked(*given: Any, **_: Any) -> Any:
        held.append(sum(one.nbytes for one in gc.get_objects() if type(one) in (torch.Tensor, torch.nn.Parameter)))
        return made(*given)

    monkeypatch.setattr(module, "CHUNK_TOKENS", {"cpu": 17})
    monkeypatch.setattr(module, "_chunk", looked)
    model, (inputs, targets) = model_of(), batch()
    loss_sum(model, inputs, targets, Compute(CPU, False))[0].backward()
    assert len(held) == 3 and max(held) - held[0] < 1000, held


@pytest.mark.parametrize("autocast", [False, True], ids=["fp32", "bf16"])
def test_more_pieces_take_no_more_room_from_the_c_library(monkeypatch: pytest.MonkeyPatch, autocast: bool) -> None:
    """glibc before 2.38 fits no aligned tensor where an equal one lay: logits made anew for each piece left up to 0.1 GB of holes."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Made(TorchDispatchMode):
        large = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            made = func(*args, **(kwargs or {}))
            given = {one.untyped_storage().data_ptr() for one in (*args, *(kwargs or {}).values()) if isinstance(one, torch.Tensor)}
            if isinstance(made, torch.Tensor) and made.numel() >= 290 * 32 and made.untyped_storage().data_ptr() not in given:
                self.large += 1
            return made

    model, counts = model_of(), []
    line = torch.randint(0, 290, (3, 33), generator=torch.Generator().manual_seed(2))
    monkeypatch.setattr(module, "CHUNK_TOKENS", {"cpu": 32})
    for rows in (1, 3):
        with Made() as seen:
            loss_sum(model, line[:rows, :-1], line[:rows, 1:], Compute(CPU, autocast))[0].backward()
            mean_loss(model, [(line[:rows, :-1], line[:rows, 1:])], Compute(CPU, autocast))
        counts.append(seen.large)
    assert counts[0] == counts[1] > 0


@pytest.mark.parametrize("by_fp32", [False, True])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16, torch.float16])
def test_what_is_made_in_a_room_is_to_the_bit_what_torch_makes(kind: torch.dtype, by_fp32: bool) -> None:
    """Logits that are no number too: whether a step is broken hangs on them. `by_fp32` they and their gradients are rounded as well."""
    dice = torch.Generator().manual_seed(4)
    states, head = torch.randn(6, 8, generator=dice).to(kind), torch.rand(290, 8, generator=dice).to(kind)
    states[1], states[2], states[3] = torch.inf, -torch.inf, torch.nan
    if by_fp32:
        states, head = states.float(), head.float()
    room = module._Room(9, head, kind, torch.float32, True)
    logits, log_z = room.logits_and_log_z(states, head)
    wanted = torch.mm(states, head.t()).to(kind).float()
    assert torch.allclose(logits, wanted, rtol=0, atol=0, equal_nan=True)
    assert torch.allclose(log_z, wanted.logsumexp(1), rtol=0, atol=0, equal_nan=True)
    back = logits.copy_(torch.randn(6, 290, generator=dice))
    rounded = back.to(kind).to(states.dtype)
    assert torch.equal(room.as_states(back, states), rounded)


def test_a_mean_counts_tokens_and_not_batches() -> None:
    """The evaluation averaged batches, so that a short last one weighed too much."""
    model, (inputs, targets) = model_of(), batch()
    parts = [(inputs[:2], targets[:2]), (inputs[2:], targets[2:])]
    compute = Compute(CPU, False)
    plain = F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten(), ignore_index=IGNORED)
    assert mean_loss(model, parts, compute) == pytest.approx(float(plain.detach()), rel=1e-6)
