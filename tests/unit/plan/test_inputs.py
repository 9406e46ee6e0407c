"""What counts as an input of a task: what it names, or the outputs of what it depends on; volatile outputs and its own never."""

from __future__ import annotations

from pathlib import Path

import pytest
from support_plan import inputs_of, manifest_of, plan_of, step_of

MIX = "  mix: { type: task, machine: m1, command: mix, outputs: [data/mixed, {path: logs/mix.txt, volatile: true}, out/stats.json] }\n"


@pytest.mark.parametrize(
    ("inputs", "counted"),
    [
        ("[mix]", [("data/mixed", "mix@m1", "data/mixed"), ("out/stats.json", "mix@m1", "out/stats.json")]),
        ("[mix.mixed]", [("data/mixed", "mix@m1", "data/mixed")]),
        ("[mix.stats]", [("out/stats.json", "mix@m1", "out/stats.json")]),
        ("[mix.stats.json]", [("out/stats.json", "mix@m1", "out/stats.json")]),
        ("[data/mixed]", [("data/mixed", "mix@m1", "data/mixed")]),
        ("[./data/mixed/]", [("./data/mixed/", "mix@m1", "data/mixed")]),
        ("[data/mixed/part-000]", [("data/mixed/part-000", "mix@m1", None)]),
        ("[data/mixed/*.parquet]", [("data/mixed/*.parquet", "mix@m1", None)]),
        ("[data]", [("data", "mix@m1", None)]),
        ("['out/*.json']", [("out/*.json", "mix@m1", None)]),
        ("['out/*.txt']", [("out/*.txt", "", None)]),
        ("['*/mixed/deep/*']", [("*/mixed/deep/*", "mix@m1", None)]),
        ("['**/*.json']", [("**/*.json", "mix@m1", None)]),
        ("[raw/*.py]", [("raw/*.py", "", None)]),
        ("[logs/mix.txt]", [("logs/mix.txt", "", None)]),
        ("[raw, mix.mixed, raw, data/mixed]", [("raw", "", None), ("data/mixed", "mix@m1", "data/mixed")]),
    ],
)
def test_what_the_inputs_of_a_task_mean(tmp_path: Path, inputs: str, counted: list[tuple[str, str, str | None]]) -> None:
    manifest = manifest_of(tmp_path, MIX + f"  use: {{ type: task, machine: m1, command: use, inputs: {inputs} }}\n")
    assert inputs_of(manifest, "use") == counted


def test_without_inputs_the_outputs_of_what_it_depends_on_count(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path, MIX + "  use: { type: task, machine: m1, command: use, depends_on: [mix] }\n")
    assert [path for path, _, _ in inputs_of(manifest, "use")] == ["data/mixed", "out/stats.json"]


def test_once_inputs_are_given_depends_on_is_order_only(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path, MIX + "  use: { type: task, machine: m1, command: use, inputs: [raw], depends_on: [mix] }\n")
    assert inputs_of(manifest, "use") == [("raw", "", None)]
    assert step_of(plan_of(manifest), "use").after == (("mix", "m1"),)


@pytest.mark.parametrize(("reads", "made"), [("'data/a*'", True), ("'data/sub/*'", True), ("data/abc", False), ("'*/ab'", True)])
def test_a_glob_that_is_made_meets_what_it_may_match(tmp_path: Path, reads: str, made: bool) -> None:
    text = "  make: { type: task, machine: m1, command: make, outputs: ['data/*b'] }\n"
    use = f"  use: {{ type: task, machine: m1, command: use, inputs: [{reads}], depends_on: [make] }}\n"
    assert [makers for _, makers, _ in inputs_of(manifest_of(tmp_path, text + use), "use")] == ["make@m1" if made else ""]


def test_a_folder_into_which_several_tasks_write_waits_for_all_of_them(tmp_path: Path) -> None:
    text = "".join(f"  t{i}: {{ type: task, machine: m1, command: make, outputs: [data/t{i}] }}\n" for i in range(2))
    folder = "  dir: { type: file, machine: m1, path: data, state: directory }\n"
    use = "  use: { type: task, machine: m1, command: use, inputs: [data], depends_on: [t0, t1, dir] }\n"
    assert inputs_of(manifest_of(tmp_path, text + folder + use), "use") == [("data", "dir@m1, t0@m1, t1@m1", None)]


@pytest.mark.parametrize(
    ("more", "message"),
    [("", "`use` reads `data`, which `mix` makes, and does not depend on it"),
     ("  mix: { type: task, machine: m1, command: mix, inputs: [use], outputs: [data/mixed] }\n",
      "`use` reads `data`, which `mix` makes, and that runs after it")],
)  # fmt: skip
def test_a_read_of_what_another_task_makes_needs_the_order(tmp_path: Path, more: str, message: str) -> None:
    use = "  use: { type: task, machine: m1, command: use, inputs: [data], outputs: [used] }\n"
    plan = plan_of(manifest_of(tmp_path, (more or MIX) + use))
    assert [item.message for item in plan.diagnostics if item.level == "error"] == [message]


def test_depending_on_a_folder_is_order_only(tmp_path: Path) -> None:
    text = "  dir: { type: file, machine: m1, path: /srv/x, state: directory }\n"
    manifest = manifest_of(tmp_path, text + "  use: { type: task, machine: m1, command: use, depends_on: [dir] }\n")
    assert inputs_of(manifest, "use") == inputs_of(manifest, "dir") == []


GROUP = "  fetch: { type: task, machine: [m1, m2], command: fetch, outputs: [raw] }\n"


@pytest.mark.parametrize(
    ("where", "how", "producers"),
    [
        ("m1", "inputs: [fetch]", ["fetch@m1"]),
        ("m2", "inputs: [fetch]", ["fetch@m2"]),
        ("m1", "depends_on: [fetch@m2]", ["fetch@m2"]),
        ("m2", "inputs: [raw]", ["fetch@m2"]),
    ],
)
def test_of_a_group_the_copy_beside_it_counts_unless_one_is_picked(tmp_path: Path, where: str, how: str, producers: list[str]) -> None:
    manifest = manifest_of(tmp_path, GROUP + f"  use: {{ type: task, machine: {where}, command: use, {how} }}\n")
    assert [producer for _, producer, _ in inputs_of(manifest, "use", where)] == producers


def test_from_a_third_machine_all_copies_of_a_group_are_waited_for(tmp_path: Path) -> None:
    top = "machines: { m1: { addr: localhost }, m2: { addr: 127.0.0.1, workdir: two }, m3: { addr: 127.0.0.1, workdir: three } }\n"
    manifest = manifest_of(tmp_path, GROUP + "  all: { type: task, machine: m3, command: all, depends_on: [fetch] }\n", top)
    assert step_of(plan_of(manifest), "all", "m3").after == (("fetch", "m1"), ("fetch", "m2"))
