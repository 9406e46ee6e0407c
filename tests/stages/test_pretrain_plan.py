"""What the plan of a pretraining run proves: blocks, step algebra, every check with a configuration that fails it, devices."""

from __future__ import annotations

import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from support_data import ROOT, albor_stage, config_of, tree, write_config
from support_model import SHAPE, altered, corpus, settings

from stages.lib.budget import compiles, flops_per_token
from stages.lib.cli import main
from stages.lib.devices import TABLE, Target, memory_of, named, this_gpu
from stages.lib.load import load_file
from stages.lib.problems import BadConfig
from stages.lib.settings import PretrainConfig, TrainingConfig
from stages.lib.shape import Shape
from stages.lib.stage import Plan
from stages.pretrain import plan

LARGE = {"layers": 24, "d_model": 1024, "heads": 16, "kv_heads": 4, "ffn": 4096, "vocab_size": 32768, "context": 2048}
MANIFESTS = sorted((ROOT / "manifests/train").glob("pretrain-*m.yaml"))
RTX4090 = Target(device="rtx4090")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return corpus(tmp_path_factory.mktemp("corpus"))


def planned(folder: Path, target: Target | None = None, **changes: Any) -> Plan:
    return plan(config_of("pretrain", settings(folder, folder / "out", **changes)), target)


def told(found: Plan, level: str) -> dict[str, str]:
    return {check.name: check.text for check in found.checks if check.level == level}


def text_of(found: Plan, title: str) -> str:
    return "\n".join(dict(found.blocks)[title])


def test_steps_of_an_epoch_and_of_all_are_whole_steps() -> None:
    """ALB-060: the golden of the step algebra, 43 an epoch and 5,031 in 117."""
    one = TrainingConfig(max_steps=1, batch_size=4, accumulation=128)
    assert one.reachable_steps(22_079) == 43
    assert one.model_copy(update={"epochs": 117}).reachable_steps(22_079) == 5_031


@pytest.mark.parametrize(("epochs", "reachable"), [(1, 43), (117, 5_031)])
def test_a_plan_gives_a_run_of_the_ladder_its_steps_and_not_one_more(data: Path, tmp_path: Path, epochs: int, reachable: int) -> None:
    """The same numbers as a user has them: 22,079 rows in a manifest, and a run that asks for all steps or for one more."""
    rows = altered(data, tmp_path / "rows", train__rows=22_079)
    run = {"training__batch_size": 4, "training__accumulation": 128, "training__epochs": epochs}
    found = planned(rows, **run, training__max_steps=reachable)
    assert found.ok and f"{reachable:,} steps of {reachable:,} reachable" in text_of(found, "Training")
    refused = told(planned(rows, **run, training__max_steps=reachable + 1), "error")["steps"]
    assert f"22,079 rows, 512 a step, epochs {epochs} give {reachable:,}; say epochs: {epochs + 1}," in refused


def test_a_plan_reads_as_a_whole(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Every block of the ladder's first run, on a card that is said on the command line; the memory's numbers are those of test_memory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("stages.lib.checks.free_bytes", lambda _path: 10**12)
    rows = altered(data, tmp_path / "rows", train__rows=22_079, val__rows=1_000, seq_len=1024)
    run = {"max_steps": 5_031, "epochs": 117, "batch_size": 4, "accumulation": 128, "warmup_steps": 500, "dtype": "auto",
           "checkpoint_interval": 25, "keep": 5}
    model = {**LARGE, "vocab_size": 290}
    Path("run.json").write_text(json.dumps(settings(rows, Path("out"), model=model, data__seq_len=1024, optimizer__lr=3e-4,
                                                    **{f"training__{name}": value for name, value in run.items()})))
    assert main(["pretrain", "plan", "run.json", "--device", "RTX 4090", "--vram", "20GB", "--rate", "7000", "--price", "0.4"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == ("Model      llama, 24 layers, 1024 wide, 16 heads, 4 KV heads, FFN 4096, vocabulary 290, tied    "
                        "365,251,584 parameters")
    parts = dict(re.findall(r"(?:^Memory    |  ) (\w+) ([\d.]+ [GM]B)", "   ".join(lines[1:3])))
    assert [*parts] == ["weights", "gradients", "AdamW", "activations", "logits", "head", "fragmentation", "runtime"]
    assert "activations 7.6 GB (24 layers of 315.6 MB, micro-batch 4 x 1,024)" in lines[1] and "weights 1.5 GB (fp32)" in lines[1]
    found = re.fullmatch(r" +total ([\d.]+) GB of 21.5 GB \(([\d.]+)%\), headroom ([\d.]+) GB, bf16 on RTX 4090   ok   "
                         r"staging of a checkpoint: host 4.4 GB", lines[3])
    assert found is not None, lines[3]
    total, share, room = map(float, found.groups())
    assert sum(float(text[:-3]) * {"G": 1, "M": 1e-3}[text[-2]] for text in parts.values()) == pytest.approx(total, abs=0.4)
    assert (share, room) == (pytest.approx(100 * total / 21.475, abs=0.4), pytest.approx(21.475 - total, abs=0.11))
    assert lines[4:] == [
        "Data       train 3 shards, 22,079 x 1,024   val 2 shards, 1,000 x 1,024, same lineage, disjoint   tokenizer 290 = model",
        "Training   524,288 tokens a step (4 x 128 x 1,024)   5,031 steps of 5,031 reachable   2,637,692,928 tokens (7.2 a parameter)",
        ("           warm-up 500 (9.9%)   cosine from 0.0003 to 0 at 5,031   validation every 5   "
         "checkpoint every 25: keep 5 + best, 32.1 GB"),
        "           AdamW   compiled",
        "Time       about 4.4 days on RTX 4090 (7,000 tokens/s: as measured)   cost 41.87 at 0.4 an hour",
        "           2.49 GFLOP a token, 6P + 12 L d T (PaLM, appendix B)   6.58e+18 FLOP in all",
        "Writes     out   checkpoints in the work folder",
        ("warning[tokens-per-parameter]: 7.2 tokens a parameter, under 10: a smaller model would learn as much; "
         "20 is compute-optimal (Hoffmann et al. 2022)"),
        "Plan holds, 1 warning. To start: albor-stage pretrain apply run.json",
    ]


def test_a_plan_whose_rows_do_not_fit_says_so_in_its_blocks_too(data: Path, tmp_path: Path) -> None:
    other = altered(data, tmp_path / "other", lineage="blake3:11", vocab_size=300)
    shown = text_of(planned(data, data__val=str(other / "packed/val")), "Data")
    assert "2 shards, 124 x 16, NOT ONE SPLIT   tokenizer 290 NOT model" in shown


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_a_manifest_of_the_ladder_holds_before_its_data_is_there(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:
    """On the card of the machine that trains, as manifests/albor.yaml says."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("stages.lib.checks.free_bytes", lambda _path: 10**12)
    card = yaml.safe_load((ROOT / "manifests/albor.yaml").read_text())["params"]["card"]
    assert main(["pretrain", "plan", str(path), "--device", card]) == 0
    out = capsys.readouterr().out
    numbers = {"50m": "62,403,072", "125m": "163,603,200", "350m": "398,509,056"}[path.stem.split("-")[1]]
    assert [line.split()[0] for line in out.splitlines() if line[:1].isupper()][:6] == [
        "Model", "Memory", "Data", "Training", "Time", "Writes"]
    assert f"{numbers} parameters" in out and "checked when ready[data]" in out and "warning" not in out
    assert "(20.0 a parameter)" in out and "bf16 on RTX 4090   ok" in out
    assert list(tmp_path.iterdir()) == []


def test_there_is_a_manifest_for_every_size() -> None:
    assert [path.stem for path in MANIFESTS] == ["pretrain-125m", "pretrain-350m", "pretrain-50m"]


@pytest.mark.parametrize(("changes", "name", "said"), [
    ({"training__max_steps": 200, "training__warmup_steps": 500}, "warm-up", "warmup_steps 500 does not end before max_steps 200"),
    ({"training__schedule": "wsd", "training__decay_ratio": 0.9}, "decay", "begins after step 1, before warmup_steps 2 has ended"),
    ({"training__max_steps": 155_000, "training__warmup_steps": 0}, "steps", "cannot be reached"),
    ({"data__seq_len": 17}, "positions", "more than the model's context"),
    ({"model": {**SHAPE, "vocab_size": 280}}, "vocabulary", "rows were packed with 290"),
    ({"init_from": "packed"}, "init_from", "has no config.json"),
])
def test_a_run_that_cannot_be_is_refused(data: Path, changes: dict[str, Any], name: str, said: str) -> None:
    """The ladder's own numbers are among them: a warm-up of 500 in 200 steps, 155,000 steps that the rows do not give."""
    changes = {key: str(data / value) if key == "init_from" else value for key, value in changes.items()}
    found = planned(data, **changes)
    assert said in told(found, "error")[name] and not found.ok


@pytest.mark.parametrize(("changes", "name", "said"), [
    ({"training__warmup_steps": 525, "training__max_steps": 5000, "training__epochs": 1000}, "warm-up", "10.5% of the steps"),
    ({"training__schedule": "constant"}, "lr-end", "ends at 0.01, 100% of its peak"),
    ({"training__min_lr_ratio": 0.2}, "lr-end", "ends at 0.002, 20% of its peak"),
    ({}, "tokens-per-parameter", "under 10"),
    ({"model": LARGE}, "batch", "65,536 is usual at least: accumulation 1024"),
    ({"model": LARGE, "training__max_steps": 10**9}, "time", "more than 14"),
    ({"training__checkpoint_interval": 7}, "best", "not a multiple of eval_interval"),
])
def test_a_run_that_would_be_worse_than_it_could_be_is_warned_of(data: Path, changes: dict[str, Any], name: str, said: str) -> None:
    assert said in told(planned(data, **changes), "warning")[name]


def test_a_plan_says_from_which_step_on_wsd_falls(data: Path) -> None:
    shown = text_of(planned(data, training__schedule="wsd", training__decay_shape="linear"), "Training")
    assert "wsd (a linear from step 8 on) from 0.01 to 0 at 10" in shown


def test_what_was_warned_of_is_silent_just_before_the_limit(data: Path) -> None:
    """Each limit from its good side: 10 % of warm-up, a tenth of the peak at the end, 10 tokens a parameter, 65,536 a step."""
    tokens = 10 * Shape(**SHAPE).parameters()
    steps = -(-tokens // (8 * 16))
    found = planned(data, training__max_steps=steps, training__warmup_steps=steps // 10, training__min_lr_ratio=0.1,
                    training__epochs=10**6)
    assert told(found, "warning") == {} and "compute-optimal" in told(found, "ok")["tokens-per-parameter"]
    assert "tokens-per-parameter" in told(planned(data, training__max_steps=steps - 1, training__epochs=10**6), "warning")
    large = {"model": LARGE, "training__batch_size": 4, "training__accumulation": 1024}
    assert "batch" not in told(planned(data, **large), "warning")
    assert "batch" in told(planned(data, **{**large, "training__accumulation": 1023}), "warning")


def test_the_horizon_of_the_rate_is_the_run(data: Path) -> None:
    """ALB-129: a horizon far beyond the run cannot be said: there is no key for it, and the last step has the end value."""
    assert "cosine from 0.01 to 0 at 10" in text_of(planned(data), "Training")
    with pytest.raises(BadConfig) as bad:
        planned(data, training__lr_decay_steps=155_000)
    assert "no key `lr_decay_steps`" in bad.value.problems[0].text


def test_an_unknown_key_is_refused_with_the_closest_name(data: Path) -> None:
    """ALB-070: a misspelt key was ignored."""
    with pytest.raises(BadConfig) as bad:
        planned(data, training__max_step=5)
    assert "max_steps" in (bad.value.problems[0].hint or "")


@pytest.mark.parametrize(("changes", "said"), [({"heads": 5}, "even multiple"), ({"kv_heads": 3}, "multiple of num_key_value_heads")])
def test_sizes_that_do_not_divide_are_refused(data: Path, changes: dict[str, int], said: str) -> None:
    with pytest.raises(BadConfig) as bad:
        planned(data, model={**SHAPE, **changes})
    assert said in bad.value.problems[0].text


def test_a_shard_that_is_gone_and_an_id_beyond_the_model_are_named(data: Path, tmp_path: Path) -> None:
    shutil.copytree(data, tmp_path / "copy")
    gone = sorted((tmp_path / "copy/packed/train").iterdir())[0]
    gone.unlink()
    assert gone.name in told(planned(tmp_path / "copy"), "error")["paths"]
    file = tmp_path / "copy/packed/manifest.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "eos_id": 290}))
    assert "hold id 290, beyond the model's 290" in told(planned(tmp_path / "copy"), "error")["vocabulary"]


def test_weights_of_another_shape_are_not_begun_with(data: Path, tmp_path: Path) -> None:
    for name in ("model.safetensors", "tokenizer.json"):
        (tmp_path / name).write_bytes(b"0" * 500_000)
    for layers, good in ((2, True), (3, False)):
        shape = Shape(**{**SHAPE, "layers": layers})
        (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", **shape.model_dump(exclude={"qk_norm"})}))
        found = told(planned(data, init_from=str(tmp_path)), "error")
        assert ("holds another model: llama, 3 layers" in found.get("init_from", "")) is not good


def test_the_disk_holds_weights_and_moments_of_every_checkpoint_kept(data: Path) -> None:
    """The estimate of the original left out the optimizer's state."""
    found = planned(data, training__keep=3)
    assert found.estimates["disk_bytes"] == (5 * 12 + 4) * found.estimates["parameters"]
    assert "disk" in told(planned(data, model={**LARGE, "layers": 20_000}), "error")


def test_checkpoints_that_a_killed_attempt_left_need_no_room_again(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a run that fills most of its disk, as it may, could never be gone on with."""
    need = planned(data).estimates["disk_bytes"]
    monkeypatch.setenv("ALBOR_WORK", str(tmp_path / "work"))
    monkeypatch.setattr("stages.lib.checks.free_bytes", lambda _path: need // 2)
    assert "disk" in told(planned(data), "error")
    (tmp_path / "work/checkpoints").mkdir(parents=True)
    (tmp_path / "work/checkpoints/step-1").write_bytes(b"0" * int(need * 0.6))
    assert "disk" not in told(planned(data), "error")


@pytest.mark.parametrize(("target", "fits"), [
    (Target(device="rtx4090"), False), (Target(vram_bytes=memory_of("24GB")), False), (Target(device="h200"), True),
    (Target(vram_bytes=memory_of("80GB")), True),
])
def test_memory_beyond_the_device_is_an_error_that_names_the_largest_part(tmp_path: Path, target: Target, fits: bool) -> None:
    """The original's plan called 8 rows of 2,048 valid on 24 GB; it ran out of memory."""
    found = planned(tmp_path, target, model=LARGE, data__seq_len=2048, training__batch_size=8, training__dtype="auto")
    assert found.ok is fits
    assert ("the largest part is activations" in told(found, "error").get("memory", "")) is not fits
    assert ("TOO MUCH" in text_of(found, "Memory")) is not fits


def test_a_compiled_run_on_a_cpu_holds_the_compiler_and_no_holes(data: Path) -> None:
    written, compiled = (planned(data, training__compile=how) for how in (False, True))
    assert "fragmentation" in text_of(written, "Memory") and "fragmentation" not in text_of(compiled, "Memory")
    assert compiled.estimates["memory_bytes"] - written.estimates["memory_bytes"] > 90e6


@pytest.mark.parametrize("side", ["train", "val"])
def test_held_out_rows_are_checked_as_those_of_training_are(data: Path, tmp_path: Path, side: str) -> None:
    shutil.copytree(data, tmp_path / "copy")
    sorted((tmp_path / "copy/packed" / side).iterdir())[0].unlink()
    assert f"{side} shards are missing" in told(planned(tmp_path / "copy"), "error")["paths"]


@pytest.mark.parametrize(("on_cpu", "pays"), [(True, 4e13), (False, 5e16)])
def test_a_run_is_compiled_where_it_has_so_much_to_compute_that_it_pays(data: Path, on_cpu: bool, pays: float) -> None:
    """And wherever it is asked for; a plan says which."""
    def of(steps: int, how: str | bool = "auto") -> PretrainConfig:
        return config_of("pretrain", settings(data, data / "out", training__max_steps=steps, training__compile=how))

    steps = math.ceil(pays / (flops_per_token(of(10).model, 16) * 8 * 16))
    assert (compiles(of(steps), on_cpu), compiles(of(steps - 1), on_cpu)) == (True, False)
    assert (compiles(of(10, True), on_cpu), compiles(of(steps, False), on_cpu)) == (True, False)
    target = None if on_cpu else RTX4090
    shown = [text_of(plan(of(count), target), "Training") for count in (steps, steps - 1)]
    assert ["not compiled" in text for text in shown] == [False, True] and "   compiled" in shown[0]


def test_the_parts_of_the_memory_add_up_to_its_total(data: Path) -> None:
    from stages.lib.memory import memory

    config = config_of("pretrain", settings(data, data / "out", training__max_steps=40, training__checkpoint_interval=39))
    needed = memory(config.model, config.training, 16, bf16=True, on_cpu=False)
    numbers = config.model.parameters()
    assert (needed.parts["weights"], needed.parts["gradients"], needed.parts["AdamW"]) == (4 * numbers, 4 * numbers, 8 * numbers)
    assert sum(needed.parts.values()) == needed.total_bytes > 500_000_000
    assert needed.staging_bytes == 12 * numbers and len(needed.layers) == 2
    on_cpu = memory(config.model, config.training, 16, bf16=False, on_cpu=True)
    assert on_cpu.parts["staging"] == 12 * numbers and on_cpu.staging_bytes == 0
    at_the_end = config.training.model_copy(update={"checkpoint_interval": 40})
    assert memory(config.model, at_the_end, 16, bf16=False, on_cpu=True).parts["staging"] == 0


def test_operations_are_those_of_the_paper() -> None:
    """6 x 398,509,056 + 12 x 24 x 1,024 x 1,024, PaLM's appendix B."""
    assert flops_per_token(Shape(**LARGE), 1024) == 2_693_044_224 == 6 * 398_509_056 + 12 * 24 * 1024 * 1024


def test_time_and_cost_follow_a_measured_rate(tmp_path: Path) -> None:
    target = Target(device="h200", tokens_per_s=1000.0, price_per_hour=3.0)
    found = planned(tmp_path, target, training__max_steps=281_250, training__warmup_steps=0)
    assert found.estimates["seconds"] == 36_000
    assert "about 10.0 h on H200 (1,000 tokens/s: as measured)   cost 30.00 at 3 an hour" in text_of(found, "Time")
    assert "40% of 165 TFLOP/s bf16, NVIDIA, Ada" in text_of(planned(tmp_path, RTX4090, training__dtype="auto"), "Time")


def test_a_device_is_found_by_the_ways_people_write_it() -> None:
    assert named("RTX 4090") is named("rtx4090") is named("NVIDIA GeForce RTX 4090") is TABLE["rtx4090"]
    assert named("cpu").is_cpu
    with pytest.raises(ValueError, match=r"did you mean `rtx4090`\?"):
        named("rtx4900")
    assert memory_of("24GB") == memory_of("24GiB") == memory_of("24") == memory_of("24576MB") == 24 << 30
    for wrong in ("", "24TB", "-1GB", "0GB", "much"):
        with pytest.raises(ValueError, match="not the memory of a card"):
            memory_of(wrong)


@pytest.mark.parametrize(("model", "name", "known"), [
    ("NVIDIA GeForce RTX 4090", "RTX 4090", True), ("NVIDIA A100-SXM4-80GB", "A100-80GB", True), ("NVIDIA H100 PCIe", "H100-PCIe", True),
    ("NVIDIA L40", "NVIDIA L40", False), ("NVIDIA GeForce RTX 4090 Laptop GPU", "NVIDIA GeForce RTX 4090 Laptop GPU", False),
])
def test_the_card_that_is_here_is_known_by_the_drivers_name_and_no_other_is_taken_for_it(
    tmp_path: Path, model: str, name: str, known: bool,
) -> None:
    (tmp_path / "0000:01:00.0").mkdir()
    (tmp_path / "0000:01:00.0/information").write_text(f"Model: \t\t {model}\nIRQ: 1\n")
    found = this_gpu(tmp_path)
    assert (found.name, found.memory_bytes is not None) == (name, known)


def test_many_plans_at_once_are_each_for_the_card_of_their_machine(tmp_path: Path) -> None:
    """The controller has no card, and planned a week of another machine as centuries of its own processor."""
    question = {"stage": "pretrain", "config": settings(tmp_path, tmp_path / "out", model=LARGE, training__dtype="auto")}
    cards = ("NVIDIA GeForce RTX 4090", "NVIDIA T4", "", None)
    asked = [{"id": number, **question, **({} if gpu is None else {"gpu": gpu})} for number, gpu in enumerate(cards)]
    done = albor_stage("plan", "--batch", cwd=tmp_path, stdin="".join(json.dumps(one) + "\n" for one in asked))
    found = [json.loads(line)["plan"] for line in done.stdout.splitlines()]
    memory = [plan["blocks"][1]["lines"][-1] for plan in found]
    assert "of 25.8 GB" in memory[0] and "bf16 on RTX 4090   ok" in memory[0] and " on cpu " in memory[3]
    assert "of an unknown memory, bf16 on NVIDIA T4" in memory[1] and "of an unknown memory, bf16 on a card" in memory[2]
    judged = [{check["name"]: check["level"] for check in plan["checks"]}["memory"] for plan in found]
    assert judged[:3] == ["ok", "warning", "when-ready"] and all(plan["ok"] for plan in found)


def test_many_plans_at_once_leave_the_disk_to_who_asks(tmp_path: Path) -> None:
    """A small controller refused what is for the large disk of another machine; who asks compares each machine's own."""
    config = settings(tmp_path, tmp_path / "out", model=LARGE, training__dtype="auto", training__keep=10_000_000)
    done = albor_stage("plan", "--batch", cwd=tmp_path, stdin=json.dumps({"id": 1, "stage": "pretrain", "config": config}) + "\n")
    plan = json.loads(done.stdout)["plan"]
    assert plan["ok"] and plan["estimates"]["disk_bytes"] > 1e15
    alone = albor_stage("pretrain", "plan", write_config(tmp_path, "config.json", **config), cwd=tmp_path)
    assert alone.returncode == 1 and "error[disk]" in alone.stdout + alone.stderr


@pytest.mark.parametrize(("argv", "said"), [
    (["plan", "--device", "rtx4900"], "did you mean `rtx4090`?"), (["plan", "--vram", "lots"], "write it as 24GB"),
    (["plan", "--price", "-1"], "--price -1 is not a number above 0"), (["apply", "--device", "rtx4090"], "go with plan"),
])
def test_a_device_that_means_nothing_is_wrong_usage(argv: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    verb, *options = argv
    assert main(["pretrain", verb, str(MANIFESTS[0]), *options]) == 64
    assert said in capsys.readouterr().err


def test_no_other_stage_takes_a_device(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ingest", "plan", "x.yaml", "--device", "rtx4090"]) == 64
    assert "unrecognized arguments: --device" in capsys.readouterr().err


def test_a_plan_for_a_device_changes_nothing_and_asks_no_torch(data: Path) -> None:
    import subprocess
    import sys

    before = tree(data)
    (file := data.parent / "pretrain.json").write_text(json.dumps(settings(data, data / "out")))
    code = ("import sys; from stages.lib.cli import main; code = main(['pretrain', 'plan', sys.argv[1], '--device', 'h200'])\n"
            "print(code, sorted({'torch', 'numpy', 'pyarrow'} & set(sys.modules)))")
    done = subprocess.run([sys.executable, "-c", code, str(file)], capture_output=True, text=True, check=True,
                          env={"PYTHONPATH": str(ROOT)})
    assert done.stdout.splitlines()[-1] == "0 []"
    assert tree(data) == before


def test_every_size_of_the_ladder_is_the_one_published() -> None:
    sizes = {path.stem: load_file(PretrainConfig, "pretrain", path).model for path in MANIFESTS}
    assert {name: shape.parameters() for name, shape in sizes.items()} == {
        "pretrain-50m": 62_403_072, "pretrain-125m": 163_603_200, "pretrain-350m": 398_509_056}
