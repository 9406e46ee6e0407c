"""What a plan refuses or warns of: reads and writes that are not declared, slots that no machine has, commands it cannot watch."""

from __future__ import annotations

from pathlib import Path

import pytest
from support_plan import manifest_of, plan_of

from albor_pipeline.errors import Diagnostic
from albor_pipeline.model.manifest import Manifest
from albor_pipeline.model.observed import StageAnswer
from albor_pipeline.model.resource import Key

KEY = Key("train", "m1")


def stage(root: Path, inputs: str = "[]", outputs: str = "[models/base]", more: str = "") -> Manifest:
    fields = f"stage: pretrain, config: {{ lr: 1 }}, inputs: {inputs}, outputs: {outputs}{more}"
    return manifest_of(root, f"  train: {{ type: task, machine: m1, {fields} }}\n")


def told(manifest: Manifest, answer: StageAnswer) -> list[str]:
    return [item.message for item in plan_of(manifest, stages={KEY: answer}).diagnostics]


@pytest.mark.parametrize("inputs", ["[data]", "[data/packed]", "[data/packed/train]", "['data/*/train']"])
def test_a_read_is_covered_by_its_path_a_folder_above_it_or_a_glob(tmp_path: Path, inputs: str) -> None:
    assert told(stage(tmp_path, inputs), StageAnswer(reads=("data/packed/train",))) == []


@pytest.mark.parametrize("inputs", ["[]", "[data/packed/train/x]", "[data/pack]"])
def test_a_read_that_no_input_covers_is_refused(tmp_path: Path, inputs: str) -> None:
    message = "`train` reads `data/packed/train`, which its `inputs` do not name"
    assert told(stage(tmp_path, inputs), StageAnswer(reads=("data/packed/train",))) == [message]


def test_a_write_that_no_output_covers_is_refused(tmp_path: Path) -> None:
    answer = StageAnswer(writes=("models/base", "models/base/config.json", "logs"))
    assert told(stage(tmp_path), answer) == ["`train` writes `logs`, which its `outputs` do not name"]


def test_what_a_stage_reads_from_an_earlier_task_is_covered_by_the_reference(tmp_path: Path) -> None:
    text = "  mix: { type: task, machine: m1, command: mix, inputs: [raw], outputs: [data/mixed] }\n"
    text += "  train: { type: task, machine: m1, stage: pretrain, config: {lr: 1}, inputs: [mix], outputs: [models/base] }\n"
    assert told(manifest_of(tmp_path, text), StageAnswer(reads=("data/mixed/shard-0",))) == []


def test_problems_and_warnings_of_a_stage_name_the_task(tmp_path: Path) -> None:
    problem, warning = Diagnostic("error", "budget", "too few tokens"), Diagnostic("warning", "budget", "few tokens")
    assert told(stage(tmp_path), StageAnswer((problem,), (warning,))) == ["`train` cannot work: too few tokens", "`train`: few tokens"]


@pytest.mark.parametrize(
    ("declared", "found", "problem"),
    [
        ("", ["GPU 0"], "`train` needs 2 GPU, m1 has 1"),
        ("", ["GPU 0", "GPU 1"], None),
        (", slots: { gpu: 2 }", [], None),
        (", slots: { gpu: 1 }", ["GPU 0", "GPU 1"], "`train` needs 2 GPU, m1 has 1"),
    ],
)
def test_more_gpus_than_the_machine_has_are_refused(tmp_path: Path, declared: str, found: list[str], problem: str | None) -> None:
    text = "  train: { type: task, machine: m1, command: train, inputs: [raw], needs: { gpu: 2 } }\n"
    manifest = manifest_of(tmp_path, text, f"machines: {{ m1: {{ addr: localhost{declared} }} }}\n")
    messages = [item.message for item in plan_of(manifest, facts={"gpus": found, "cpus": 2}).diagnostics]
    assert messages == ([problem] if problem else [])


def test_commands_of_which_only_the_text_is_watched_are_listed_once_each(tmp_path: Path) -> None:
    names = "".join(f"  t{i}: {{ type: task, machine: [m1, m2], command: make {i} }}\n" for i in range(7))
    watched = "  watched: { type: task, machine: m1, command: make, inputs: [raw] }\n"
    messages = [item.message for item in plan_of(manifest_of(tmp_path, names + watched)).diagnostics]
    assert messages == ["only the command text is watched: t0, t1, t2, t3, t4 and 2 more"]
