"""The blocks of a manifest that are no resource: head, machine, policy, output, and what every resource takes. Declares fields only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from albor_pipeline.resources.fields import Bytes, Count, Fields, Flag, Text, parse_count, wrong


class Head(Fields):
    """The keys of a manifest that hold one value; `version` is the format's."""

    version: Literal["1.0"]
    name: Text
    description: str = ""


def host_address(value: Any) -> Any:
    """A host name or an address; no blanks."""
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

    gpu: Count | None = None
    cpu: Count | None = None
    memory: Bytes | None = None


class MachineFields(Fields):
    """A machine as declared."""

    addr: Annotated[str, BeforeValidator(host_address)]
    hostname: Text | None = None
    user: Text | None = None
    arch: Literal["x86_64", "aarch64", "armv7l", "riscv64", "s390x", "ppc64le"] = "x86_64"
    roles: tuple[Text, ...] = ()
    port: Annotated[int | None, BeforeValidator(_port)] = None
    workdir: Text | None = None
    slots: SlotFields | None = None
    env: Mapping[str, str] = Field(default_factory=dict)


class NotifyFields(Fields):
    """Commands that are told how a run ended."""

    on_success: Text | None = None
    on_failure: Text | None = None


class PolicyFields(Fields):
    """How a run behaves."""

    failure: Literal["stop_on_first", "continue_independent"] = "stop_on_first"
    parallel_machines: Flag = True
    parallel_resources: Flag = True
    max_parallel: Count | None = None
    pre_apply: Text | None = None
    post_apply: Text | None = None
    notify: NotifyFields = NotifyFields()


class OutputFields(Fields):
    """A value that the pipeline publishes."""

    value: str
    description: str = ""


def _one_or_more(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class CommonFields(Fields):
    """What every resource takes, whatever its type."""

    type: Text
    machine: Annotated[tuple[Text, ...], BeforeValidator(_one_or_more)] = ("localhost",)
    depends_on: tuple[Text, ...] = ()
    tags: tuple[Text, ...] = ()
