"""Docker: a container on the machine, by docker or podman. Makes agent operations; runs nothing.

A container cannot be changed after it was made: when something else than its state or its restart rule differs it is made afresh, once the
image is there. What image and engine bring (variables, the command) is not compared. Values of variables go in a file that only its owner
reads and that is gone afterwards; they are shown and recorded by digest.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from albor_pipeline.agent.layout import quote
from albor_pipeline.errors import ManifestError
from albor_pipeline.model.observed import Observation
from albor_pipeline.resources import engines
from albor_pipeline.resources.base import Brought, Convergent, Instance, Item, keyed, look, probe_error, sh
from albor_pipeline.resources.fields import CONTENT, DOC, Fields, Text, wrong
from albor_pipeline.resources.formats import LAST_PORT, ContainerName, Volume, Word, matching
from albor_pipeline.resources.shell import Script, join

PULL_TIMEOUT_S = 3600.0
MAX_VARIABLE_BYTES = 60_000  # the engine reads its file of variables by lines of at most 64 KiB
MAX_COMMAND = 100_000
NO_ENGINE = "none"
DOWN = "the engine does not run"

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


Published = Annotated[str, BeforeValidator(_published)]
Variable = Annotated[str, matching(r"(?s)[A-Za-z_][A-Za-z0-9_.-]*(=.*)?", "a variable such as NAME=value")]
RestartRule = Annotated[
    str, matching("no|always|unless-stopped|on-failure(:[0-9]+)?", "no, always, unless-stopped or on-failure[:TIMES]")
]


class Docker(Fields):
    """A container on the machine; one that is not absent has an image."""

    name: Annotated[ContainerName, CONTENT, Field(description="the name of the container")]
    state: Annotated[Literal["running", "stopped", "absent"], CONTENT, Field(description="whether it runs")] = "running"
    image: Annotated[Word | None, CONTENT, Field(description="the image it runs; pulled when it is not on the machine")] = None
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


class DockerKind(Convergent):
    """The kind `docker`: compared by what was asked of the engine when the container was made, so that a restart is no drift."""

    placed: ClassVar[tuple[str, ...]] = ("name",)
    name: ClassVar[str] = "docker"
    model: ClassVar[type[Fields]] = Docker
    precious: ClassVar[tuple[str, ...]] = ("image", "environment", "command", "volumes", "ports")

    def probes(self, one: Instance) -> list[Item]:
        """One look at the container, its image, and the image that its name means now."""
        return [look(_program(engines.LOOK, one.fields.name, one.fields.image or ""))]

    def observe(self, one: Instance, results: Sequence[Mapping[str, Any]]) -> Observation:
        """State, image, and what else it was made with."""
        seen = results[0] if results else {}
        said, out = str(seen.get("stderr", "")).strip(), str(seen.get("stdout", ""))
        if "exit" not in seen:
            return Observation(False, error=probe_error(seen))
        if out.strip() == NO_ENGINE or "no such container" in said.lower():
            return Observation(False, {"state": "absent"})
        if "annot connect to" in said:
            return Observation(False, {"state": DOWN})
        container = engines.read(out, _declared(one)) if seen["exit"] == 0 else None
        if container is None:
            return Observation(False, error=said.splitlines()[-1] if said else "the engine gave no answer that can be read")
        return Observation(True, _values(one, container))

    def wanted(self, one: Instance) -> Mapping[str, str]:
        """All that a container is made with, `none` for what is not declared; variables by keyed digest."""
        fields: Docker = one.fields
        return {"state": "absent"} if fields.state == "absent" else _values(one, _declared(one))

    def converge(self, one: Instance, observed: Observation) -> list[Item]:
        """Start, stop or another restart rule where that is all; else make it afresh."""
        fields: Docker = one.fields
        if fields.state == "absent":
            return self.remove(one)
        off = _off(self.wanted(one), observed)
        if _is_made(off, observed):
            return _make(one)
        commands = [_program(engines.UPDATE, fields.name, fields.restart or "no")] if "restart" in off else []
        if "state" in off:
            commands.append(_program(engines.START if fields.state == "running" else engines.STOP, fields.name))
        return [sh(*commands)] if commands else []

    def again(self, one: Instance, observed: Observation) -> list[Item]:
        """What differs; where nothing does, a restart of what is to run."""
        if operations := self.converge(one, observed):
            return operations
        return [sh(_program(engines.RESTART, one.fields.name))] if one.fields.state == "running" else []

    def remove(self, one: Instance) -> list[Item]:
        """The container; its image and its named volumes stay."""
        return [sh(_program(engines.REMOVE, one.fields.name))]

    def weighs(self, one: Instance, observed: Observation) -> list[Item]:
        """Whether the image of a container that is made is there."""
        makes = one.fields.state != "absent" and _is_made(_off(self.wanted(one), observed), observed)
        return [look(_program(engines.HAS, one.fields.image or ""))] if makes else []

    def brings(self, one: Instance, observed: Observation, results: Sequence[Mapping[str, Any]]) -> list[Brought]:
        """An image that is not there, whose size no engine tells before it is pulled."""
        return [Brought("", None)] if results and results[0].get("exit") != 0 else []


def _off(wanted: Mapping[str, str], observed: Observation) -> set[str]:
    return {name for name, value in wanted.items() if observed.values.get(name) != value}


def _is_made(off: set[str], observed: Observation) -> bool:
    """Whether the container is made afresh, as nothing less brings it to what is wanted."""
    return not observed.exists or bool(off - {"state", "restart"})


def _program(text: str, *words: str) -> Script:
    return join(["/bin/sh", "-c", text, "docker", *words])


def _declared(one: Instance) -> engines.Container:
    fields: Docker = one.fields
    return engines.Container(
        image=engines.reference(fields.image or ""),
        is_old=False,
        environment=_environment(one),
        command=_command(one),
        volumes=frozenset(map(engines.volume, fields.volumes)),
        ports=frozenset(each for item in fields.ports for each in engines.ports(item)),
        restart=(fields.restart or "no").removesuffix(":0"),
        state=fields.state,
    )


def _values(one: Instance, container: engines.Container) -> dict[str, str]:
    variables = [f"{name}={keyed(one, value)[:8]}" for name, value in sorted(container.environment.items())]
    return {
        "state": container.state,
        "image": f"{container.image}, as it was before it was pulled again" if container.is_old else container.image,
        "environment": ", ".join(variables) or "none",
        "command": "that of the image" if container.command is None else engines.words(container.command),
        "volumes": ", ".join(sorted(container.volumes)) or "none",
        "ports": ", ".join(sorted(container.ports)) or "none",
        "restart": container.restart,
    }


def _environment(one: Instance) -> dict[str, str]:
    variables = {}
    for item in one.fields.environment:
        name, given, value = item.partition("=")
        reason = ""
        if not given:
            reason = f"`{name}` has no value: write {name}=VALUE"
        elif "\n" in value or "\r" in value or "\0" in value:
            reason = f"`{name}` holds a line break or a NUL, which no file of variables can: put the text in a file and mount it"
        elif len(value.encode("utf-8", "surrogateescape")) > MAX_VARIABLE_BYTES:
            reason = f"`{name}` is longer than {MAX_VARIABLE_BYTES:,} bytes: put the text in a file and mount it"
        if reason:
            raise ManifestError.of("bad-variable", f"`{one.resource.id}`: {reason}", span=one.place("environment"))
        variables[name] = value
    return variables


def _command(one: Instance) -> list[str] | None:
    text = one.fields.command or ""
    reason = f"it is longer than {MAX_COMMAND:,} characters" if len(text) > MAX_COMMAND else ""
    try:
        words = [] if reason else shlex.split(text)
    except ValueError as error:
        reason = str(error).lower()
    if reason:
        message = f"the command of `{one.resource.id}` cannot be cut into words: {reason}"
        raise ManifestError.of("bad-command", message, span=one.place("command"))
    return words or None


def _make(one: Instance) -> list[Item]:
    fields: Docker = one.fields
    variables = _environment(one)
    file = f".albor/docker/{quote(one.resource.id)}" if variables else ""
    options = [word for item in fields.ports for word in ("-p", item)]
    options += [word for item in fields.volumes for word in ("-v", item)]
    options += ["--restart", fields.restart] if fields.restart else []
    image = str(fields.image)
    made = _program(engines.MAKE, fields.name, fields.state, image, file, *options, "--", image, *(_command(one) or ()))
    text = "".join(f"{name}={value}\n" for name, value in variables.items())
    put: Item = {"verb": "put", "path": file, "type": "file", "data": text.encode("utf-8", "surrogateescape"), "mode": "0600"}
    return [put, sh(made, timeout_s=PULL_TIMEOUT_S)] if variables else [sh(made, timeout_s=PULL_TIMEOUT_S)]
