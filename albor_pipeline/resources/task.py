"""Task: a resource that runs a command or a stage and makes outputs. Declares the fields; does not run, probe or judge it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from albor_pipeline.resources.fields import (
    CONTENT,
    DOC,
    POLICY,
    Bytes,
    Count,
    Fields,
    Flag,
    PathText,
    Positive,
    Seconds,
    Text,
    Variables,
    typed,
    wrong,
)
from albor_pipeline.resources.formats import Duration
from albor_pipeline.resources.task_blocks import (
    HealthCheck,
    Moved,
    PipelineStage,
    QualityGate,
    RestartPolicy,
    made_by,
    read_by,
)

Restart = Literal["no", "always", "on_failure", "on-failure", "unless-stopped"]
RetryOn = Literal["error", "timeout", "killed", "oom", "lost", "gpu", "hang"]


class Output(Fields):
    """A declared output; a `volatile` one must exist afterwards, but its bytes count for nothing."""

    path: Annotated[PathText, Field(description="the file or folder that the task makes")]
    volatile: Annotated[Flag, Field(description="true when its bytes differ from run to run: it must exist, and is not compared")] = False

    @property
    def names(self) -> tuple[str, str, str]:
        """What `resource.NAME` may call it: its path, its last part, or that without the ending."""
        pure = PurePosixPath(self.path)
        return self.path.rstrip("/"), pure.name, pure.stem


class Needs(Fields):
    """What the task takes of its machine's slots while it runs."""

    gpu: Annotated[Count | None, Field(description="graphics cards; it sees these and no others, and all when this is left out")] = None
    cpu: Annotated[Count | None, Field(description="processor cores, told as OMP_NUM_THREADS; one, untold, when this is left out")] = None
    memory: Annotated[Bytes, Field(description="main memory")] = 0


class Retry(Fields):
    """How often the same attempt is made again, after which waiting, and for which exit classes."""

    attempts: Annotated[Positive, Field(description="how many attempts in all")] = 3
    backoff: Annotated[Seconds, Field(description="how long to wait before the next attempt")] = 10.0
    on: Annotated[
        tuple[RetryOn, ...],
        Field(description="after which ends another attempt is made"),
    ] = ("error", "killed", "lost", "gpu", "hang")


def _outputs(value: Any) -> Any:
    if isinstance(value, list):
        return [{"path": item} if isinstance(item, str) else item for item in value]
    return value


def _config(value: Any) -> Any:
    if isinstance(value, dict):
        return typed(value)
    if isinstance(value, str) and value.strip():
        return str(value)
    raise wrong("a path or a mapping")


def _settings(value: Any) -> Any:
    if not isinstance(value, dict) or any(isinstance(item, dict) for item in value.values()):
        raise wrong("a mapping of dotted names to values, such as `optimizer.lr: 3e-4`")
    return typed(value)


class Task(Fields):
    """A command or a stage that makes outputs; `command`, `stages` (commands one after the other), or `stage` with `config`."""

    command: Annotated[Text | None, CONTENT, Field(description="the shell command, run in the project folder of the machine")] = None
    stage: Annotated[Text | None, CONTENT, Field(description="a stage of stages/, in place of a command")] = None
    config: Annotated[
        str | Mapping[str, Any] | None, BeforeValidator(_config, json_schema_input_type=Text | Mapping[str, Any]), CONTENT,
        Field(description="the configuration of the stage: a file, or the values themselves"),
    ] = None
    set: Annotated[
        Mapping[str, Any], BeforeValidator(_settings, json_schema_input_type=Mapping[str, Any]), CONTENT,
        Field(description="single values of the configuration, by dotted name"),
    ] = Field(default_factory=dict)
    inputs: Annotated[
        tuple[PathText, ...], CONTENT,
        Field(description="what it reads: paths, globs, or the names of other resources, which it then waits for"),
    ] = ()
    outputs: Annotated[
        tuple[Output, ...], BeforeValidator(_outputs, json_schema_input_type=tuple[PathText | Output, ...]), CONTENT,
        Field(description="what it makes; a missing one is a failure, a changed one is drift"),
    ] = ()
    env: Annotated[Variables, CONTENT, Field(description="environment variables")] = Field(default_factory=dict)
    python: Annotated[
        Text | None, CONTENT,
        Field(description="the python_env whose interpreter it runs in, or a path of an interpreter"),
    ] = None
    working_dir: Annotated[PathText | None, CONTENT, Field(description="the folder it runs in, seen from the project folder")] = None
    completion_check: Annotated[
        Text | None, POLICY,
        Field(description="a shell command that exits 0 when the work is done; it must pass after every attempt"),
    ] = None
    needs: Annotated[Needs, POLICY, Field(description="what it takes of the slots of its machine while it runs")] = Needs()
    retry: Annotated[Retry | None, POLICY, Field(description="whether and when a failed attempt is repeated")] = None
    resume_command: Annotated[Text | None, POLICY, Field(description="the shell command that continues an interrupted attempt")] = None
    timeout: Annotated[Seconds | None, POLICY, Field(description="after this time an attempt is ended")] = None
    heartbeat: Annotated[Seconds | None, POLICY, Field(description="an attempt that says nothing for this time counts as hung")] = None
    grace: Annotated[Seconds, POLICY, Field(description="how long an attempt that is told to end may save before it is killed")] = 10.0
    cache: Annotated[Flag, POLICY, Field(description="whether an earlier result of the same inputs may be used again")] = True
    state: Annotated[Literal["present"], POLICY, Field(description="a task is always wanted")] = "present"
    task_mode: Annotated[
        Literal["batch", "pipeline", "service", "dispatch"],
        POLICY,
        Field(description="how it runs: once, in steps, as a service, or when it is asked to; the last two are refused"),
    ] = "batch"
    stages: Annotated[
        tuple[PipelineStage, ...], CONTENT, Field(description="the steps of a task in pipeline mode")
    ] = ()
    quality_gate: Annotated[QualityGate | None, POLICY, Field(description="what its numbers must be when it ended well")] = None
    gpu_device: Annotated[
        Count | None, POLICY, Field(description="the number of the graphics card that it takes, sees, and waits for")
    ] = None
    health_check: Annotated[HealthCheck | None, POLICY, Field(description="how one sees that a service is well")] = None
    restart: Annotated[Restart | None, POLICY, Field(description="when a service is started again")] = None
    restart_delay: Annotated[Duration | None, POLICY, Field(description="how long to wait before that")] = None
    restart_policy: Annotated[
        RestartPolicy | None, POLICY, Field(description="how often it is started again, and after which waiting")
    ] = None
    scatter: Annotated[
        tuple[Moved, ...], CONTENT, Field(description="what is moved to where it is needed before the task")
    ] = ()
    gather: Annotated[
        tuple[Moved, ...], CONTENT, Field(description="what is moved to where it is needed after the task")
    ] = ()
    ranks_on: Annotated[
        tuple[Text, ...], CONTENT, Field(description="the machines that run it together, as one task")
    ] = ()
    contracts: Annotated[
        tuple[Text, ...], POLICY, Field(description="the contracts that must hold for its outputs")
    ] = ()
    keep: Annotated[Flag, POLICY, Field(description="whether a service goes on after the last task that needs it")] = (
        False
    )
    name: Annotated[Text | None, DOC, Field(description="a name for readers")] = None
    description: Annotated[str, DOC, Field(description="a sentence for readers")] = ""

    @model_validator(mode="after")
    def _one_way(self) -> Task:
        if self.task_mode == "pipeline" and not self.stages:
            raise wrong("given its `stages`, since its mode is pipeline")
        if self.gpu_device is not None and self.needs.gpu not in (None, 1):
            raise wrong(f"given either `gpu_device`, which is one card, or `needs.gpu: {self.needs.gpu}`")
        if self.stages:
            return self._of_stages()
        if (self.command is None) == (self.stage is None):
            raise wrong("given either a `command` or a `stage` with its `config`")
        if self.stage is not None and self.config is None:
            raise wrong("given the `config` of its stage: a path or a mapping")
        if self.stage is not None and self.resume_command is not None:
            raise wrong("a command to have a `resume_command`; a stage resumes by itself")
        if self.command is not None and (self.config is not None or self.set):
            raise wrong("a stage to have a `config` or `set`; a command takes arguments")
        return self

    def _of_stages(self) -> Task:
        """The task with what its steps read and make."""
        if self.command is not None or self.stage is not None or self.config is not None or self.set:
            raise wrong("given either `stages`, a `command`, or a `stage` with its `config`")
        twice = [name for name, count in Counter(stage.name for stage in self.stages).items() if count > 1]
        if twice:
            raise wrong(f"given `stages` of different names: there are two named `{twice[0]}`")
        read = dict.fromkeys((*self.inputs, *(path for _, _, path in read_by(self.stages))))
        known = [output.path for output in self.outputs]
        made = dict.fromkeys(path for _, _, path in made_by(self.stages) if path not in known)
        return self.model_copy(update={"inputs": tuple(read), "outputs": (*self.outputs, *(Output(path=path) for path in made))})

    @property
    def origins(self) -> Mapping[str, str]:
        """`inputs.2` -> `stages.0.inputs.1`, for each input and output that the task has from its steps."""
        found: dict[str, str] = {}
        outputs = [output.path for output in self.outputs]
        for field, paths, each in (("inputs", list(self.inputs), read_by(self.stages)), ("outputs", outputs, made_by(self.stages))):
            for number, index, path in each:
                found.setdefault(f"{field}.{paths.index(path)}", f"stages.{number}.{field}.{index}")
        return found

    @property
    def commands(self) -> tuple[str, ...]:
        """The shell texts that it runs, in their order."""
        return tuple(stage.command or "" for stage in self.stages) or ((self.command,) if self.command is not None else ())

    @property
    def gpus(self) -> int | None:
        """How many graphics cards it takes, None when it says nothing of them."""
        return 1 if self.gpu_device is not None else self.needs.gpu

    @property
    def timeout_s(self) -> float | None:
        """Seconds after which an attempt is ended, or None."""
        return self.timeout

    @property
    def heartbeat_s(self) -> float | None:
        """Seconds without a sign of life after which an attempt counts as hung, or None for no verdict."""
        return self.heartbeat


class TaskKind:
    """The kind `task`; it has no probe and no convergence of its own."""

    name: ClassVar[str] = "task"
    noun: ClassVar[str] = "task"
    model: ClassVar[type[Fields]] = Task
    names: ClassVar[Mapping[str, str]] = {"output_artifacts": "outputs", "task_inputs": "inputs"}
    shown: ClassVar[tuple[str, ...]] = (
        "command", "stage", "config", "inputs", "outputs", "depends_on", "machine", "needs", "env", "retry", "timeout",
    )  # fmt: skip

    def defaults(self, name: str) -> Mapping[str, Any]:
        """None: nothing of a task depends on its name."""
        return {}
