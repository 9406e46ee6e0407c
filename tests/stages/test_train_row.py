"""Every check that the ladder asks of the plan of a pretraining run, each with a configuration that fails it alone, through the command."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest
from support_model import SHAPE, altered, corpus, settings

from stages.lib.cli import OFFLINE, main
from stages.lib.devices import TABLE
from stages.lib.shape import Shape

PARAMETERS = Shape(**SHAPE).parameters()
STEPS = -(-10 * PARAMETERS // (8 * 16))
WHOLE = {"training__max_steps": STEPS, "training__warmup_steps": STEPS // 10, "training__epochs": 1000, "training__eval_interval": 100,
         "training__checkpoint_interval": 100}
# 365 million parameters, at 19 tokens each.
LARGE = {"layers": 24, "d_model": 1024, "heads": 16, "kv_heads": 4, "ffn": 4096, "vocab_size": 290, "context": 2048}
LONG = {"model": LARGE, "data__seq_len": 1024, "training__max_steps": 26_800, "training__warmup_steps": 500, "training__batch_size": 4,
        "training__accumulation": 64, "training__dtype": "auto"}
LATER = {"data", "tokenizer"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture
def plan(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str]]:
    """The command's exit code, and all that it says, of the run `WHOLE` with changes."""
    for name, value in OFFLINE.items():  # which `apply` sets for good
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("stages.lib.checks.free_bytes", lambda _path: 500 * 10**9)
    monkeypatch.chdir(tmp_path)

    def planned(data: Path, *options: str, out: str = "out", verb: str = "plan", **changes: Any) -> tuple[int, str]:
        (tmp_path / "run.json").write_text(json.dumps(settings(data, Path(out), **{**WHOLE, **changes})))
        code = main(["pretrain", verb, "run.json", *options])
        said = capsys.readouterr()
        return code, said.out + said.err

    return planned


def problems(text: str) -> set[str]:
    """What is not in order, as `error[memory]`."""
    return {line.split(":")[0] for line in text.splitlines() if line.startswith(("error[", "warning[", "checked when ready["))}


def refused(found: tuple[int, str], name: str, said: str) -> None:
    """It is the only thing that is not in order, it says so, and the exit code is that of its kind."""
    code, text = found
    assert problems(text) - {f"checked when ready[{later}]" for later in LATER} == {name} and said in text, text
    assert code == (1 if name.startswith("error") else 0)


def test_the_run_that_every_configuration_here_changes_has_no_fault(plan: Callable[..., tuple[int, str]], data: Path) -> None:
    code, text = plan(data)
    assert (code, problems(text)) == (0, set()), text
    code, text = plan(Path("nothing"), "--device", "h200", **LONG)
    assert (code, problems(text)) == (0, {f"checked when ready[{name}]" for name in LATER}), text


@pytest.mark.parametrize(("changes", "name", "said"), [
    pytest.param({"training__max_steps": "many"}, "error[bad-value]", "`many` is not a whole number", id="schema"),
    pytest.param({"training__max_step": 5}, "error[unknown-key]", "`training` has no key `max_step`", id="unknown keys"),
    pytest.param({"model": {**SHAPE, "heads": 5}}, "error[bad-value]", "must be an even multiple of num_attention_heads 5",
                 id="divisibility"),
    pytest.param({"model": {**SHAPE, "kv_heads": 3}}, "error[bad-value]", "must be a multiple of num_key_value_heads 3", id="KV ratio"),
    pytest.param({"model": {**SHAPE, "kv_heads": 8}}, "error[bad-value]", "must be a multiple of num_key_value_heads 8",
                 id="more KV heads than heads"),
    pytest.param({"training__max_steps": 33_001}, "error[steps]", "max_steps 33,001 cannot be reached: 264 rows, 8 a step, epochs 1000 "
                 "give 33,000; say epochs: 1001", id="reachable max_steps"),
    pytest.param({"training__warmup_steps": STEPS // 10 + 1}, "warning[warm-up]", "10 % is usual at most", id="warm-up of a tenth"),
    pytest.param({"training__warmup_steps": STEPS}, "error[warm-up]", f"does not end before max_steps {STEPS}", id="warm-up completes"),
    pytest.param({"training__min_lr_ratio": 0.11}, "warning[lr-end]", "ends at 0.0011, 11% of its peak", id="LR end value"),
    pytest.param({"training__max_steps": STEPS - 1, "training__warmup_steps": 9}, "warning[tokens-per-parameter]", "under 10",
                 id="tokens a parameter"),
    pytest.param({"data__seq_len": 12}, "error[rows]", "data.seq_len is 12, train rows have 16", id="sequence length against rows"),
    pytest.param({"model": {**SHAPE, "context": 15}}, "error[positions]", "data.seq_len 16 is more than the model's context",
                 id="seq <= positions"),
])
def test_a_number_that_cannot_be_is_told_before_anything_is_read(
    plan: Callable[..., tuple[int, str]], data: Path, changes: dict[str, Any], name: str, said: str,
) -> None:
    if "data__seq_len" in changes:
        changes = {**changes, "training__max_steps": STEPS * 2}
    refused(plan(data, **changes), name, said)


@pytest.mark.parametrize(("changes", "name", "said"), [
    pytest.param({"train__max_id": 290}, "error[vocabulary]", "train rows hold id 290, beyond the model's 290", id="max id < vocabulary"),
    pytest.param({"val__max_id": 301}, "error[vocabulary]", "val rows hold id 301, beyond the model's 290", id="max id held out"),
    pytest.param({"eos_id": 290}, "error[vocabulary]", "hold id 290, beyond the model's 290", id="end-of-text"),
    pytest.param({"pad_id": 295, "train__pad_tokens": 3}, "error[vocabulary]", "train rows hold id 295", id="pad"),
    pytest.param({"vocab_size": 300}, "error[vocabulary]", "model.vocab_size is 290, train rows were packed with 300", id="vocab match"),
    pytest.param({"tokenizer": "blake3:00"}, "error[tokenizer]", "is not the tokenizer that the rows were packed with", id="tokenizer"),
])
def test_rows_with_which_the_model_cannot_be_trained_are_told(
    plan: Callable[..., tuple[int, str]], data: Path, tmp_path: Path, changes: dict[str, Any], name: str, said: str,
) -> None:
    refused(plan(altered(data, tmp_path / "other", **changes)), name, said)


def _entries(vocabulary: dict[str, int]) -> str:
    return json.dumps({"model": {"vocab": vocabulary}, "added_tokens": [{"id": 0, "content": "<|endoftext|>"}]})


@pytest.mark.parametrize(("text", "said"), [
    pytest.param("[]", "is not a tokenizer file", id="no tokenizer"),
    pytest.param(_entries({f"w{n}": n for n in range(289)}), "has 289 entries up to id 288; model.vocab_size is 290", id="too few"),
    pytest.param(_entries({f"w{n}": n + (n == 289) for n in range(290)}), "has 290 entries up to id 290; model.vocab_size is 290",
                 id="a gap"),
])
def test_a_tokenizer_of_another_size_is_told(
    plan: Callable[..., tuple[int, str]], data: Path, tmp_path: Path, text: str, said: str,
) -> None:
    (tmp_path / "tok").mkdir()
    (tmp_path / "tok/tokenizer.json").write_text(text)
    refused(plan(data, data__tokenizer="tok"), "error[tokenizer]", said)


def test_held_out_rows_of_another_split_and_those_of_training_are_told(
    plan: Callable[..., tuple[int, str]], data: Path, tmp_path: Path,
) -> None:
    """U-6: a run was validated on rows of another pipeline."""
    other = altered(data, tmp_path / "other", lineage="blake3:11")
    refused(plan(data, data__val=str(other / "packed/val")), "error[lineage]", "do not come from one split and tokenizer")
    refused(plan(data, data__val=str(data / "packed/train")), "error[lineage]", "hold the same shard")


def test_paths_that_lead_nowhere_are_told(plan: Callable[..., tuple[int, str]], data: Path, tmp_path: Path) -> None:
    shutil.copytree(data / "packed", tmp_path / "copy/packed")
    gone = sorted((tmp_path / "copy/packed/val").iterdir())[0]
    gone.unlink()
    (tmp_path / "copy/tok").symlink_to(data / "tok")
    refused(plan(tmp_path / "copy"), "error[paths]", f"1 of 2 val shards are missing, the first is {gone}; pack again")
    refused(plan(data, out=str(data / "packed")), "error[output]", "overlaps the input")
    (tmp_path / "file").write_text("")
    refused(plan(data, out="file"), "error[output]", "file is a file; a folder would be written there")
    refused(plan(data, out="file/in/it"), "error[output]", "file/in/it cannot be made: file is a file")


def test_memory_beyond_the_card_and_close_to_it_is_told(plan: Callable[..., tuple[int, str]]) -> None:
    for option in (("--device", "rtx4090"), ("--vram", "24GB")):
        found = plan(Path("nothing"), *option, **{**LONG, "training__batch_size": 16, "training__accumulation": 16})
        refused(found, "error[memory]", "the largest part is activations")
    needed = json.loads(plan(Path("nothing"), "--device", "h200", "--json", **LONG)[1])["estimates"]["memory_bytes"]
    for share, name in ((1.01, "warning[memory]"), (0.99, "error[memory]")):
        refused(plan(Path("nothing"), "--vram", f"{needed * share / 2**20:.0f}MB", **LONG), name, " at the peak" * (share < 1))
    assert not problems(plan(Path("nothing"), "--vram", f"{needed * 1.12 / 2**20:.0f}MB", **LONG)[1]) & {"warning[memory]"}


def test_a_card_of_unknown_memory_is_told_with_the_way_to_say_it(
    plan: Callable[..., tuple[int, str]], data: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("stages.lib.devices.likely_device", lambda _wanted: "cuda")
    monkeypatch.setattr("stages.lib.devices.this_gpu", lambda: replace(TABLE["l4"], name="NVIDIA T4", memory_bytes=None))
    refused(plan(data), "warning[memory]", "the memory of NVIDIA T4 is not known; plan with --device or --vram says it")


def test_a_small_batch_a_long_time_and_a_full_disk_are_told(
    plan: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch,
) -> None:
    """ALB-066, ALB-080: 68.8 days, 32 thousand tokens a step. Weights alone would fit on the disk here, and their moments do not."""
    few = {**LONG, "training__accumulation": 15, "training__max_steps": 120_000}
    refused(plan(Path("nothing"), "--device", "h200", **few), "warning[batch]", "61,440 tokens a step is small for")
    refused(plan(Path("nothing"), "--rate", "5000", "--device", "h200", **LONG), "warning[time]", "about 16 days, more than 14")
    weights = 4 * Shape(**LARGE).parameters()
    monkeypatch.setattr("stages.lib.checks.free_bytes", lambda _path: 8 * weights)
    refused(plan(Path("nothing"), "--device", "h200", **LONG), "error[disk]", "of 11.7 GB free")


def test_what_only_the_machine_that_trains_can_know_warns_in_a_plan_and_is_refused_by_apply(
    plan: Callable[..., tuple[int, str]], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A plan may be made on a machine that is smaller than the one that trains, by a user with less rights."""
    with monkeypatch.context() as small:
        small.setattr("stages.lib.devices._physical_memory", lambda: 400_000_000)
        refused(plan(data), "warning[memory]", "at the peak is more than the 400.0 MB of cpu")
        code, said = plan(data, verb="apply")
        assert (code, problems(said)) == (1, {"error[memory]"}) and said.endswith("pretrain was not started, nothing was written.\n")
    with monkeypatch.context() as other:
        other.setattr("stages.lib.checks.os.access", lambda *_: False)
        refused(plan(data, out="deep/in/out"), "warning[output]", "deep/in/out cannot be written: nothing can be made in . by this user")
        code, said = plan(data, verb="apply")
        assert (code, problems(said)) == (1, {"error[output]"})
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


@pytest.mark.parametrize(("torch", "names"), [("2.6.0+cu126", {"error[optimizer]"}), ("2.9.0", set()), ("2.13.0", set()), (None, set())])
def test_an_optimizer_that_this_torch_has_not_is_told_and_a_plan_needs_no_torch(
    plan: Callable[..., tuple[int, str]], data: Path, monkeypatch: pytest.MonkeyPatch, torch: str | None, names: set[str],
) -> None:
    def version(_name: str) -> str:
        if torch is None:
            raise PackageNotFoundError
        return torch

    monkeypatch.setattr("stages.lib.budget.version", version)
    code, said = plan(data, optimizer__name="muon")
    assert (code, problems(said)) == (len(names), names), said
