"""Evaluate: every byte of every held-out file is paid for, beside rivals that are really measured."""

from __future__ import annotations

import json
import math
import random
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support_data import apply_of, plan_of, text_table, tree
from support_model import corpus, pretrain, settings

from stages.lib import rivals
from stages.lib.stage import Report, StageError


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = corpus(tmp_path_factory.mktemp("corpus"))
    pretrain(settings(folder, folder / "model"), folder / "run")
    return folder


def evaluate(trained: Path, out: Path, **values: Any) -> tuple[Report, dict[str, Any]]:
    given = {"model": str(trained / "model"), "val_text": str(trained / "split/val"), "stride": 8, "threads": 1,
             "max_new_tokens": 5, "out": str(out), **values}
    report = apply_of("evaluate", out.parent / f"{out.name}.run", **given)
    return report, json.loads((out / "report.json").read_text())


@pytest.mark.skipif(not shutil.which("xz"), reason="the xz command is not installed")
def test_the_rivals_are_what_the_xz_command_writes() -> None:
    """Own figures are held to the tool that a reader would use."""
    made = random.Random(1)
    texts = [bytes(made.choices(b"abcdef \n", k=3000)) for _ in range(3)]

    def by_xz(data: bytes) -> int:
        return len(subprocess.run(["xz", "-9e", "-T1", "-c"], input=data, capture_output=True, check=True).stdout)

    total = sum(map(len, texts))
    assert rivals.per_file(texts) == pytest.approx(8 * sum(map(by_xz, texts)) / total, rel=0.01)
    assert rivals.one_stream(texts) == pytest.approx(8 * by_xz(b"".join(texts)) / total, rel=0.01)


def test_priming_with_the_same_text_costs_almost_nothing() -> None:
    text = [bytes(random.Random(2).choices(range(256), k=20_000))]
    assert rivals.primed(text, text) < 0.2 < 7.5 < rivals.primed(text, [b"other"])


@pytest.mark.torch
@pytest.mark.parametrize(("length", "context", "stride"), [(1, 8, 4), (8, 8, 4), (9, 8, 4), (50, 8, 3), (50, 8, 8), (7, 16, 1)])
def test_windows_score_each_token_once(length: int, context: int, stride: int) -> None:
    from stages.lib.bits import windows

    scored: list[int] = []
    for start, end, first in windows(length, context, stride):
        assert 0 < end - start <= context and start <= first < end
        assert first == 0 or first - start >= context - stride or end == length
        scored += range(first, end)
    assert scored == list(range(length))


@pytest.mark.torch
def test_the_price_is_the_sum_over_all_tokens_however_they_are_batched(trained: Path) -> None:
    import torch

    from stages.lib import hf
    from stages.lib.bits import price
    from stages.lib.device import Compute

    model, cpu = hf.read(trained / "model", torch.device("cpu")), Compute(torch.device("cpu"), False)
    documents = [[5, 6, 7], [9], [], [11, 12, 13, 14, 15, 16, 17, 18]]
    nats = 0.0
    for ids in documents:
        losses = model(torch.tensor([[0, *ids]]))[0].log_softmax(-1)
        nats -= sum(losses[place, token].item() for place, token in enumerate([*ids, 0]))
    for size in (1, 3):
        found = price(model, documents, 100, 0, 16, 8, cpu, size, lambda: None)
        assert (found.tokens, found.text_bytes) == (16, 100)
        assert found.nats == pytest.approx(nats, rel=1e-5)
        assert found.bits_per_byte == pytest.approx(nats / math.log(2) / 100, rel=1e-5)


@pytest.mark.torch
def test_the_report_counts_every_byte_and_is_the_same_each_time(trained: Path, tmp_path: Path) -> None:
    values = {"train_text": str(trained / "split/train")}
    report, told = evaluate(trained, tmp_path / "a", **values)
    evaluate(trained, tmp_path / "b", batch_size=3, **values)
    texts = rivals.texts_of(trained / "split/val")
    assert told["text"]["bytes"] == sum(map(len, texts))
    assert tree(tmp_path / "a") == tree(tmp_path / "b")
    assert told["trained"]["bits_per_byte"] < told["untrained"]["bits_per_byte"] and told["better_than_untrained"]
    assert told["untrained"]["loss"] == pytest.approx(math.log(290), rel=0.05)
    assert set(told["xz_9e"]) == {"per_file", "one_stream", "primed"}
    for rival in told["xz_9e"].values():
        assert rival["beaten"] == (told["trained"]["bits_per_byte"] < rival["bits_per_byte"])
    assert "bits per byte (untrained" in report.headline[0] and "primed" in report.headline[1]


@pytest.mark.torch
def test_weights_on_disk_are_the_ones_used(trained: Path, tmp_path: Path) -> None:
    """ALB-037: inference ignored the weights that it had loaded."""
    import safetensors.torch

    shutil.copytree(trained / "model", tmp_path / "other")
    weights = safetensors.torch.load_file(tmp_path / "other/model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][3] += 1.0
    safetensors.torch.save_file(weights, tmp_path / "other/model.safetensors", metadata={"format": "pt"})
    _, one = evaluate(trained, tmp_path / "a")
    _, other = evaluate(trained, tmp_path / "b", model=str(tmp_path / "other"))
    assert one["trained"] != other["trained"] and one["untrained"] == other["untrained"]


@pytest.mark.torch
def test_bytes_of_every_kind_are_scored(trained: Path, tmp_path: Path) -> None:
    texts = ["\tx = 'caf\u00e9 \U0001f600'\r\n" * 9, "<|endoftext|>", "", "a"]
    text_table(tmp_path / "text", texts)
    _, told = evaluate(trained, tmp_path / "a", val_text=str(tmp_path / "text"))
    assert told["text"]["bytes"] == sum(len(text.encode()) for text in texts)
    text_table(tmp_path / "empty", [""])
    with pytest.raises(StageError, match="holds no text"):
        evaluate(trained, tmp_path / "b", val_text=str(tmp_path / "empty"))


@pytest.mark.torch
@pytest.mark.parametrize("gone", ["tokenizer.json", "model.safetensors", "config.json", "training.json"])
def test_a_model_that_lacks_a_file_gets_no_score(trained: Path, tmp_path: Path, gone: str) -> None:
    """ALB-130: without its tokenizer a model was said to have solved 164 of 164."""
    shutil.copytree(trained / "model", tmp_path / "model")
    (tmp_path / "model" / gone).unlink()
    values = {"model": str(tmp_path / "model"), "val_text": str(trained / "split/val"), "out": str(tmp_path / "out")}
    found = plan_of("evaluate", **values)
    assert not found.ok and gone in "".join(c.text for c in found.checks if c.level == "error")


@pytest.mark.torch
def test_a_stride_beyond_the_context_is_refused(trained: Path, tmp_path: Path) -> None:
    values = {"model": str(trained / "model"), "val_text": str(trained / "split/val"), "out": str(tmp_path / "out")}
    assert plan_of("evaluate", stride=16, **values).ok
    assert "leaves out tokens" in "".join(c.text for c in plan_of("evaluate", stride=17, **values).checks)
