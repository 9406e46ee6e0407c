"""A run that is killed and started again ends as one that was not, to the bit."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support_data import tree
from support_kill import PLACES, Starter, said, starter, until
from support_model import corpus, metrics, pretrain, settings

from stages.lib import device
from stages.lib.files import digest_path
from stages.lib.stage import StageError

pytestmark = [pytest.mark.torch, pytest.mark.slow]

# Three epochs long, so that every kill is followed by a change of epoch too.
RUN: dict[str, Any] = {"training__epochs": 3, "training__batch_size": 16, "training__max_steps": 10, "training__row_log": True}
WATCHED = {"spikes": True, "zclip": {"warmup": 2}, "noise_scale": True, "dead": {"interval": 2}, "patience": 9}
OFTEN: dict[str, Any] = {"training__checkpoint_interval": 2, "training__eval_interval": 4, "training__keep": 2}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def starts() -> Iterator[Starter]:
    with starter() as found:
        yield found


@pytest.fixture(scope="module")
def undisturbed(data: Path, starts: Starter, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("undisturbed")
    assert starts.run(folder, settings(data, folder / "out", **RUN)) == (0, summary(folder))
    return ended(folder)


@pytest.fixture(scope="module")
def undisturbed_often(data: Path, starts: Starter, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("undisturbed-often")
    assert starts.run(folder, settings(data, folder / "out", **{**RUN, **OFTEN}))[0] == 0
    return ended(folder)


def summary(folder: Path) -> str:
    """What a good run says: its headline, and nothing of checkpoints."""
    text = said(folder)
    assert text.startswith("validation ") and text.count("\n") == 1
    return text


def ended(folder: Path) -> dict[str, Any]:
    """All that a run comes to: the model, its last state, the rows of every step, and every figure that was shown, which agree."""
    [last, *_] = sorted((folder / "work/checkpoints").glob("step-*"), reverse=True)
    state = json.loads((last / "state.json").read_text())
    del state["trained_s"]
    del state["counters"]["watch"]["guard"]["good_step"]  # it follows the interval of checkpoints
    for evaluation in state["history"]:
        del evaluation["minutes"]
    figures: dict[tuple[int, str], set[float]] = {}
    for attempt in folder.glob("run-*/metrics.jsonl"):
        for line in metrics(attempt.parent):
            for key in line.keys() & {"loss", "lr", "grad_norm", "val", "bits_per_byte"}:
                figures.setdefault((line["step"], key), set()).add(line[key])
    assert {key: values for key, values in figures.items() if len(values) > 1} == {}
    return {
        "out": tree(folder / "out"), "tensors": {p.name: p.read_bytes() for p in sorted(last.glob("*.safetensors"))}, "state": state,
        "rows": (folder / "work/rows.jsonl").read_text(), "figures": figures,
    }


def test_the_corpus_is_read_in_several_epochs(data: Path) -> None:
    rows = json.loads((data / "packed/manifest.json").read_text())["train"]["rows"]
    assert rows // 32 < 10 <= 3 * (rows // 32), f"{rows} rows; choose RUN anew"


@pytest.mark.parametrize(("place", "number", "goes_on_from"), [
    ("step", 5, 0), ("chunk", 2, 0), ("digest", 2, 5), ("renamed", 1, 5), ("model", 1, 10),
])
def test_ten_steps_are_five_a_kill_and_five_more(
    data: Path, tmp_path: Path, starts: Starter, undisturbed: dict[str, Any], place: str, number: int, goes_on_from: int,
) -> None:
    """ALB-096, ALB-118, ALB-120, U-2: killed in a step, in every part of a save, and before the model is written."""
    values = settings(data, tmp_path / "out", **RUN)
    assert starts.run(tmp_path, values, place, number)[0] == -signal.SIGKILL and not (tmp_path / "out").exists()
    code, text = starts.run(tmp_path, values)
    assert code == 0, text
    assert (f"going on from step-{goes_on_from:08d}" in text) is (goes_on_from > 0)
    assert ended(tmp_path) == undisturbed
    assert not [p.name for p in (tmp_path / "work/checkpoints").iterdir() if "partial" in p.name]


def killed_five_times(seed: int, data: Path, folder: Path, starts: Starter, **options: Any) -> None:
    """Before the first save, in the middle of a file of one and between its digest and its rename, then at two moments of any kind."""
    dice = random.Random(seed)
    saving = dice.sample([("chunk", dice.randint(1, 40)), ("rename", 1)], 2)
    others = [("time", dice.randint(30, 700)) if dice.random() < 0.3 else (dice.choice(PLACES), dice.randint(1, 3)) for _ in range(2)]
    values = settings(data, folder / "out", **{**RUN, **OFTEN, **options})
    for place, number in [("step", 1), *saving, *others]:
        assert starts.run(folder, values, place, number)[0] == -signal.SIGKILL, (seed, place, number)
        assert not (folder / "out").exists()
    code, text = starts.run(folder, values)
    assert code == 0, (seed, text)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_five_kills_change_no_bit(
    data: Path, tmp_path: Path, starts: Starter, undisturbed_often: dict[str, Any], seed: int,
) -> None:
    """ALB-096, ALB-118, ALB-120, U-1, U-2: weights, moments, random state, figures of every step and the rows it read."""
    killed_five_times(seed, data, tmp_path, starts)
    assert ended(tmp_path) == undisturbed_often


@pytest.mark.parametrize("options", [
    pytest.param({"training__ema": 0.9, "optimizer__name": "muon", "watch": WATCHED}, id="averaged-muon-watched"),
    pytest.param({"training__ema": 0.9, "training__compile": True}, id="compiled"),
    pytest.param({"training__dtype": "fp16", "training__z_loss": 0.01}, id="fp16", marks=pytest.mark.soak),
    pytest.param({"training__device": "cuda", "training__deterministic": True}, id="deterministic-card",
                 marks=pytest.mark.skipif(not Path("/dev/nvidia0").exists(), reason="there is no CUDA device to be killed on")),
])
def test_five_kills_change_no_bit_with_options_on(data: Path, tmp_path: Path, starts: Starter, options: dict[str, Any]) -> None:
    """Averages, the scale of fp16 gradients and all that watches go on where they were; compiled code is the same code again."""
    assert starts.run(tmp_path / "straight", settings(data, tmp_path / "straight/out", **{**RUN, **OFTEN, **options}))[0] == 0
    killed_five_times(7, data, tmp_path / "killed", starts, **options)
    assert ended(tmp_path / "killed") == ended(tmp_path / "straight")


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(100, 130))
def test_five_kills_change_no_bit_with_many_seeds(
    data: Path, tmp_path: Path, starts: Starter, undisturbed_often: dict[str, Any], seed: int,
) -> None:
    killed_five_times(seed, data, tmp_path, starts)
    assert ended(tmp_path) == undisturbed_often


def test_kills_at_many_places_repeat_and_skip_no_row(data: Path, tmp_path: Path, starts: Starter) -> None:
    """ALB-120, U-2: the log of consumed rows names each step once, and each row of an epoch at most once."""
    values = settings(data, tmp_path / "out", **{**RUN, **OFTEN})
    for place in ("log", *PLACES, "log"):
        starts.run(tmp_path, values, place, 2)
    assert starts.run(tmp_path, values)[0] == 0
    lines = [json.loads(line) for line in (tmp_path / "work/rows.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 11))
    rows = json.loads((data / "packed/manifest.json").read_text())["train"]["rows"]
    epochs: dict[int, list[int]] = {}
    for line in lines:
        epochs.setdefault(line["epoch"], []).extend(line["rows"])
    assert list(epochs) == list(range(len(epochs))) and len(epochs) > 1
    for read in epochs.values():
        assert len(read) == len(set(read)) and set(read) <= set(range(rows))
    assert {len(epochs[epoch]) for epoch in list(epochs)[:-1]} == {rows // 32 * 32}


def test_two_kills_and_a_torn_checkpoint_change_nothing(
    data: Path, tmp_path: Path, starts: Starter, undisturbed: dict[str, Any],
) -> None:
    values = settings(data, tmp_path / "out", **{**RUN, "training__checkpoint_interval": 2, "training__keep": 3})
    starts.run(tmp_path, values, "renamed", 2)
    torn = tmp_path / "work/checkpoints/step-00000004/moments.safetensors"
    torn.write_bytes(torn.read_bytes()[:-7])
    _, text = starts.run(tmp_path, values, "begin", 6)
    assert "checkpoint step-00000004 is skipped" in text and "going on from step-00000002" in text
    assert starts.run(tmp_path, values)[0] == 0
    assert ended(tmp_path) == undisturbed


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_where_it_is_and_says_so(
    data: Path, tmp_path: Path, starts: Starter, sent: signal.Signals, status: int,
) -> None:
    """A graceful stop is an interruption: not a failure, and not an end that looks complete."""
    long = {"training__epochs": 100_000, "training__max_steps": 100_000}
    pid = starts.start(tmp_path, settings(data, tmp_path / "out", **{**RUN, **long}))
    log = tmp_path / "run-0/metrics.jsonl"
    assert until(lambda: log.exists() and '"lr"' in log.read_text())
    begin = time.monotonic()
    os.kill(pid, sent)
    assert starts.wait(pid) == status
    assert time.monotonic() - begin < 10, "the grace of a task that asks for none"
    assert f"stopped by {sent.name} after step" in said(tmp_path)
    step = int(said(tmp_path).split("after step ")[1].split(";")[0])
    assert (tmp_path / f"work/checkpoints/step-{step:08d}/index.json").is_file()
    last = metrics(tmp_path / "run-0")[-1]
    assert (last["status"], last["step"], last["signal"]) == ("interrupted", step, sent.name)
    assert not (tmp_path / "out").exists() and not (tmp_path / "run-0/result.json").exists()


def test_a_signal_before_the_first_step_leaves_nothing_but_its_word(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:
    from stages.lib.trainer import Trainer

    real = Trainer.validate
    monkeypatch.setattr(Trainer, "validate", lambda self, batches: (os.kill(os.getpid(), signal.SIGTERM), real(self, batches))[1])
    with pytest.raises(SystemExit) as stop:
        pretrain(settings(data, tmp_path / "out", **RUN), tmp_path / "run-0", tmp_path / "work")
    assert stop.value.code == 143 and "stopped by SIGTERM after step 0; there is nothing to save yet" in capsys.readouterr().err
    (last,) = metrics(tmp_path / "run-0")
    assert (last["status"], last["step"]) == ("interrupted", 0)
    assert not list(tmp_path.glob("work/checkpoints/*"))


def test_a_signal_while_it_validates_leaves_that_validation_to_the_next_start(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: dict[str, Any],
) -> None:
    from stages.lib.trainer import Trainer

    validate, calls = Trainer.validate, []

    def stopped(self: Trainer, batches: Any) -> float:
        calls.append(1)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return validate(self, batches)

    values = settings(data, tmp_path / "out", **RUN)
    monkeypatch.setattr(Trainer, "validate", stopped)
    with pytest.raises(SystemExit) as stop:
        pretrain(values, tmp_path / "run-0", tmp_path / "work")
    assert stop.value.code == 143
    assert json.loads((tmp_path / "work/checkpoints/step-00000005/state.json").read_text())["history"][-1]["step"] == 0
    pretrain(values, tmp_path / "run-1", tmp_path / "work")
    assert ended(tmp_path) == undisturbed


def test_going_on_writes_nothing_over_what_it_began_with(data: Path, tmp_path: Path, starts: Starter) -> None:
    """ALB-132: the checkpoint a run resumed from was saved again, from other weights."""
    values = settings(data, tmp_path / "out", **RUN)
    starts.run(tmp_path, values, "renamed", 1)
    source = tmp_path / "work/checkpoints/step-00000005"
    before, stamp = digest_path(source), source.stat().st_mtime_ns
    starts.run(tmp_path, values, "step", 2)
    starts.run(tmp_path, values)
    assert (digest_path(source), source.stat().st_mtime_ns) == (before, stamp)


def test_a_run_goes_on_only_with_the_settings_and_the_number_format_it_began_with(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`auto` on a machine whose processor has changed, or whose card is gone, is another format too."""
    pretrain(settings(data, tmp_path / "out"), tmp_path / "run")
    with pytest.raises(StageError, match=r"made with other settings \(optimizer.lr 0.01 -> 0.02\)"):
        pretrain(settings(data, tmp_path / "out", optimizer__lr=0.02), tmp_path / "run")
    (tmp_path / "cpuinfo").write_text("flags : amx_bf16")
    monkeypatch.setattr(device, "CPU_INFO", tmp_path / "cpuinfo")
    with pytest.raises(StageError, match=r"made with other settings \(training.dtype fp32 -> bf16\)"):
        pretrain(settings(data, tmp_path / "out", training__dtype="auto"), tmp_path / "run")


def test_a_resumed_run_holds_nothing_of_the_checkpoint_it_began_with(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mapped tensors that stay in use would keep a pruned checkpoint's room on the disk until the end of the run."""
    from stages.lib.trainer import Trainer

    values = settings(data, tmp_path / "out", **RUN)
    pretrain(values, tmp_path / "run", tmp_path / "work")
    for newer in sorted((tmp_path / "work/checkpoints").iterdir())[1:]:
        (newer / "index.json").unlink()
    held: list[str] = []
    gradients = Trainer.gradients

    def looked(self: Trainer, position: int, look: bool = False) -> Any:
        held.extend(line for line in Path("/proc/self/maps").read_text().splitlines() if "checkpoints/" in line)
        return gradients(self, position, look)

    monkeypatch.setattr(Trainer, "gradients", looked)
    pretrain(values, tmp_path / "again", tmp_path / "work")
    assert held == [] and metrics(tmp_path / "again")[0]["step"] == 6


def test_the_rate_counts_only_steps_that_were_made(data: Path, tmp_path: Path, starts: Starter) -> None:
    """U-1: after a restart, tokens that were skipped were counted as trained."""
    slow = {"training__max_steps": 40, "training__epochs": 20, "training__checkpoint_interval": 30}
    values = settings(data, tmp_path / "out", **{**RUN, **slow})
    pretrain(values, tmp_path / "fresh", tmp_path / "work-1")
    starts.run(tmp_path, values, "renamed", 1)
    starts.run(tmp_path, values)
    fresh, again = (
        [line for line in metrics(tmp_path / name) if "tokens_per_s" in line] for name in ("fresh", "run-1")
    )
    assert again[0]["step"] == 31
    # Thirty skipped steps would show the first one at about thirty times the rate; cores shared with others swing less.
    assert again[0]["tokens_per_s"] < 8 * max(line["tokens_per_s"] for line in fresh)
    assert again[-1]["eta_s"] == 0
