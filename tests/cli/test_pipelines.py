"""Tasks in pipeline mode, quality gates and chosen cards: what a user declares, sees in a plan, and meets when something does not hold."""

from __future__ import annotations

import json
import shutil

import pytest

from cli.builder import Project

PIPELINE = """
    build:
      type: task
      task_mode: pipeline
      stages:
        - {name: clean, command: "tr a-z A-Z < in.txt > mid.txt", inputs: [in.txt], outputs: [mid.txt], gate: true}
        - name: count
          command: "wc -c < mid.txt > out.txt; it='s'; echo \\"it$it $HOME\\" >&2"
          inputs: [mid.txt, more.txt]
          outputs: [out.txt]
"""
GATED = """
    train:
      type: task
      command: "cat in.txt > model; echo '{\\"loss\\": 1, \\"accuracy\\": 0.8}'"
      inputs: [in.txt]
      outputs: [model]
      quality_gate: {parse: json, field: accuracy, min: 0.9, on_fail: block, message: not good enough}
    serve: {type: task, command: "cp model served", inputs: [train], outputs: [served]}
    beside: {type: task, command: "echo 1 > beside", outputs: [beside]}
"""
WHY = "not good enough: `accuracy` is 0.8, and the least that passes is 0.9"


def steps(project: Project, *argv: str) -> dict[str, tuple[str, str]]:
    said = project.run("plan", "--json", *argv)
    return {step["resource_id"]: (step["action"], step["reason"]["text"]) for step in json.loads(said.out)["steps"]}


def test_a_pipeline_is_one_task_with_what_its_stages_read_and_make(project: Project) -> None:
    project.file("in.txt", "abc\n").file("more.txt", "x").manifest(PIPELINE)
    project.does("apply").holds("mid.txt", "ABC\n").holds("out.txt", "4\n")
    assert project.run("apply").out == "Nothing to do: 1 unchanged.\n"
    project.file("in.txt", "abcdef\n")
    assert steps(project)["build"] == ("rerun", "input in.txt changed")
    project.does("apply").holds("out.txt", "7\n").file("more.txt", "y")
    assert steps(project)["build"] == ("rerun", "input more.txt changed")
    project.does("apply")
    (project.root / "mid.txt").unlink()
    assert "output mid.txt deleted" in steps(project)["build"][1]


def test_the_command_and_the_order_of_every_stage_count(project: Project) -> None:
    project.manifest("""
        t:
          type: task
          stages:
            - {name: one, command: echo 1}
            - {name: two, command: echo 2}
    """).does("apply").edit("echo 2", "echo 3")
    assert steps(project)["t"] == ("rerun", "command stages.two echo 2 -> echo 3")
    project.edit("echo 3", "echo 2").edit("{name: one, command: echo 1}", "{name: 3rd}")
    assert steps(project)["t"][1].startswith("command stages one, two -> 3rd, two")


def test_stages_are_templated_and_their_scripts_are_watched(project: Project) -> None:
    project.file("tools/make.sh", "echo $1 > made\n")
    project.manifest("""
        t: {type: task, stages: [{name: make, command: "bash tools/make.sh {{params.word}}", outputs: [made]}]}
    """, "params: {word: hello}\n").does("apply").holds("made", "hello\n").file("tools/make.sh", "echo $1 again > made\n")
    assert steps(project)["t"] == ("rerun", "code tools/make.sh changed")


def test_the_stage_that_fails_is_named_and_nothing_after_it_runs(project: Project) -> None:
    project.manifest("""
        t:
          type: task
          stages:
            - {name: lint, command: "true"}
            - {name: test, command: "echo broken; exit 3"}
            - {name: ship, command: touch shipped}
    """)
    said = project.run("apply")
    assert said.exit == 3 and " s    stage `test`: exit 3\n" in said.err and not (project.root / "shipped").exists(), said
    assert "| albor: stage 2 of 3, test: exit 3 after" in said.err
    assert "stage `test`: exit 3 in run 0001" in steps(project)["t"][1]


@pytest.mark.parametrize("command", ["false; touch shipped", "false | cat; touch shipped", "touch $NOWHERE shipped"])
def test_a_stage_ends_at_its_first_failure(project: Project, command: str) -> None:
    project.manifest(f"t: {{type: task, stages: [{{name: ship, command: '{command}'}}]}}")
    assert "stage `ship`: exit 1" in project.run("apply").err and not (project.root / "shipped").exists()


def test_what_a_stage_reads_by_a_wider_name_than_an_earlier_one_makes_is_asked_about(project: Project) -> None:
    project.manifest("""
        t:
          type: task
          stages:
            - {name: one, command: "mkdir -p d; echo 1 > d/a.csv", outputs: [d]}
            - {name: two, command: "cat d/*.csv > all", inputs: [d/*.csv], outputs: [all]}
    """).does("apply").holds("all", "1\n").edit("outputs: [d]", "outputs: [d/a.csv]")
    said = project.run("validate")
    assert said.exit == 1 and "input `d/*.csv` of `t` and its own output `d/a.csv` lie in one another" in said.err, said
    said = project.edit("inputs: [d/*.csv]", "inputs: [d]").run("validate")
    assert said.exit == 1 and "input `d` of `t` and its own output `d/a.csv` lie in one another" in said.err, said


def test_what_is_wrong_in_a_stage_is_told_at_its_line(project: Project) -> None:
    project.manifest(PIPELINE).edit("inputs: [mid.txt, more.txt]", "inputs: [data/more.txt]").file("in.txt", "x")
    said = project.run("plan")
    assert "`build` reads `data/more.txt`, which is not there and which nothing makes" in said.err
    assert " --> manifests/albor.yaml:11:" in said.err, said
    project.edit("outputs: [out.txt]", "outputs: [in.txt]")
    said = project.run("validate")
    assert said.exit == 1 and "input `in.txt` of `build` and its own output `in.txt` lie in one another" in said.err
    assert " --> manifests/albor.yaml:8:" in said.err, said


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("stages: [{name: a}], command: x", "given either `stages`, a `command`, or a `stage` with its `config`"),
        ("stages: [{name: a}, {name: a}]", "given `stages` of different names: there are two named `a`"),
        ("command: x, gpu_device: 1, needs: {gpu: 2}", "given either `gpu_device`, which is one card, or `needs.gpu: 2`"),
        ("command: x, quality_gate: {on_fail: warn}", "told what must hold: `threshold`, `min`, `regex` or a `command`"),
        ("command: x, quality_gate: {parse: stdout, field: f}", "without `field`, or `parse: json`, since `stdout` has none"),
    ],
)
def test_declarations_that_contradict_themselves_are_errors(project: Project, text: str, wrong: str) -> None:
    said = project.manifest(f"t: {{type: task, {text}}}").run("validate")
    assert said.exit == 1 and wrong in said.err and said.err.count("error[") == 1, said


def test_a_gate_that_blocks_is_a_failure_with_value_and_limit(project: Project) -> None:
    said = project.file("in.txt", "x").manifest(GATED).run("apply", "--keep-going")
    assert said.exit == 3 and f"quality_gate did not pass: {WHY}" in said.err, said
    assert (project.root / "beside").exists() and not (project.root / "served").exists()
    assert WHY in steps(project)["train"][1] and steps(project)["train"][0] == "retry"
    project.edit("min: 0.9", "min: 0.8").does("apply").holds("served", "x")


def test_a_gate_that_warns_is_seen_in_the_report_and_stops_nothing(project: Project) -> None:
    said = project.file("in.txt", "x").manifest(GATED).edit("on_fail: block", "on_fail: warn").run("apply")
    assert said.exit == 0 and f" s    quality_gate did not pass: {WHY}" in said.err, said
    assert f"  train  quality gate: {WHY}\n" in said.out
    project.holds("served", "x")
    assert project.run("apply").out == "Nothing to do: 3 unchanged.\n"


def test_what_needs_a_task_whose_gate_says_so_is_not_run_then_or_later(project: Project) -> None:
    said = project.file("in.txt", "x").manifest(GATED).edit("on_fail: block", "on_fail: skip_dependents").run("apply")
    assert said.exit == 1 and "Not everything could be done: 2 done, 1 held." in said.out, said
    assert not (project.root / "served").exists() and (project.root / "model").exists()
    held = ("hold", f"the quality gate of train did not pass: {WHY}; to judge it anew: apply --target train --force")
    assert steps(project)["train"] == ("skip", "unchanged") and steps(project)["serve"] == held
    assert project.run("apply", "--target", "serve", "--force").exit == 1 and not (project.root / "served").exists()
    project.edit("on_fail: skip_dependents", "on_fail: warn").does("apply").holds("served", "x")
    project.edit("on_fail: warn", "on_fail: skip_dependents").does("apply")
    project.edit("0.8}'", "0.95}'").does("apply").file("in.txt", "y").does("apply").holds("served", "y")


def test_a_gate_counts_for_a_result_that_is_given_back(project: Project) -> None:
    project.file("in.txt", "x").manifest(GATED).edit("on_fail: block", "on_fail: skip_dependents").run("apply")
    (project.root / "model").unlink()
    assert steps(project)["train"][0] == "restore" and steps(project)["serve"][0] == "hold"
    assert project.run("apply").exit == 1 and (project.root / "model").exists() and not (project.root / "served").exists()


def test_a_plan_knows_the_gate_of_what_it_will_give_back_or_adopt(project: Project) -> None:
    low, high = (f'{{"accuracy": {number}}}\n' for number in (0.8, 0.95))
    project.file("in.txt", low).manifest("""
        train:
          type: task
          command: tee model < in.txt
          inputs: [in.txt]
          outputs: [model]
          quality_gate: {field: accuracy, min: 0.9, on_fail: skip_dependents}
        serve: {type: task, command: cp model served, inputs: [train], outputs: [served]}
    """).run("apply")
    project.file("in.txt", high).does("apply").holds("served", high).file("in.txt", low)
    assert (steps(project)["train"][0], steps(project)["serve"][0]) == ("restore", "hold")
    assert project.run("apply").exit == 1
    project.holds("model", low).holds("served", high).file("in.txt", high)
    assert (steps(project)["train"][0], steps(project)["serve"][0]) == ("restore", "skip")
    project.file("in.txt", low.replace('8', '7')).run("apply")
    shutil.rmtree(project.root / "state")
    assert (steps(project)["train"][0], steps(project)["serve"][0]) == ("adopt", "hold")


def test_a_secret_that_a_gate_meets_is_not_shown(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORJAR_SECRET_KEY", secret := "hunter2-" * 10)
    project.manifest("""
        t:
          type: task
          command: "echo 1 > out; echo \\"${KEY#Bearer }\\""
          outputs: [out]
          env: {KEY: "Bearer {{secrets.key}}"}
          quality_gate: {parse: stdout, threshold: [ok], on_fail: warn}
    """)
    said = project.run("apply")
    assert said.exit == 0 and "the last line is ***, and only ok passes" in said.err and "***, and" in said.out, said
    for path in project.root.rglob("*"):
        assert not path.is_file() or path.name == "log" or b"hunter2" not in path.read_bytes(), path
    assert secret in next(project.root.glob(".albor/attempts/t/1-*/log")).read_text()


def test_a_card_that_the_machine_has_not_is_an_error_and_one_that_it_has_is_told(project: Project) -> None:
    task = "t: {type: task, machine: m, command: 'echo $CUDA_VISIBLE_DEVICES > card', outputs: [card], gpu_device: 1}"
    project.manifest(task, "machines: {m: {addr: localhost, slots: {gpu: 1}}}\n")
    said = project.run("plan")
    assert said.exit == 1 and "`t` needs GPU 1, m has those up to 0" in said.err, said
    project.edit("slots: {gpu: 1}", "slots: {gpu: 2}").does("apply").holds("card", "1\n")
