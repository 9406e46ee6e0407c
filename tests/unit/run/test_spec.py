"""What the agent is asked to run: one command, the stages of a pipeline, each in a strict shell of its own, or what resumes it."""

from __future__ import annotations

from typing import Any

from albor_pipeline.model.fingerprint import Fingerprint
from albor_pipeline.model.manifest import Machine, Slots
from albor_pipeline.model.plan import Action
from albor_pipeline.model.resource import Key, Resource
from albor_pipeline.resources.task import Task
from albor_pipeline.run.spec import IN_ENVIRONMENT, MAX_ARGUMENT_BYTES, Start, request

STRICT = ["/bin/bash", "-euo", "pipefail"]


def asked(action: Action = Action.RUN, python: str | None = None, **fields: Any) -> dict[str, Any]:
    task = Task.model_validate(fields)
    machine = Machine("m", "localhost", "m")
    start = Start(
        Key("t", "m"), Resource("t", "task", ("m",), task), machine, Fingerprint({}), action, 1, "0001", "/srv/box", Slots(), python=python
    )
    return request(start, "L")


def test_each_stage_has_a_strict_shell_of_its_own() -> None:
    long = "#" * (MAX_ARGUMENT_BYTES + 1)
    spec = asked(stages=[{"name": "a", "command": "it's $x"}, {"name": "b"}, {"name": "c", "command": long}])
    assert [stage["argv"] for stage in spec["stages"]] == [
        [*STRICT, "-c", "it's $x"], [*STRICT, "-c", ":"], [*STRICT, "{attempt}/stage-3.sh"],
    ]  # fmt: skip
    assert spec["files"] == {"stage-3.sh": long} and "argv" not in spec


def test_the_stages_of_a_task_with_a_python_run_in_that_environment() -> None:
    spec = asked(python="env/bin/python", stages=[{"name": "a", "command": "python x.py"}])
    assert spec["stages"] == [{"name": "a", "argv": [*IN_ENVIRONMENT, "/srv/box/env/bin", *STRICT[1:], "-c", "python x.py"]}]


def test_an_interrupted_pipeline_goes_on_with_its_resume_command() -> None:
    fields = {"stages": [{"name": "a", "command": "x"}], "resume_command": "go on"}
    assert asked(Action.RESUME, **fields)["argv"] == ["/bin/bash", "-c", "go on"] and "stages" not in asked(Action.RESUME, **fields)
    assert "stages" in asked(Action.RETRY, **fields)


def test_a_gate_is_told_with_its_command_as_words() -> None:
    gate = {"command": "cat metrics.json", "field": "loss", "threshold": ["1"], "on_fail": "warn"}
    told = {**gate, "command": ["/bin/bash", "-c", "cat metrics.json"], "threshold": ("1",)}
    assert asked(command="x", quality_gate=gate)["quality_gate"] == told and asked(command="x")["quality_gate"] is None


def test_a_task_that_names_its_card_needs_one() -> None:
    assert asked(command="x", gpu_device="1")["needs"] == {"gpu": 1, "gpu_device": 1, "cpu": None, "memory_bytes": 0}
    assert asked(command="x")["needs"] == {"gpu": None, "gpu_device": None, "cpu": None, "memory_bytes": 0}
