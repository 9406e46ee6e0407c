"""The blocks of a task that say how it is watched, gated and moved: stages, gate, health check, restarts. Declares fields only."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from albor_pipeline.resources.fields import Count, Fields, Flag, PathText, Text, wrong
from albor_pipeline.resources.formats import Duration, Number


def _expression(value: Any) -> Any:
    if isinstance(value, str):
        try:
            re.compile(value)
        except re.error as error:
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
    """One step of a task in pipeline mode; a `gate` ends the task when it fails."""

    name: Text
    command: Text | None = None
    inputs: tuple[PathText, ...] = ()
    outputs: tuple[PathText, ...] = ()
    gate: Flag = False


class QualityGate(Fields):
    """What the task's numbers must be, and what follows when they are not."""

    command: Text | None = None
    parse: Literal["json", "stdout", "exit_code"] | None = None
    field: Text | None = None
    threshold: tuple[Text, ...] = ()
    min: Number | None = None
    regex: Annotated[Text | None, BeforeValidator(_expression)] = None
    on_fail: Literal["block", "warn", "skip_dependents"] = "block"
    message: Text | None = None

    @model_validator(mode="after")
    def _fitting(self) -> QualityGate:
        if self.parse == "json" and self.field is None:
            raise wrong("given the `field` to look at, since it parses JSON")
        return self


class HealthCheck(Fields):
    """How one sees that a service is well."""

    command: Text
    interval: Duration | None = None
    timeout: Duration | None = None
    retries: Count = 3


class RestartPolicy(Fields):
    """How often a service that ended is started again, and after which waiting."""

    max_restarts: Count = 5
    backoff_base_secs: Number = 1.0
    backoff_max_secs: Number = 60.0
    reset_after_secs: Count = 300


class Transfer(Fields):
    """An artifact that is moved before or after the task; `from` is the machine it comes from or goes to."""

    artifact: PathText
    to: Text
    from_: Annotated[Text | None, Field(alias="from")] = None


Moved = Annotated[Transfer, BeforeValidator(_transfer)]
