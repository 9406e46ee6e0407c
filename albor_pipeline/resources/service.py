"""Service: a unit that the machine's service manager runs or does not run. Declares the fields; starts nothing."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from albor_pipeline.resources.fields import CONTENT, DOC, Fields, Flag, wrong
from albor_pipeline.resources.formats import Word


class Service(Fields):
    """A unit of the service manager; it starts with the machine unless `enabled` or the state says otherwise."""

    name: Annotated[Word, CONTENT, Field(description="the name of the unit")]
    state: Annotated[
        Literal["running", "stopped", "enabled", "disabled"],
        CONTENT,
        Field(description="whether it runs, or starts with the machine"),
    ] = "running"
    enabled: Annotated[Flag | None, CONTENT, Field(description="whether it starts with the machine")] = None
    description: Annotated[str, DOC, Field(description="a sentence for readers")] = ""

    @model_validator(mode="after")
    def _fitting(self) -> Service:
        if (self.state, self.enabled) in (("enabled", False), ("disabled", True)):
            raise wrong("either enabled or disabled; `state` and `enabled` contradict one another")
        return self
