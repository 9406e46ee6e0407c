"""The configuration of a stage: a file or a mapping, with `set` on top, counted by value; what cannot be read is told at its place."""

from __future__ import annotations

from pathlib import Path

import pytest
from support_run import Project

from albor_pipeline.errors import Problems
from albor_pipeline.model.resource import Resource
from albor_pipeline.resources.task import Task
from albor_pipeline.run.configs import StageConfig, read_config


def read(root: Path, config: object, **settings: object) -> tuple[StageConfig, list[str]]:
    problems = Problems()
    task = Task.model_validate({"stage": "one", "config": config, "set": settings})
    found = read_config(Resource("train", "task", ("m",), task), "m", root, problems)
    return found, [item.message for item in problems]


def test_values_of_a_file_are_typed_as_yaml_1_2(project: Project) -> None:
    project.file("c.yaml", "lr: 1e-3\nname: 'yes'\non: yes\ndeep: { list: [1, 2.0, text], none: null, ok: true }\n")
    config, problems = read(project.root, "c.yaml")
    assert problems == []
    assert config.values == {"lr": 0.001, "name": "yes", "on": "yes", "deep": {"list": [1, 2.0, "text"], "none": None, "ok": True}}
    assert config.parts["deep.list[1]"] == "2"
    assert '"lr": 0.001' in config.text


def test_set_overrides_and_makes_what_is_not_there(project: Project) -> None:
    config, _ = read(project.root, {"optimizer": {"lr": "1e-3"}, "steps": "10"}, **{"optimizer.lr": "5e-4", "a.b": "1", "steps.x": "2"})
    assert config.values == {"optimizer": {"lr": 0.0005}, "steps": {"x": 2}, "a": {"b": 1}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "the config `c.yaml` cannot be read: No such file or directory"),
        (b"\xff\xfe\x00", "the config `c.yaml` cannot be read: it is not UTF-8 text"),
        (b"- a\n- b\n", "the config `c.yaml` must be a mapping"),
        (b"", None),
    ],
)
def test_a_file_that_is_no_config_is_a_problem_of_the_plan(project: Project, text: bytes | None, message: str | None) -> None:
    if text is not None:
        (project.root / "c.yaml").write_bytes(text)
    config, problems = read(project.root, "c.yaml")
    assert config.values == {}
    assert problems == ([message] if message else [])


def test_a_wrong_config_stops_the_plan_at_the_line_of_the_manifest(project: Project) -> None:
    project.stages({"plan": {}}, "one")
    project.manifest("  train:\n    type: task\n    stage: one\n    config: no/such.yaml\n    outputs: [out]\n")
    said = project.run("plan")
    assert said.code == 1
    assert "the config `no/such.yaml` cannot be read" in said.err
    assert "p.yaml:7:13" in said.err
    assert project.starts("asked.log") == []
