"""The blocks of a manifest that are no resource: head, machine, policy, output, and what every resource takes. Declares fields only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from albor_pipeline.resources.fields import Bytes, Count, Fields, Flag, Text, parse_count, wrong


class Head(Fields):
    """The keys of a manifest that hold one value; `version` is the format's."""

    version: Annotated[Literal["1.0"], Field(description="the version of the format")]
    name: Annotated[Text, Field(description="the name of the pipeline, which its state belongs to")]
    description: Annotated[str, Field(description="a sentence for readers")] = ""


def _address(value: Any) -> Any:
    if isinstance(value, str) and (not value or any(letter.isspace() for letter in value)):
        raise wrong("a host name or an address without spaces")
    return value


def _port(value: Any) -> int:
    try:
        port = parse_count(value)
    except ValueError:
        port = 0
    if not 1 <= port <= 65535:
        raise wrong("a port from 1 to 65535")
    return port


class SlotFields(Fields):
    """What tasks may use at once on a machine; what is left out is what the machine says it has."""

    gpu: Annotated[Count | None, Field(description="graphics cards")] = None
    cpu: Annotated[Count | None, Field(description="processor cores")] = None
    memory: Annotated[Bytes | None, Field(description="main memory")] = None


class MachineFields(Fields):
    """A machine as declared."""

    addr: Annotated[
        str, BeforeValidator(_address, json_schema_input_type=Text),
        Field(description="its host name or address; localhost is this machine"),
    ]
    hostname: Annotated[Text | None, Field(description="the name it gives itself")] = None
    user: Annotated[Text | None, Field(description="the account to log in with")] = None
    arch: Annotated[
        Literal["x86_64", "aarch64", "armv7l", "riscv64", "s390x", "ppc64le"],
        Field(description="its processor architecture"),
    ] = "x86_64"
    roles: Annotated[tuple[Text, ...], Field(description="words for what it is used for")] = ()
    port: Annotated[
        int | None, BeforeValidator(_port, json_schema_input_type=Count), Field(description="the port of its SSH server")
    ] = None
    workdir: Annotated[Text | None, Field(description="the folder on it that all relative paths start from")] = None
    slots: Annotated[SlotFields | None, Field(description="what tasks may use of it at once")] = None
    env: Annotated[Mapping[str, str], Field(description="environment variables of every task on it")] = Field(default_factory=dict)


class NotifyFields(Fields):
    """Commands that are told how a run ended."""

    on_success: Annotated[Text | None, Field(description="a shell command after a run in which everything succeeded")] = None
    on_failure: Annotated[Text | None, Field(description="a shell command after a run in which something failed")] = None


class PolicyFields(Fields):
    """How a run behaves."""

    failure: Annotated[
        Literal["stop_on_first", "continue_independent"],
        Field(description="whether the first failure ends the run, or what does not depend on it goes on"),
    ] = "stop_on_first"
    parallel_machines: Annotated[Flag, Field(description="whether machines work at the same time")] = True
    parallel_resources: Annotated[Flag, Field(description="whether resources of one machine are worked on at the same time")] = True
    max_parallel: Annotated[Count | None, Field(description="how many resources are worked on at once")] = None
    pre_apply: Annotated[Text | None, Field(description="a shell command before the run; when it fails nothing starts")] = None
    post_apply: Annotated[Text | None, Field(description="a shell command after a run in which everything succeeded")] = None
    notify: Annotated[NotifyFields, Field(description="shell commands that are told how a run ended")] = NotifyFields()


class OutputFields(Fields):
    """A value that the pipeline publishes."""

    value: Annotated[str, Field(description="the text that is published")]
    description: Annotated[str, Field(description="a sentence for readers")] = ""


def _one_or_more(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class CommonFields(Fields):
    """What every resource takes, whatever its type."""

    type: Annotated[Text, Field(description="what kind of thing it is")]
    machine: Annotated[
        tuple[Text, ...], BeforeValidator(_one_or_more, json_schema_input_type=Text | tuple[Text, ...]),
        Field(description="the machine it is on, or a list of machines for a copy on each"),
    ] = ("localhost",)
    depends_on: Annotated[tuple[Text, ...], Field(description="the resources that come before it")] = ()
    tags: Annotated[tuple[Text, ...], Field(description="words to select it by")] = ()
