"""The blocks of a manifest that are no resource: head, machine, policy, output, and what every resource takes. Declares fields only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from albor_pipeline.manifest.transports import ContainerFields, PepitaFields
from albor_pipeline.resources.fields import (
    Bytes,
    Count,
    Fields,
    Flag,
    PathText,
    Positive,
    Seconds,
    Text,
    Variables,
    parse_count,
    wrong,
)
from albor_pipeline.resources.formats import Port

MACHINE_SHOWN = ("addr", "hostname", "user", "arch", "roles", "port", "workdir", "slots", "env", "ssh_key", "transport")
POLICY_SHOWN = (
    "failure", "parallel_machines", "parallel_resources", "max_parallel", "pre_apply", "post_apply", "notify", "deny_paths",
)  # fmt: skip
OF_SSH = ("port", "ssh_key", "jump", "direct", "forward_agent", "known_hosts")
Arch = Literal["x86_64", "aarch64", "armv7l", "riscv64", "s390x", "ppc64le"]


class Head(Fields):
    """The keys of a manifest that hold one value; `version` is the format's."""

    version: Annotated[Literal["1.0"], Field(description="the version of the format")]
    name: Annotated[Text, Field(description="the name of the pipeline, which its state belongs to")]
    description: Annotated[str, Field(description="a sentence for readers")] = ""


def host_address(value: Any) -> Any:
    """A host name or an address; no blanks."""
    if isinstance(value, str) and (not value or any(letter.isspace() for letter in value)):
        raise wrong("a host name or an address without spaces")
    return value


class SlotFields(Fields):
    """What tasks may use at once on a machine; what is left out is what the machine says it has."""

    gpu: Annotated[Count | None, Field(description="graphics cards")] = None
    cpu: Annotated[Count | None, Field(description="processor cores")] = None
    memory: Annotated[Bytes | None, Field(description="main memory")] = None


class MachineFields(Fields):
    """A machine as declared."""

    addr: Annotated[
        str, BeforeValidator(host_address, json_schema_input_type=Text),
        Field(description="its host name or address; localhost is this machine"),
    ]
    hostname: Annotated[Text | None, Field(description="the name it gives itself")] = None
    user: Annotated[Text | None, Field(description="the account to log in with")] = None
    arch: Annotated[Arch, Field(description="its processor architecture")] = "x86_64"
    roles: Annotated[tuple[Text, ...], Field(description="words for what it is used for")] = ()
    port: Annotated[Port | None, Field(description="the port of its SSH server")] = None
    workdir: Annotated[Text | None, Field(description="the folder on it that all relative paths start from")] = None
    slots: Annotated[SlotFields | None, Field(description="what tasks may use of it at once")] = None
    env: Annotated[Variables, Field(description="environment variables of every task on it")] = Field(default_factory=dict)
    ssh_key: Annotated[PathText | None, Field(description="the private key to log in with")] = None
    transport: Annotated[
        Literal["ssh", "local", "container", "pepita"] | None,
        Field(description="how it is reached; the address says it when this is left out"),
    ] = None
    container: Annotated[ContainerFields | None, Field(description="the container that the machine is")] = None
    pepita: Annotated[PepitaFields | None, Field(description="the isolated place that the machine is")] = None
    cost: Annotated[Count, Field(description="machines of a lower cost are worked on first")] = 0
    allowed_operators: Annotated[
        tuple[Text, ...], Field(description="who may change it; everybody when nobody is named")
    ] = ()
    jump: Annotated[Text | None, Field(description="the host to reach it through")] = None
    direct: Annotated[
        Flag, Field(description="whether it may log in at other machines by itself, with a key that it has, to send them artifacts")
    ] = False
    forward_agent: Annotated[
        Flag, Field(description="whether it may do that with the keys of this controller's ssh-agent, which it then can use")
    ] = False
    options: Annotated[Mapping[str, str], Field(description="further options of the SSH connection")] = Field(
        default_factory=dict
    )
    known_hosts: Annotated[PathText | None, Field(description="the file of known host keys")] = None
    become: Annotated[Text | None, Field(description="the account to act as")] = None

    @model_validator(mode="after")
    def _has_its_block(self) -> MachineFields:
        for name in ("container", "pepita"):
            if self.reached_by == name and getattr(self, name) is None:
                raise wrong(f"given a block `{name}`, since that is how it is reached")
        if self.container is not None and self.reached_by != "container":
            raise wrong("given `transport: container`, since it has a block `container`")
        if self.container is not None and (found := [name for name in OF_SSH if getattr(self, name)]):
            raise wrong(f"without `{found[0]}`: a container is reached without SSH")
        return self

    @property
    def reached_by(self) -> str:
        """`container`, `pepita`, or what the address means."""
        return self.transport or self.addr


class NotifyFields(Fields):
    """Commands that are told how a run ended."""

    on_success: Annotated[Text | None, Field(description="a shell command after a run in which everything succeeded")] = None
    on_failure: Annotated[Text | None, Field(description="a shell command after a run in which something failed")] = None
    on_drift: Annotated[Text | None, Field(description="a shell command after drift was found")] = None


class LogFields(Fields):
    """How much of the logs is kept."""

    keep_runs: Annotated[Count, Field(description="how many runs")] = 10
    keep_failed: Annotated[Count, Field(description="how many failed runs")] = 50
    max_log_size: Annotated[Bytes, Field(description="the size of one log")] = 10 << 20
    max_total_size: Annotated[Bytes, Field(description="the size of all logs of a machine")] = 500 << 20


def _percentage(value: Any) -> Any:
    if parse_count(value) > 100:
        raise wrong("a whole number from 0 to 100")
    return value


class PolicyFields(Fields):
    """How a run behaves."""

    failure: Annotated[
        Literal["stop_on_first", "continue_independent"],
        Field(description="whether the first failure ends the run, or what does not depend on it goes on"),
    ] = "stop_on_first"
    unreachable: Annotated[
        Literal["fail", "hold"],
        Field(description="whether a resource whose machine does not answer counts as failed, or waits for the next run"),
    ] = "hold"
    drift: Annotated[
        Literal["heal", "report", "fail"],
        Field(description="whether a run mends what changed behind its back, tells of it and leaves it, or does not begin"),
    ] = "heal"
    parallel_machines: Annotated[Flag, Field(description="whether machines work at the same time")] = True
    parallel_resources: Annotated[Flag, Field(description="whether resources of one machine are worked on at the same time")] = True
    max_parallel: Annotated[Positive | None, Field(description="how many resources are worked on at once")] = None
    pre_apply: Annotated[Text | None, Field(description="a shell command before the run; when it fails nothing starts")] = None
    post_apply: Annotated[Text | None, Field(description="a shell command after a run in which everything succeeded")] = None
    notify: Annotated[NotifyFields, Field(description="shell commands that are told how a run ended")] = NotifyFields()
    tripwire: Annotated[
        Flag, Field(description="whether every transition is recorded and drift is looked for first")
    ] = True
    lock_file: Annotated[Flag, Field(description="whether the result is recorded")] = True
    serial: Annotated[
        Positive | None, Field(description="how many machines are worked on in one batch")
    ] = None
    max_fail_percentage: Annotated[
        Count | None,
        BeforeValidator(_percentage, json_schema_input_type=Count),
        Field(description="the share of failures in a batch that ends the run"),
    ] = None
    ssh_retries: Annotated[
        Count | None,
        Field(description="how often a connection is tried, 1 to 4 times; else as the SSH configuration's `ConnectionAttempts` says"),
    ] = None
    convergence_budget: Annotated[Seconds | None, Field(description="the time that a run may take")] = None
    snapshot_generations: Annotated[Count | None, Field(description="how many earlier states are kept")] = None
    security_gate: Annotated[
        Literal["critical", "high", "medium", "low"] | None,
        Field(description="the severity of findings that stops a run"),
    ] = None
    deny_paths: Annotated[
        tuple[PathText, ...], Field(description="paths that no resource may write: `*` within a folder, `**` below it")
    ] = ()
    logs: Annotated[LogFields, Field(description="how much of the logs is kept")] = LogFields()


class OutputFields(Fields):
    """A value that the pipeline publishes."""

    value: Annotated[str, Field(description="the text that is published")]
    description: Annotated[str, Field(description="a sentence for readers")] = ""


def _one_or_more(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class LifecycleFields(Fields):
    """What may not happen to a resource, and which of its fields are not compared."""

    prevent_destroy: Annotated[Flag, Field(description="true when it may never be destroyed")] = False
    create_before_destroy: Annotated[
        Flag, Field(description="whether the new one is there before the old one goes")
    ] = False
    ignore_drift: Annotated[tuple[Text, ...], Field(description="fields that are not compared")] = ()


class CommonFields(Fields):
    """What every resource takes, whatever its type."""

    type: Annotated[Text, Field(description="what kind of thing it is")]
    machine: Annotated[
        tuple[Text, ...], BeforeValidator(_one_or_more, json_schema_input_type=Text | tuple[Text, ...]),
        Field(description="the machine it is on, or a list of machines for a copy on each"),
    ] = ("localhost",)
    depends_on: Annotated[tuple[Text, ...], Field(description="the resources that come before it")] = ()
    tags: Annotated[tuple[Text, ...], Field(description="words to select it by")] = ()
    resource_group: Annotated[Text | None, Field(description="a word to select it by")] = None
    arch: Annotated[
        tuple[Arch, ...], Field(description="the architectures of the machines it is for; all when none is named")
    ] = ()
    triggers: Annotated[tuple[Text, ...], Field(description="resources whose change means that it is done again")] = ()
    restart_on: Annotated[tuple[Text, ...], Field(description="resources whose change restarts the service")] = ()
    pre_apply: Annotated[Text | None, Field(description="a shell command on the machine before it")] = None
    post_apply: Annotated[Text | None, Field(description="a shell command on the machine after it")] = None
    sudo: Annotated[Flag, Field(description="whether it is done as root")] = False
    lifecycle: Annotated[LifecycleFields, Field(description="what may not happen to it")] = LifecycleFields()
    store: Annotated[Flag, Field(description="whether its outputs are kept even where that takes copies over 1 GiB")] = False
