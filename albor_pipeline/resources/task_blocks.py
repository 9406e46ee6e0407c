"""The blocks of a task that say how it is watched, gated and moved: stages, gate, health check, restarts. Declares fields only."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from posixpath import normpath
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from albor_pipeline.resources.fields import Count, Fields, Flag, PathText, Text, wrong
from albor_pipeline.resources.formats import Duration, Number
from albor_pipeline.resources.places import parts

MAX_EXPRESSION = 1_000


def _expression(value: Any) -> Any:
    """Any text of a bounded length: a longer one could cost more to read than an honest one ever does."""
    if isinstance(value, str) and len(value) > MAX_EXPRESSION:
        raise wrong(f"a regular expression of at most {MAX_EXPRESSION} characters")
    if isinstance(value, str):
        try:
            with warnings.catch_warnings(action="ignore"):
                re.compile(value)
        except (re.error, RecursionError, OverflowError) as error:
            raise wrong(f"a regular expression ({error})") from None
    return value


def _transfer(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    artifact, _, to = value.partition(":")
    if not (artifact and to):
        raise wrong("`SOURCE:DESTINATION`, or a mapping of `artifact`, `to` and `from`")
    return {"artifact": artifact, "to": to}


class PipelineStage(Fields):
    """One step of a task in pipeline mode, in a shell of its own that ends at the first command that fails; then the task ends too."""

    name: Annotated[Text, Field(description="the name of the step")]
    command: Annotated[Text | None, Field(description="its shell command; nothing is run when this is left out")] = None
    inputs: Annotated[tuple[PathText, ...], Field(description="what it reads; inputs of the task, unless an earlier step makes it")] = ()
    outputs: Annotated[tuple[PathText, ...], Field(description="what it makes; outputs of the task")] = ()
    gate: Annotated[Flag, Field(description="whether its failure ends the task, as that of every step does")] = False


class QualityGate(Fields):
    """What the task's numbers must be when it ended well, and what follows when they are not."""

    command: Annotated[
        Text | None, Field(description="a shell command whose output is judged in place of what the task printed")
    ] = None
    parse: Annotated[
        Literal["json", "stdout", "exit_code"] | None,
        Field(description="what is judged: a field of the last JSON object, the last line (also when left out), or the exit code"),
    ] = None
    field: Annotated[Text | None, Field(description="the field of the JSON object; `a.b` is one inside another")] = None
    threshold: Annotated[
        tuple[Text, ...], Field(description="the values that pass, each as a text, or as a number of that very value")
    ] = ()
    min: Annotated[Number | None, Field(description="the least number that passes")] = None
    regex: Annotated[
        Text | None, BeforeValidator(_expression),
        Field(description="the expression that is found in the value, with `stdout` in any line that was printed"),
    ] = None
    on_fail: Annotated[
        Literal["block", "warn", "skip_dependents"],
        Field(description="what follows when it does not pass: the task failed, or is done with a warning; what needs it waits or not"),
    ] = "block"
    message: Annotated[Text | None, Field(description="what is said then, before the value and its limit")] = None

    @model_validator(mode="after")
    def _fitting(self) -> QualityGate:
        if self.parse == "json" and self.field is None:
            raise wrong("given the `field` to look at, since it parses JSON")
        if self.field is not None and self.parse not in (None, "json"):
            raise wrong(f"without `field`, or `parse: json`, since `{self.parse}` has none")
        if self.field is None and self.command is None and not (self.threshold or self.regex) and self.min is None:
            raise wrong("told what must hold: `threshold`, `min`, `regex` or a `command`")
        return self


def read_by(stages: Sequence[PipelineStage]) -> Iterator[tuple[int, int, str]]:
    """What the steps read and no earlier one makes: the numbers of step and input, and the path."""
    made: list[Sequence[str]] = []
    for number, stage in enumerate(stages):
        for index, path in enumerate(stage.inputs):
            words = parts(normpath(path))
            if not any(_covers(each, words) for each in made):
                yield number, index, path
        made += [parts(normpath(path)) for path in stage.outputs]


def _covers(made: Sequence[str], read: Sequence[str]) -> bool:
    """Whether all that is read surely lies in what is made; a wider glob may mean other files too."""
    return len(made) <= len(read) and all(one == two or fnmatchcase(two, one) for one, two in zip(made, read, strict=False))


def made_by(stages: Sequence[PipelineStage]) -> Iterator[tuple[int, int, str]]:
    """What the steps make: the numbers of step and output, and the path."""
    return ((number, index, path) for number, stage in enumerate(stages) for index, path in enumerate(stage.outputs))


class HealthCheck(Fields):
    """How one sees that a service is well."""

    command: Annotated[Text, Field(description="a shell command that exits 0 when all is well")]
    interval: Annotated[Duration | None, Field(description="how long between two looks")] = None
    timeout: Annotated[Duration | None, Field(description="how long a look may take")] = None
    retries: Annotated[Count, Field(description="how many looks may fail")] = 3


class RestartPolicy(Fields):
    """How often a service that ended is started again, and after which waiting."""

    max_restarts: Annotated[Count, Field(description="how often it is started again")] = 5
    backoff_base_secs: Annotated[
        Number, Field(description="the first waiting, in seconds; each next one is twice as long")
    ] = 1.0
    backoff_max_secs: Annotated[Number, Field(description="the longest waiting, in seconds")] = 60.0
    reset_after_secs: Annotated[
        Count, Field(description="after this time without an end the count starts afresh, in seconds")
    ] = 300


class Transfer(Fields):
    """An artifact that is moved before or after the task; without `from` it lies on the task's own machine."""

    artifact: Annotated[PathText, Field(description="the path that is moved")]
    to: Annotated[Text, Field(description="where it goes: a path, or a machine")]
    from_: Annotated[Text | None, Field(alias="from", description="the machine that it comes from")] = None


Moved = Annotated[Transfer, BeforeValidator(_transfer)]
