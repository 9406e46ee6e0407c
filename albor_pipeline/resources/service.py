"""Service: a unit that the machine's service manager runs or does not run. Declares the fields; starts nothing."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import model_validator

from albor_pipeline.resources.fields import CONTENT, DOC, Fields, Flag, wrong
from albor_pipeline.resources.formats import Word


class Service(Fields):
    """The fields of a service; `enabled` says whether it starts with the machine, which it does unless the state is `disabled`."""

    name: Annotated[Word, CONTENT]
    state: Annotated[Literal["running", "stopped", "enabled", "disabled"], CONTENT] = "running"
    enabled: Annotated[Flag | None, CONTENT] = None
    description: Annotated[str, DOC] = ""

    @model_validator(mode="after")
    def _fitting(self) -> Service:
        if (self.state, self.enabled) in (("enabled", False), ("disabled", True)):
            raise wrong("either enabled or disabled; `state` and `enabled` contradict one another")
        return self
