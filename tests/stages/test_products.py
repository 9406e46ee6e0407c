"""Products in few bits that a CPU makes by fp32's instructions are the numbers that products in few bits are."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

from stages.lib import products  # noqa: E402
from stages.lib.device import Compute  # noqa: E402
from stages.lib.loss import loss_sum  # noqa: E402
from stages.lib.model import Llama  # noqa: E402
from stages.lib.products import Projection, product  # noqa: E402
from stages.lib.shape import Shape  # noqa: E402

CPU, KINDS = torch.device("cpu"), [torch.bfloat16, torch.float16]
TINY = {"d_model": 32, "layers": 2, "heads": 4, "kv_heads": 2, "ffn": 48, "vocab_size": 64, "context": 32}


def drawn(*size: int, seed: int = 1) -> Any:
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed))


def of_way_back(kind: Any) -> list[Any]:
    """Output and both gradients of a projection of three rows of five, in its autocast."""
    layer = Projection(24, 16)
    x = drawn(3, 5, 24).requires_grad_()
    with torch.no_grad():
        layer.weight.copy_(drawn(16, 24, seed=2))
    with torch.autocast("cpu", kind):
        y = layer(x)
    y.backward(drawn(3, 5, 16, seed=3).to(kind))
    return [y.detach(), x.grad, layer.weight.grad]


@pytest.mark.parametrize("kind", KINDS)
def test_a_product_is_the_exact_one_rounded_once(kind: Any) -> None:
    """Whole numbers whose sums fp32 holds exactly, so that fp64 tells the one right answer."""
    left, right = (torch.randint(-99, 100, size, generator=torch.Generator().manual_seed(7)) for size in ((9, 40), (40, 11)))
    made = product(left.to(kind), right.to(kind))
    assert made.dtype == kind
    assert torch.equal(made, (left.double() @ right.double()).to(kind))


@pytest.mark.parametrize("kind", KINDS)
def test_a_projection_and_its_gradients_are_those_of_torch_by_products_of_fp32(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """To a rounding of the last bit: the order of sums is another."""
    seen, mm, found = [], torch.mm, {}

    def looked(left: Any, right: Any) -> Any:
        made = mm(left, right)
        seen.append(made.dtype)
        return made

    monkeypatch.setattr(torch, "mm", looked)
    for by_fp32 in (True, False):
        monkeypatch.setattr(products, "_CPU_BY_FP32", by_fp32)
        found[by_fp32] = of_way_back(kind)
    assert seen == [torch.float32] * 3, "one on the way there and two on the way back"
    for ours, theirs in zip(found[True], found[False], strict=True):
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
        assert ((ours.double() - theirs.double()).abs() <= torch.finfo(kind).eps * theirs.double().abs() + 1e-3).all()


def test_without_autocast_and_in_fp64_nothing_is_rounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "_CPU_BY_FP32", True)
    layer, x = Projection(24, 16).double(), drawn(2, 24).double()
    assert torch.equal(layer(x), x @ layer.weight.t())


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="compiling for a CPU needs g++")
def test_what_is_compiled_rounds_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Left to itself the compiler fuses both casts away, and the run would not be in bf16."""
    monkeypatch.setattr(products, "_CPU_BY_FP32", True)
    layer = Projection(24, 24)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(24))
    x = drawn(4, 24)

    def shifted(states: Any) -> Any:
        return layer(states * 1.01).float()

    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found = torch.compile(shifted, dynamic=False)(x)
    assert torch.equal(found, (x * 1.01).bfloat16().float())
    assert not torch.equal(found, x * 1.01)


@pytest.mark.parametrize("half", [False, True], ids=["bf16", "fp16"])
def test_every_product_of_a_model_takes_rounded_numbers_and_is_as_near_to_fp32s_as_torchs_own(
    half: bool, monkeypatch: pytest.MonkeyPatch,
) -> None:
    ids = torch.randint(0, 64, (3, 21), generator=torch.Generator().manual_seed(5))
    kind, seen, mm = KINDS[half], [], torch.mm

    def looked(left: Any, right: Any, **out: Any) -> Any:
        seen.extend((one.dtype == torch.float32 and torch.equal(one, one.to(kind).float())) for one in (left, right))
        return mm(left, right, **out)

    def found(compute: Compute) -> tuple[float, Any]:
        model = Llama(Shape(**TINY), seed=3)
        loss, _ = loss_sum(model, ids[:, :-1], ids[:, 1:], compute)
        loss.backward()
        return loss.item(), torch.cat([weight.grad.flatten() for weight in model.parameters()])

    exact, exact_grown = found(Compute(CPU, False))
    away = {}
    for by_fp32 in (True, False):
        monkeypatch.setattr(products, "_CPU_BY_FP32", by_fp32)
        with monkeypatch.context() as only_here:
            if by_fp32:
                only_here.setattr(torch, "mm", looked)
            loss, grown = found(Compute(CPU, True, half))
        away[by_fp32] = float((grown - exact_grown).norm() / exact_grown.norm())
        assert loss == pytest.approx(exact, rel=2e-3)
    assert len(seen) == 2 * 3 * (7 * TINY["layers"] + 1) and all(seen)
    assert 0 < away[True] <= 1.2 * away[False] < 0.05
