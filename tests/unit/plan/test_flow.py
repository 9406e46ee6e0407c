"""What tasks read against what tasks make: a missing order, inputs that nobody makes, checks and configs of files nobody writes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from support_plan import inputs_of, manifest_of, plan_of

from albor_pipeline.model.manifest import Manifest
from albor_pipeline.model.observed import StageAnswer, Tree
from albor_pipeline.model.resource import Key, Resource
from albor_pipeline.plan.flow import words_of
from albor_pipeline.resources.task import Task
from albor_pipeline.ui.diagnostics import render_all

MIX = "  mix: { type: task, machine: m1, command: mix, outputs: [data/mixed, { path: logs/mix.txt, volatile: true }] }\n"
USE = "  use: {{ type: task, machine: m1, command: use, inputs: ['{}'], depends_on: [mix], outputs: [used] }}\n"
GONE = Tree(None)


def codes(manifest: Manifest, **found: object) -> list[str]:
    return [item.code for item in plan_of(manifest, **found).diagnostics if item.code != "only-text"]


def test_an_input_that_nobody_makes_and_that_is_not_there_is_refused_at_its_place(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path, MIX + USE.format("data/mixd/a.txt"))
    told, _ = plan_of(manifest, inputs={("m1", "data/mixd/a.txt"): GONE}).diagnostics
    assert render_all([told]).replace(str(tmp_path), "ROOT") == """\
error[missing-input]: `use` reads `data/mixd/a.txt`, which is not there and which nothing makes
 --> ROOT/p.yaml:6:58
  |
5 |   mix: { type: task, machine: m1, command: mix, outputs: [data/mixed, { path: logs/mix.txt, volatile: true }] }
6 |   use: { type: task, machine: m1, command: use, inputs: ['data/mixd/a.txt'], depends_on: [mix], outputs: [used] }
  |                                                          ^^^^^^^^^^^^^^^^^ did you mean `data/mixed`, an output of `mix`?
  = put it there on m1, or name it in the `outputs` of the task that makes it
"""


@pytest.mark.parametrize(
    ("path", "found", "code"),
    [
        ("raw.txt", Tree("r"), []),
        ("raw.txt", None, []),
        ("raw.txt", GONE, ["missing-input"]),
        ("raw/*.txt", GONE, ["missing-input"]),
        ("raw.txt", Tree(None, error="raw.txt: permission denied"), ["unreadable-input"]),
        ("/somewhere/else", GONE, []),
        ("../beside", GONE, []),
        ("data/mixed/part", GONE, []),
        ("logs/mix.txt", GONE, []),
    ],
)
def test_which_inputs_must_be_there(tmp_path: Path, path: str, found: Tree | None, code: list[str]) -> None:
    manifest = manifest_of(tmp_path, MIX + USE.format(path))
    assert codes(manifest, inputs={} if found is None else {("m1", path): found}) == code


def test_a_folder_into_which_a_task_writes_is_the_pipelines_own_wherever_it_lies(tmp_path: Path) -> None:
    text = "  mix: { type: task, machine: m1, command: mix, outputs: [/srv/data/mixed] }\n"
    manifest = manifest_of(tmp_path, text + USE.format("/srv/data/mixt"))
    assert codes(manifest, inputs={("m1", "/srv/data/mixt"): GONE}) == ["missing-input"]


def test_a_read_of_a_volatile_output_needs_the_order_too(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path, MIX + USE.format("logs/mix.txt").replace("depends_on: [mix], ", ""))
    assert codes(manifest) == ["undeclared-dependency"]


def test_the_order_may_be_given_through_others(tmp_path: Path) -> None:
    between = "  between: { type: task, machine: m1, command: 'true', inputs: [mix] }\n"
    manifest = manifest_of(tmp_path, MIX + between + USE.format("data/mixed/x").replace("[mix]", "[between]"))
    assert codes(manifest) == []


CHECKED = "  mix: {{ type: task, machine: m1, command: mix, inputs: [raw], outputs: [data/mixed], completion_check: '{}' }}\n"


@pytest.mark.parametrize(
    ("check", "told"),
    [
        ("test -s data/mixed/part-0", []),
        ("test -d data", []),
        ("test -s data/mixt/part-0", ["data/mixt/part-0"]),
        ("[ -f out.txt ] && grep -q end logs/run.txt", ["out.txt", "logs/run.txt"]),
        ("python scripts/check.py data/mixed", []),
        ("test -e /etc/hostname", []),
        ("curl -sf http://localhost/health/x", []),
        ("test -s $OUT/x && test -s ''a b/*.c'' && test 1.5 = 1.5 && true > /dev/null", []),
        ("test -s \"never closed", []),
    ],
)  # fmt: skip
def test_a_completion_check_of_a_file_that_nobody_writes_is_a_warning(tmp_path: Path, check: str, told: list[str]) -> None:
    manifest = manifest_of(tmp_path, CHECKED.format(check))
    found = plan_of(manifest, project_files=["scripts/check.py"]).diagnostics
    assert [item.message for item in found] == [f"the completion check of `mix` reads `{path}`, which nothing makes" for path in told]
    assert {item.level for item in found} <= {"warning"}


def test_the_warning_names_the_nearest_output(tmp_path: Path) -> None:
    [close] = plan_of(manifest_of(tmp_path, CHECKED.format("test -s data/mixt/a")), project_files=[]).diagnostics
    [far] = plan_of(manifest_of(tmp_path, CHECKED.format("test -s zq/wv")), project_files=[]).diagnostics
    assert (close.label, close.notes) == ("did you mean `data/mixed`, an output of `mix`?", ())
    assert (far.label, far.notes) == ("", ("the nearest output is `data/mixed` of `mix`",))


def test_a_check_may_name_files_from_the_working_dir(tmp_path: Path) -> None:
    text = CHECKED.format("test -s mixed/x").replace("command: mix", "command: mix, working_dir: data")
    assert codes(manifest_of(tmp_path, text), project_files=[]) == []


def test_a_stage_config_that_names_a_file_nobody_writes_is_a_warning(tmp_path: Path) -> None:
    train = "  train: { type: task, machine: m1, stage: pretrain, config: { lr: 1 }, inputs: [mix, data], outputs: [models] }\n"
    manifest = manifest_of(tmp_path, MIX + train)
    answer = StageAnswer(reads=("data/mixed/a", "data/mixt/b", "data/there"))
    found = plan_of(manifest, stages={Key("train", "m1"): answer}, project_files=["data/there"]).diagnostics
    told = [(item.level, item.message, item.label) for item in found if item.code == "unmade-path"]
    message = "the config of `train` reads `data/mixt/b`, which is not there and which nothing makes"
    assert told == [("warning", message, "did you mean `data/mixed`, an output of `mix`?")]


@pytest.mark.parametrize(("inputs", "told"), [("[mix]", []), ("[data/other]", ["data/mixed/train"])])
def test_what_is_brought_from_another_machine_is_there_for_a_stage(tmp_path: Path, inputs: str, told: list[str]) -> None:
    train = f"  train: {{ type: task, machine: localhost, stage: pretrain, config: {{ lr: 1 }}, inputs: {inputs}, depends_on: [mix] }}\n"
    manifest = manifest_of(tmp_path, MIX + train)
    found = plan_of(manifest, stages={Key("train", "localhost"): StageAnswer(reads=("data/mixed/train",))}, project_files=[]).diagnostics
    reads = [item.message.split("`")[3] for item in found if item.code == "unmade-path"]
    assert reads == told


def with_mount(manifest: Manifest, machine: str, source: str, path: str) -> Manifest:
    share = Resource("share", "mount", (machine,), SimpleNamespace(source=source, path=path, state="mounted"))
    return replace(manifest, resources={**manifest.resources, "share": share})


FAR = "machines: { m1: { addr: 10.0.0.1 }, m2: { addr: 10.0.0.2 } }\n"
WRITES = "  make: { type: task, machine: m1, command: make, outputs: [/srv/models/base] }\n"
READS = "  read: { type: task, machine: m2, command: read, inputs: [/mnt/models/base], depends_on: [make] }\n"


@pytest.mark.parametrize(
    ("source", "maker"),
    [
        ("m1:/srv/models", "make@m1"), ("root@10.0.0.1:/srv/models/", "make@m1"), ("m2:/srv/models", ""),
        ("other:/srv/models", ""), ("/dev/sdb1", ""),
    ],
)  # fmt: skip
def test_a_path_on_a_mount_is_the_path_that_is_mounted(tmp_path: Path, source: str, maker: str) -> None:
    manifest = with_mount(manifest_of(tmp_path, WRITES + READS, FAR), "m2", source, "/mnt/models")
    assert inputs_of(manifest, "read", "m2") == [("/mnt/models/base", maker, "/srv/models/base" if maker else None)]


def test_a_read_through_a_mount_needs_the_order(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path, WRITES + READS.replace(", depends_on: [make]", ""), FAR)
    assert codes(manifest) == []
    assert codes(with_mount(manifest, "m2", "m1:/srv/models", "/mnt/models")) == ["undeclared-dependency"]


def test_mounts_in_a_ring_end(tmp_path: Path) -> None:
    manifest = with_mount(manifest_of(tmp_path, WRITES + READS, FAR), "m2", "/mnt/models", "/mnt/models")
    assert inputs_of(manifest, "read", "m2") == [("/mnt/models/base", "", None)]


def test_a_long_check_is_not_taken_apart() -> None:
    assert words_of(Task(command="x", completion_check="test -s a/b; " * 2000)) == ()


@pytest.mark.parametrize(
    ("output", "path", "meets"),
    [
        ("out/*.json", "out/*.txt", False),
        ("out/a*", "out/b*", False),
        ("out/*.json", "out/a*", True),
        ("out/a*.json", "out/*b.json", True),
        ("out/[ab].txt", "out/?.txt", True),
        ("out/x[0-9]", "out/x*.log", True),
        ("out/*", "out/*.txt", True),
    ],
)
def test_two_globs_that_no_name_can_satisfy_need_no_order(tmp_path: Path, output: str, path: str, meets: bool) -> None:
    make = f"  make: {{ type: task, machine: m1, command: make, outputs: ['{output}'] }}\n"
    use = f"  use: {{ type: task, machine: m1, command: use, inputs: ['{path}'], outputs: [used] }}\n"
    assert codes(manifest_of(tmp_path, make + use)) == (["undeclared-dependency"] if meets else [])
