"""The blocks of a manifest that are no resource: head, machine, policy, output, and what every resource takes. Declares fields only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from albor_pipeline.manifest.transports import ContainerFields, PepitaFields
from albor_pipeline.resources.fields import Bytes, Count, Fields, Flag, PathText, Seconds, Text, parse_count, wrong
from albor_pipeline.resources.formats import Port

MACHINE_SHOWN = ("addr", "hostname", "user", "arch", "roles", "port", "workdir", "slots", "env", "ssh_key", "transport")
POLICY_SHOWN = (
    "failure", "parallel_machines", "parallel_resources", "max_parallel", "pre_apply", "post_apply", "notify", "deny_paths",
)  # fmt: skip
Arch = Literal["x86_64", "aarch64", "armv7l", "riscv64", "s390x", "ppc64le"]


class Head(Fields):
    """The keys of a manifest that hold one value; `version` is the format's."""

    version: Literal["1.0"]
    name: Text
    description: str = ""


def _address(value: Any) -> Any:
    if isinstance(value, str) and (not value or any(letter.isspace() for letter in value)):
        raise wrong("a host name or an address without spaces")
    return value


class SlotFields(Fields):
    """What tasks may use at once on a machine; what is left out is what the machine says it has."""

    gpu: Count | None = None
    cpu: Count | None = None
    memory: Bytes | None = None


class MachineFields(Fields):
    """A machine as declared."""

    addr: Annotated[str, BeforeValidator(_address)]
    hostname: Text | None = None
    user: Text | None = None
    arch: Arch = "x86_64"
    roles: tuple[Text, ...] = ()
    port: Port | None = None
    workdir: Text | None = None
    slots: SlotFields | None = None
    env: Mapping[str, str] = Field(default_factory=dict)
    ssh_key: PathText | None = None
    transport: Literal["ssh", "local", "container", "pepita"] | None = None
    container: ContainerFields | None = None
    pepita: PepitaFields | None = None
    cost: Count = 0
    allowed_operators: tuple[Text, ...] = ()
    jump: Text | None = None
    options: Mapping[str, str] = Field(default_factory=dict)
    known_hosts: PathText | None = None
    become: Text | None = None

    @model_validator(mode="after")
    def _has_its_block(self) -> MachineFields:
        for name in ("container", "pepita"):
            if name in (self.transport, self.addr) and getattr(self, name) is None:
                raise wrong(f"given a block `{name}`, since that is how it is reached")
        return self


class NotifyFields(Fields):
    """Commands that are told how a run ended."""

    on_success: Text | None = None
    on_failure: Text | None = None
    on_drift: Text | None = None


class LogFields(Fields):
    """How much of the logs is kept."""

    keep_runs: Count = 10
    keep_failed: Count = 50
    max_log_size: Bytes = 10 << 20
    max_total_size: Bytes = 500 << 20


def _from_one(value: Any) -> Any:
    if parse_count(value) < 1:
        raise wrong("a whole number from 1")
    return value


def _percentage(value: Any) -> Any:
    if parse_count(value) > 100:
        raise wrong("a whole number from 0 to 100")
    return value


class PolicyFields(Fields):
    """How a run behaves."""

    failure: Literal["stop_on_first", "continue_independent"] = "stop_on_first"
    parallel_machines: Flag = True
    parallel_resources: Flag = True
    max_parallel: Count | None = None
    pre_apply: Text | None = None
    post_apply: Text | None = None
    notify: NotifyFields = NotifyFields()
    tripwire: Flag = True
    lock_file: Flag = True
    serial: Annotated[Count | None, BeforeValidator(_from_one)] = None
    max_fail_percentage: Annotated[Count | None, BeforeValidator(_percentage)] = None
    ssh_retries: Count = 1
    convergence_budget: Seconds | None = None
    snapshot_generations: Count | None = None
    security_gate: Literal["critical", "high", "medium", "low"] | None = None
    deny_paths: tuple[PathText, ...] = ()
    logs: LogFields = LogFields()


class OutputFields(Fields):
    """A value that the pipeline publishes."""

    value: str
    description: str = ""


def _one_or_more(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class LifecycleFields(Fields):
    """What may not happen to a resource, and which of its fields are not compared."""

    prevent_destroy: Flag = False
    create_before_destroy: Flag = False
    ignore_drift: tuple[Text, ...] = ()


class CommonFields(Fields):
    """What every resource takes, whatever its type."""

    type: Text
    machine: Annotated[tuple[Text, ...], BeforeValidator(_one_or_more)] = ("localhost",)
    depends_on: tuple[Text, ...] = ()
    tags: tuple[Text, ...] = ()
    resource_group: Text | None = None
    arch: tuple[Arch, ...] = ()
    triggers: tuple[Text, ...] = ()
    restart_on: tuple[Text, ...] = ()
    pre_apply: Text | None = None
    post_apply: Text | None = None
    sudo: Flag = False
    lifecycle: LifecycleFields = LifecycleFields()
    store: Flag = False
