"""Docker: a container on the machine. Declares the fields; starts none."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from albor_pipeline.resources.fields import CONTENT, DOC, Fields, Text, wrong
from albor_pipeline.resources.formats import LAST_PORT, Word, matching

PORTS = re.compile(
    r"(?:(?:\[[0-9a-fA-F:.]+\]|[0-9.]+):)?(?:([0-9]{1,5}(?:-[0-9]{1,5})?)?:)?([0-9]{1,5}(?:-[0-9]{1,5})?)(?:/(?:tcp|udp|sctp))?"
)


def _published(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    match = PORTS.fullmatch(value)
    numbers = [int(number) for part in match.groups() if part for number in part.split("-")] if match else [0]
    if not all(1 <= number <= LAST_PORT for number in numbers):
        raise wrong(f"ports such as 8080:80 or 127.0.0.1:8080:80/tcp, each from 1 to {LAST_PORT}")
    return value


def _volume(value: Any) -> Any:
    if isinstance(value, str) and not any(part.startswith("/") for part in value.split(":")[:2][-1:]):
        raise wrong("a volume such as data:/var/lib/data or /srv/data:/data:ro, absolute inside the container")
    return value


Published = Annotated[str, BeforeValidator(_published)]
Volume = Annotated[str, BeforeValidator(_volume)]
Variable = Annotated[str, matching(r"(?s)[A-Za-z_][A-Za-z0-9_.-]*(=.*)?", "a variable such as NAME=value")]
RestartRule = Annotated[
    str, matching("no|always|unless-stopped|on-failure(:[0-9]+)?", "no, always, unless-stopped or on-failure[:TIMES]")
]
ContainerName = Annotated[
    str,
    matching("[a-zA-Z0-9][a-zA-Z0-9_.-]*", "a name of letters, digits, `-`, `_` and `.`, a letter or a digit first"),
]


class Docker(Fields):
    """A container on the machine; one that is not absent has an image."""

    name: Annotated[ContainerName, CONTENT, Field(description="the name of the container")]
    state: Annotated[Literal["running", "stopped", "absent"], CONTENT, Field(description="whether it runs")] = "running"
    image: Annotated[Word | None, CONTENT, Field(description="the image it runs")] = None
    ports: Annotated[tuple[Published, ...], CONTENT, Field(description="published ports such as 8080:80")] = ()
    environment: Annotated[
        tuple[Variable, ...], CONTENT, Field(description="its environment variables, each NAME=value")
    ] = ()
    volumes: Annotated[tuple[Volume, ...], CONTENT, Field(description="what is mounted in it, each SOURCE:TARGET")] = ()
    restart: Annotated[RestartRule | None, CONTENT, Field(description="when it is started again")] = None
    command: Annotated[Text | None, CONTENT, Field(description="the command it runs, in place of the image's own")] = (
        None
    )
    description: Annotated[str, DOC, Field(description="a sentence for readers")] = ""

    @model_validator(mode="after")
    def _has_image(self) -> Docker:
        if self.image is None and self.state != "absent":
            raise wrong("given an `image`, or `state: absent`")
        return self
