"""The options of a step: averages, fp16, layers computed again, Muon, compiling."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

from stages.lib import optim  # noqa: E402
from stages.lib.device import Compute  # noqa: E402
from stages.lib.loader import Loader  # noqa: E402
from stages.lib.model import Llama  # noqa: E402
from stages.lib.settings import OptimizerConfig, TrainingConfig  # noqa: E402
from stages.lib.shape import Shape  # noqa: E402
from stages.lib.trainer import Trainer  # noqa: E402

SHAPE = Shape(d_model=32, layers=2, heads=4, kv_heads=2, ffn=48, vocab_size=290, context=16)
ROWS = np.random.Generator(np.random.Philox(key=1)).integers(0, 290, (64, 16)).astype("uint16")
CPU = torch.device("cpu")


def trainer(optimizer: OptimizerConfig | None = None, compute: Compute | None = None, compiled: bool = False, **values: Any) -> Trainer:
    torch.set_num_threads(1)
    training = TrainingConfig(**{"max_steps": 9, "batch_size": 4, "accumulation": 2, **values})
    loader = Loader(ROWS, training.rows_per_step, 1, None)
    optimizer = optimizer or OptimizerConfig(lr=0.01)
    return Trainer(Llama(SHAPE, seed=1), loader, optimizer, training, compute or Compute(CPU, False), None, compiled)


def steps(one: Trainer, first: int, last: int, max_norm: float | None = 1.0) -> list[Any]:
    found = []
    for number in range(first, last + 1):
        found.append(one.gradients(number))
        one.update(0.01, max_norm)
    return found


def weights(one: Trainer) -> dict[str, Any]:
    return {name: value.clone() for name, value in one.tensors()["weights"].items()}


def test_averaged_weights_follow_their_formula_and_are_what_is_validated() -> None:
    """average = decay x average + (1 - decay) x weight after every step, from the start weights on."""
    one = trainer(ema=0.5)
    wanted = weights(one)
    for number in (1, 2, 3):
        steps(one, number, number)
        wanted = {name: 0.5 * value + 0.5 * one.tensors()["weights"][name] for name, value in wanted.items()}
    found = one.tensors()["average"]
    assert all(torch.allclose(found[name], value, atol=1e-7) for name, value in wanted.items())
    line = torch.from_numpy(ROWS[:4].astype("int64"))
    batch = [(line[:, :-1], line[:, 1:])]
    before, loss = weights(one), one.validate(batch)
    assert all(torch.equal(before[name], value) for name, value in one.tensors()["weights"].items()), "training goes on from its own"
    other = trainer()
    other.restore({**one.tensors(), "weights": wanted}, {})
    assert loss == pytest.approx(other.validate(batch), rel=1e-5) and loss != pytest.approx(trainer_loss(one, batch), rel=1e-5)


def trainer_loss(one: Trainer, batch: list[Any]) -> float:
    from stages.lib.loss import mean_loss

    return mean_loss(one.model, batch, one.compute)


def test_averages_and_moments_come_back_bit_for_bit() -> None:
    one, other = trainer(ema=0.9), trainer(ema=0.9)
    steps(one, 1, 3)
    other.restore({stem: {name: value.clone() for name, value in group.items()} for stem, group in one.tensors().items()}, one.counters())
    assert steps(one, 4, 6) == steps(other, 4, 6)
    for stem, group in one.tensors().items():
        assert all(torch.equal(value, other.tensors()[stem][name]) for name, value in group.items()), stem


def test_random_generators_go_on_where_they_were_saved() -> None:
    """Practice 5, through what a checkpoint takes and gives back."""
    one = trainer()
    kept = {stem: {name: value.clone() for name, value in group.items()} for stem, group in one.tensors().items()}
    drawn = float(torch.rand(1)), float(np.random.rand())
    one.restore(kept, one.counters())
    assert (float(torch.rand(1)), float(np.random.rand())) == drawn


def test_validation_masks_documents_as_training_does() -> None:
    from stages.lib.loss import mean_loss

    line = torch.from_numpy(np.where(ROWS[:4] % 5 == 0, 0, ROWS[:4]).astype("int64"))
    batch = [(line[:, :-1], line[:, 1:])]
    plain = trainer()
    for weight in plain.weights:
        weight.data.mul_(4)
    masked = Trainer(plain.model, plain.loader, OptimizerConfig(lr=0.01), plain.training, plain.compute, eos_id=0)
    apart, together = (mean_loss(plain.model, batch, plain.compute, eos) for eos in (0, None))
    assert (masked.validate(batch), plain.validate(batch)) == (apart, together) and apart != together


def test_layers_computed_again_give_the_same_gradients() -> None:
    plain, again = trainer(), trainer(activation_checkpointing=True)
    assert steps(plain, 1, 2) == steps(again, 1, 2)
    assert all(torch.equal(value, weights(again)[name]) for name, value in weights(plain).items())


def test_layers_computed_again_keep_fewer_numbers_for_the_way_back() -> None:
    """And as many as the plan's memory says."""
    from test_memory import needed_of

    def kept(one: Trainer) -> int:
        seen: dict[int, int] = {}
        own = {weight.untyped_storage().data_ptr() for weight in one.weights}

        def look(tensor: Any) -> Any:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                seen[storage.data_ptr()] = storage.nbytes()
            return tensor

        inputs, _ = next(one.loader.micro_batches(1, 4))
        with torch.autograd.graph.saved_tensors_hooks(look, lambda tensor: tensor):
            states = one.model.model(inputs)
        assert states.requires_grad
        return sum(seen.values())

    plain, again = kept(trainer()), kept(trainer(activation_checkpointing=True))
    assert again < plain / 3
    planned = [needed_of(SHAPE, 4, 16, bf16=False, again=again).parts["activations"] for again in (True, False)]
    assert planned[0] < 0.7 * planned[1]


def test_an_fp16_scale_that_is_too_large_skips_the_step_and_falls() -> None:
    """ALB-072: the loss scale of fp16 was applied where nothing divided by it again."""
    half = trainer(compute=Compute(CPU, True, True))
    half.scaler.load_state_dict({**half.scaler.state_dict(), "scale": 2.0**60})
    before = weights(half)
    found = half.gradients(1)
    assert found.overflowed and not math.isfinite(found.norm)
    half.skip()
    assert all(torch.equal(before[name], value) for name, value in weights(half).items())
    assert half.scaler.state_dict()["scale"] == 2.0**59


def test_fp16_gradients_that_no_scale_makes_finite_are_broken_and_not_a_matter_of_the_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else every step would be skipped, in silence, to the end of the run."""
    half = trainer(compute=Compute(CPU, True, True))
    monkeypatch.setattr(optim, "norm", lambda model: torch.tensor(math.inf))
    for scale, overflowed in ((2.0, True), (1.0, False)):
        half.scaler.load_state_dict({**half.scaler.state_dict(), "scale": scale})
        assert half.gradients(1).overflowed is overflowed
        half.skip()


def test_fp16_gradients_are_those_of_fp32_once_unscaled_and_the_scale_is_remembered() -> None:
    half, plain = trainer(compute=Compute(CPU, True, True)), trainer()
    (a,), (b,) = steps(half, 1, 1), steps(plain, 1, 1)
    assert not a.overflowed and a.norm == pytest.approx(b.norm, rel=0.05) and a.loss == pytest.approx(b.loss, rel=0.01)
    half.scaler.load_state_dict({**half.scaler.state_dict(), "scale": 1024.0})
    other = trainer(compute=Compute(CPU, True, True))
    other.restore(half.tensors(), half.counters())
    assert other.scaler.state_dict() == half.scaler.state_dict()
    assert "scaler" not in plain.counters(), "fp32 and bf16 have no scale"


@pytest.mark.parametrize("half", [False, True])
def test_weights_moments_averages_and_gradients_are_fp32_whatever_products_are_made_in(half: bool) -> None:
    """Practices 32, 34 and 35."""
    one = trainer(compute=Compute(CPU, True, half), ema=0.9)
    kinds: set[Any] = set()
    hook = one.model.model.layers[0].mlp.up_proj.register_forward_hook(lambda _layer, _given, made: kinds.add(made.dtype))
    steps(one, 1, 2)
    hook.remove()
    assert kinds == {torch.float16 if half else torch.bfloat16}
    held = [value for stem, group in one.tensors().items() if stem != "random" for value in group.values()]
    assert {value.dtype for value in (*held, *(weight.grad for weight in one.weights))} == {torch.float32}


def losses(count: int, lr: float, compute: Compute, scale: float | None = None, rounds: bool = False) -> list[float]:
    """The loss of each step; `scale` is that of fp16 at the start, `rounds` keeps the weights in bf16."""
    one, found = trainer(compute=compute, max_steps=count), []
    if scale is not None:
        one.scaler.load_state_dict({**one.scaler.state_dict(), "scale": scale})
    for number in range(1, count + 1):
        found.append(one.gradients(number).loss)
        one.update(lr, 1.0)
        for weight in one.weights if rounds else ():
            weight.data.copy_(weight.data.bfloat16())
    return found


@pytest.mark.slow
def test_bf16_learns_as_fp32_does_since_its_weights_stay_fp32() -> None:
    """F-BF16-001, ALB-077: within 5 % at every step; weights that are rounded too lose what a step adds."""
    plain = losses(120, 0.003, Compute(CPU, False))
    fewer, rounded = (losses(120, 0.003, Compute(CPU, True), rounds=rounds) for rounds in (False, True))
    assert plain[-1] < 0.6 * plain[0]
    assert all(a == pytest.approx(b, rel=0.05) for a, b in zip(fewer, plain, strict=True))
    assert rounded[-1] > 1.05 * plain[-1]


@pytest.mark.slow
def test_fp16_learns_with_its_scale_and_not_without() -> None:
    """F-BF16-001. A scale of 2^-13 makes a token weigh as in a step of a million, unscaled: its gradients are too small for fp16."""
    plain = losses(60, 0.001, Compute(CPU, False))
    scaled, unscaled = (losses(60, 0.001, Compute(CPU, True, True), scale) for scale in (2.0**3, 2.0**-13))
    assert scaled[-1] == pytest.approx(plain[-1], rel=0.01)
    assert unscaled[0] - unscaled[-1] < 0.7 * (plain[0] - plain[-1])


def test_muon_takes_the_matrices_of_the_layers_and_adamw_the_rest() -> None:
    one = trainer(OptimizerConfig(name="muon", lr=0.01))
    names = {id(weight): name for name, weight in one.model.named_parameters()}
    adamw, muon = ({names[id(w)] for group in optimizer.param_groups for w in group["params"]} for optimizer in one.optimizers)
    assert adamw.isdisjoint(muon) and adamw | muon == set(names.values())
    assert {name.split(".", 3)[-1] for name in muon} == {
        "self_attn.q_proj.weight", "self_attn.k_proj.weight", "self_attn.v_proj.weight", "self_attn.o_proj.weight",
        "mlp.gate_proj.weight", "mlp.up_proj.weight", "mlp.down_proj.weight"}
    before = weights(one)
    one.gradients(1)
    one.update(0.01, None)
    name = "model.layers.0.mlp.down_proj.weight"
    moved = (weights(one)[name] - before[name] * (1 - 0.01 * 0.1)) / 0.01
    # An orthogonal matrix of this shape has singular values of 1, scaled by 0.2 sqrt(48); five iterations leave them near that.
    sizes = torch.linalg.svdvals(moved) / (0.2 * math.sqrt(48))
    assert float(sizes.min()) > 0.6 and float(sizes.max()) < 1.25
    other = trainer(OptimizerConfig(name="muon", lr=0.01))
    other.restore(one.tensors(), one.counters())
    assert steps(one, 2, 3) == steps(other, 2, 3)


def test_the_norm_of_a_first_micro_batch_is_that_of_its_own_mean_gradient() -> None:
    one, alone = trainer(), trainer(batch_size=4, accumulation=1)
    alone.loader = Loader(ROWS[one.loader.rows_of(1)[:4]], 4, 1, None)
    alone.loader.rows_of = lambda step: np.arange(4)  # type: ignore[method-assign]
    found = one.gradients(1, look=True)
    assert found.micro_norm == pytest.approx(alone.gradients(1).norm, rel=1e-5)
    assert one.gradients(1).micro_norm is None


def test_norms_by_name_are_those_that_make_the_whole() -> None:
    """F-GRAD-001: the logged norm equals an independent one, and a block set to zero changes it."""
    one = trainer()
    found = one.gradients(1)
    norms = one.gradient_norms()
    assert found.norm == pytest.approx(math.sqrt(sum(value**2 for value in norms.values())), rel=1e-6)
    assert norms.keys() == one.weight_norms().keys() == dict(one.model.named_parameters()).keys()
    one.model.model.layers[0].mlp.up_proj.weight.grad.zero_()
    assert one.gradient_norms()["model.layers.0.mlp.up_proj.weight"] == 0.0


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="compiling for a CPU needs g++")
def test_a_compiled_run_learns_what_one_that_is_not_learns() -> None:
    from torch._dynamo.utils import counters

    torch._dynamo.reset()  # what other tests compiled
    plain, compiled = trainer(), trainer(compiled=True)
    graphs, found = [], []
    for one in (plain, compiled):
        counters.clear()
        found.append(steps(one, 1, 4))
        graphs.append(counters["stats"]["unique_graphs"])
    assert graphs == [0, 1], "the body is compiled, once; on a CPU the head's pieces are not"
    for a, b in zip(*found, strict=True):
        assert a.loss == pytest.approx(b.loss, rel=1e-5) and a.norm == pytest.approx(b.norm, rel=1e-4)
    assert all(torch.allclose(value, weights(compiled)[name], atol=1e-4) for name, value in weights(plain).items())
    line = torch.from_numpy(ROWS[:3].astype("int64"))
    assert compiled.validate([(line[:, :-1], line[:, 1:])]) == pytest.approx(plain.validate([(line[:, :-1], line[:, 1:])]), rel=1e-4)


def started(one: Trainer, made: Callable[[], object]) -> list[str]:
    """The kernels that `made` starts in a second step. Counting targets, which lie on the host, is not among the waits for the device."""
    from torch.utils._python_dispatch import TorchDispatchMode

    found: list[str] = []

    class Naming(TorchDispatchMode):
        def __torch_dispatch__(self, called: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            of_host = called is torch.ops.aten._local_scalar_dense.default and not args[0].is_floating_point()
            found.append("host" if of_host else str(called))
            return called(*args, **(kwargs or {}))

    steps(one, 1, 1)
    with Naming():
        made()
    return found


def test_a_step_starts_no_kernel_per_row_and_waits_for_the_device_as_often_whatever_its_size() -> None:
    """ALB-075, ALB-076, ALB-078: kernels were started for each row, and each layer was waited for."""
    def of(rows: int, parts: int) -> list[str]:
        one = trainer(batch_size=rows, accumulation=parts)
        return started(one, lambda: steps(one, 2, 2, max_norm=1e-9))

    assert of(2, 1) == of(8, 1)
    waits = {of(2, parts).count("aten._local_scalar_dense.default") for parts in (1, 2, 4)}
    assert waits == {3}, "for the loss, for the norm, and to know whether to clip"


def test_all_weights_are_clipped_and_updated_together_and_not_one_after_the_other() -> None:
    """Fused AdamW and torch's foreach functions: starting a kernel for each vector of a norm takes longer than what it does."""
    def of(layers: int) -> list[str]:
        one = trainer()
        one = Trainer(Llama(SHAPE.model_copy(update={"num_hidden_layers": layers}), seed=1), one.loader, OptimizerConfig(lr=0.01),
                      one.training, one.compute)
        return started(one, lambda: one.update(0.01, 1e-9))

    few, many = of(1), of(4)
    assert many == few and few.count("aten._fused_adamw_.default") == 2, "matrices, which decay, and vectors, which do not"


def learned(rows: Any, held_out: Any, count: int = 120) -> list[float]:
    """The validation loss before training and after every tenth of `count` steps."""
    training = TrainingConfig(max_steps=count, batch_size=8)
    one = Trainer(Llama(SHAPE, seed=1), Loader(rows, 8, 1, None), OptimizerConfig(lr=0.01), training, Compute(CPU, False))
    line = torch.from_numpy(held_out.astype("int64"))
    found = [one.validate([(line[:, :-1], line[:, 1:])])]
    for number in range(1, count + 1):
        steps(one, number, number)
        if number % (count // 10) == 0:
            found.append(one.validate([(line[:, :-1], line[:, 1:])]))
    return found


def test_validation_falls_while_there_is_something_to_learn_and_not_with_random_labels() -> None:
    """F-EVAL-001: of three validations in a row the mean, so that one odd batch decides nothing."""
    dice = np.random.Generator(np.random.Philox(key=2))
    follows, begins = dice.permutation(290), dice.integers(0, 290, 320)
    lines = [begins]
    for _ in range(15):
        lines.append(follows[lines[-1]])
    ordered, random = np.stack(lines, 1).astype("uint16"), dice.integers(0, 290, (320, 16)).astype("uint16")
    for rows, falls in ((ordered, True), (random, False)):
        found = learned(rows[:256], rows[256:])
        smooth = [sum(found[at : at + 3]) / 3 for at in range(len(found) - 2)]
        assert (smooth[-1] < smooth[0] / 2) is falls, found
        assert (max(later - before for before, later in pairwise(smooth)) < 0) is falls, found


def test_losses_of_shuffled_rows_are_others_at_every_step_than_of_rows_as_they_lie() -> None:
    """F-SHUFFLE-001, and what it is for: rows that lie by kind give a loss that jumps where a kind begins."""
    dice = np.random.Generator(np.random.Philox(key=3))
    kinds = np.concatenate([dice.integers(10 * kind, 10 * kind + 10, (64, 16)) for kind in range(4)]).astype("uint16")

    class AsTheyLie(Loader):
        def _order(self, source: int, epoch: int) -> Any:
            return np.arange(len(self.sources[source]))

    losses = {}
    for order in (Loader, AsTheyLie):
        training = TrainingConfig(max_steps=32, batch_size=8)
        one = Trainer(Llama(SHAPE, seed=1), order(kinds, 8, 1, None), OptimizerConfig(lr=0.01), training, Compute(CPU, False))
        losses[order] = [found.loss for found in steps(one, 1, 32)]
    assert all(ours != theirs for ours, theirs in zip(losses[Loader], losses[AsTheyLie], strict=True))
    jumps = {order: max(later - before for before, later in pairwise(found)) for order, found in losses.items()}
    assert jumps[Loader] < 0.5 < 2.0 < jumps[AsTheyLie], jumps
