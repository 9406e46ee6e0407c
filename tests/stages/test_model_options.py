"""Options of the network: each against transformers, each as it was before where it is off."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support_data import ROOT
from support_model import in_float64

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

from stages.lib import hf  # noqa: E402
from stages.lib.device import Compute  # noqa: E402
from stages.lib.loss import loss_sum  # noqa: E402
from stages.lib.model import Llama, documents_mask  # noqa: E402
from stages.lib.sample import generate  # noqa: E402
from stages.lib.shape import Shape, shape_of_hf  # noqa: E402

CPU = Compute(torch.device("cpu"), False)
EOS = 0
LINEAR = {"rope_type": "linear", "factor": 4.0}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 64}
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {}, "qk_norm": {"qk_norm": True}, "untied": {"tied": False}, "linear": {"rope_scaling": LINEAR},
    "llama3": {"rope_scaling": LLAMA3}, "all": {"qk_norm": True, "tied": False, "rope_scaling": LLAMA3, "kv_heads": 1},
}
# Taken with every option off and every CPU made to compute alike; see PORTABLE.
BEFORE = ("c1e04931ddb283018691fc258264ef65d5a6b87fa9c04fac5b56ea3097ae420e",
          "344d791ffc79062ba1a70679608eeca86093bf31eac46444388b38ca5dd9af9f")
TAKEN_WITH = "2.13.0"
PORTABLE = {"ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE", "ONEDNN_MAX_CPU_ISA": "SSE41", "OMP_NUM_THREADS": "1"}


def shape(**values: Any) -> Shape:
    return Shape(**{"d_model": 32, "layers": 2, "heads": 4, "kv_heads": 2, "ffn": 48, "vocab_size": 290, "context": 256,
                    **values})


def model_of(one: Shape) -> Llama:
    """Weights far from the flat start, where errors hide; norms unlike 1, so that a missing one shows."""
    model = Llama(one, seed=5)
    for name, weight in model.named_parameters():
        weight.data.mul_(5.0 if weight.ndim > 1 else 1.0)
        if weight.ndim == 1:
            weight.data.add_(torch.linspace(-0.3, 0.4, len(weight)) * (1 + len(name) % 3))
    return model


def rows(count: int = 40) -> Any:
    """Two rows of three documents each, told apart by end-of-text at different places."""
    line = torch.randint(1, 290, (2, count), generator=torch.Generator().manual_seed(1))
    line[0, [9, 10, 31]] = line[1, [0, 24, 39]] = EOS
    return line


def peer_of(model: Llama, one: Shape, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """transformers' reading of the folder that we write, computing in float64 all through."""
    transformers = pytest.importorskip("transformers")
    tokenizer = folder / "tok"
    tokenizer.mkdir()
    (tokenizer / "tokenizer.json").write_text('{"added_tokens": [{"id": 0, "content": "<|endoftext|>"}]}')
    hf.write(folder, model, one, tokenizer, {})
    return in_float64(transformers.AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, dtype=torch.float64), monkeypatch)


@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
@pytest.mark.parametrize("name", OPTIONS)
def test_logits_and_every_gradient_of_an_option_are_those_of_transformers(
    name: str, masked: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = shape(**OPTIONS[name])
    model = model_of(one)
    peer = peer_of(model, one, tmp_path, monkeypatch)
    assert type(peer).__name__ == ("Qwen3ForCausalLM" if one.qk_norm else "LlamaForCausalLM")
    model.double()
    line = rows()
    mask = documents_mask(line, EOS, torch.float64) if masked else None
    ours = model(line, eos_id=EOS if masked else None)
    theirs = peer(line, attention_mask=mask, position_ids=torch.arange(40).expand(2, -1)).logits
    assert torch.allclose(ours, theirs, rtol=1e-12, atol=1e-12)
    ours.square().mean().backward()
    theirs.square().mean().backward()
    found = dict(peer.named_parameters())
    for weight_name, weight in model.named_parameters():
        largest = float(weight.grad.abs().max())
        assert largest > 0, weight_name
        assert torch.allclose(weight.grad, found[weight_name].grad, rtol=1e-10, atol=1e-12 * largest), weight_name


@pytest.mark.parametrize("name", OPTIONS)
def test_what_is_written_is_read_back_as_the_same_shape_and_weights(name: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    one = shape(**OPTIONS[name])
    assert shape_of_hf(hf.hf_config(one, EOS)) == one
    peer = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.for_model(**hf.hf_config(one, EOS)))
    peer.save_pretrained(tmp_path)
    read = hf.read(tmp_path, torch.device("cpu"))
    assert read.shape == one
    assert torch.allclose(read(rows()), peer.eval()(rows()).logits, atol=1e-5)


def test_a_document_in_a_masked_row_is_as_if_it_stood_alone() -> None:
    """The end-of-text before it is its first input, as in evaluate and complete; positions need not start anew."""
    model = model_of(shape(qk_norm=True, rope_scaling=LLAMA3)).double()
    line = rows()
    whole = model(line, eos_id=EOS)
    for row, start, end in ((0, 0, 9), (0, 9, 10), (0, 10, 31), (0, 31, 40), (1, 0, 24), (1, 24, 39), (1, 39, 40)):
        alone = model(line[row : row + 1, start:end])
        assert torch.allclose(whole[row, start:end], alone[0], atol=1e-5), (row, start)
    assert not torch.allclose(whole[0, 10:31], model(line)[0, 10:31], atol=1e-3)


def test_no_gradient_crosses_from_one_document_into_another() -> None:
    model = model_of(shape()).double()
    line = rows()[:1]
    seen = model.model.embed_tokens(line).detach().requires_grad_()
    model.model.embed_tokens.register_forward_hook(lambda *_: seen)
    model(line, eos_id=EOS)[0, 10:31].square().sum().backward()
    reached = seen.grad.abs().sum(dim=-1)[0] > 0
    assert reached.tolist() == [10 <= place < 31 for place in range(40)]


def test_a_masked_loss_in_bf16_is_near_that_in_fp32() -> None:
    model, line = model_of(shape()), rows()
    exact, _ = loss_sum(model, line[:, :-1], line[:, 1:], CPU, EOS)
    rough, _ = loss_sum(model, line[:, :-1], line[:, 1:], Compute(torch.device("cpu"), True), EOS)
    assert float(rough.detach()) == pytest.approx(float(exact.detach()), rel=0.02)


def test_a_cache_and_documents_are_not_mixed() -> None:
    from stages.lib.model import Cache

    model = Llama(shape(), seed=1)
    with pytest.raises(ValueError, match="a cache holds one document"):
        model(rows()[:1], Cache(model.shape, 1, torch.empty(0)), EOS)


@pytest.mark.parametrize("name", OPTIONS)
def test_reading_in_pieces_and_decoding_know_the_option_too(name: str) -> None:
    """U-14: training and decoding must be the same function."""
    model = model_of(shape(**OPTIONS[name])).double()
    new = generate(model, [5, 6, 7], 12, eos_id=EOS)
    line = [EOS, 5, 6, 7]
    for token in new:
        assert token == int(model(torch.tensor([line]))[0, -1].argmax())
        line.append(token)
    assert new


def test_the_start_of_a_weight_is_the_same_with_every_option() -> None:
    """U-12: options add weights and change none of those that were there."""
    plain = dict(Llama(shape(), seed=7).named_parameters())
    for values in OPTIONS.values():
        if "kv_heads" in values:
            continue
        other = dict(Llama(shape(**values), seed=7).named_parameters())
        assert [name for name, weight in plain.items() if not torch.equal(weight, other[name])] == []
        assert all(bool((weight == 1).all()) for name, weight in other.items() if name.endswith("_norm.weight"))


def three_steps(autocast: bool) -> str:
    """The digest of weights and moments after three steps of a tiny model, options off, products as torch itself makes them."""
    import numpy as np

    from stages.lib import products
    from stages.lib.loader import Loader
    from stages.lib.settings import OptimizerConfig, TrainingConfig
    from stages.lib.trainer import Trainer

    products._CPU_BY_FP32 = False
    torch.set_num_threads(1)
    lines = np.random.Generator(np.random.Philox(key=1)).integers(0, 290, (40, 16), dtype=np.uint32)
    training = TrainingConfig(max_steps=3, batch_size=4, accumulation=2, warmup_steps=1)
    trainer = Trainer(Llama(shape(context=16), 3), Loader(lines, 8, 3, None), OptimizerConfig(lr=0.01), training,
                      Compute(torch.device("cpu"), autocast))
    for step in (1, 2, 3):
        trainer.gradients(step)
        trainer.update(training.lr_at(step, 0.01), 1.0)
    hasher = hashlib.sha256()
    for group in (dict(trainer.model.named_parameters()), trainer.tensors()["moments"]):
        for name, value in sorted(group.items()):
            hasher.update(name.encode() + value.detach().numpy().tobytes())
    return hasher.hexdigest()


@pytest.mark.skipif(torch.__version__.split("+")[0] != TAKEN_WITH, reason=f"the digests were taken with torch {TAKEN_WITH}")
def test_with_every_option_off_training_is_to_the_bit_what_it_was_before_there_were_options() -> None:
    code = "import test_model_options as t; print(t.three_steps(False), t.three_steps(True))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                          env={**os.environ, **PORTABLE, "PYTHONPATH": f"{ROOT}:{Path(__file__).parent}"})
    assert tuple(done.stdout.split()) == BEFORE
