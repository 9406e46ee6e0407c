"""Manifest: the validated declaration, immutable; every value remembers where it stands. Knows no YAML."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from albor_pipeline.errors import Diagnostic, Span
from albor_pipeline.model.resource import Resource
from albor_pipeline.model.state import lineage_label

LOCAL_ADDRESSES = ("localhost", "127.0.0.1", "::1")
AGE = re.compile(r"ENC\[age,([A-Za-z0-9+/=]{20,})\]")
SECRET = re.compile("\u27e6secret ([^\u27e6\u27e7]*)\u27e7")
ENDED = ("machine", "converged", "unchanged", "failed")
TOLD = {"on_success": ENDED, "on_failure": ENDED, "on_drift": ("machine", "drift_count")}


def project_root(path: Path) -> Path:
    """The project folder of a manifest: its own folder, or the one above when that is called `manifests`."""
    folder = path.absolute().parent
    return folder.parent if folder.name == "manifests" else folder


def secret_mark(name: str) -> str:
    """What stands in a field for a secret, in everything that is shown, compared or written."""
    return f"\u27e6secret {name}\u27e7"


def told_mark(word: str) -> str:
    """What stands in a notice for what is known when it is given, as how many failed."""
    return f"\u27e6{word}\u27e7"


@dataclass(frozen=True)
class Slots:
    """What a machine can give to tasks at once, or what a task needs: GPUs, CPUs, bytes of memory; the one card that a task names."""

    gpu: int = 0
    cpu: int = 0
    memory_bytes: int = 0
    gpu_device: int | None = None


@dataclass(frozen=True)
class Container:
    """The container that a machine is, on this one: the program that runs it, its name, and what it is made with.

    One that is `ephemeral` goes with `destroy`.
    """

    runtime: str
    name: str
    image: str | None = None
    ephemeral: bool = True
    privileged: bool = False
    init: bool = True
    gpus: str | None = None
    devices: tuple[str, ...] = ()
    group_add: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    volumes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Machine:
    """A machine by name; `workdir` None means the project folder (local) or the home folder's copy (remote).

    `slots` holds only what is declared (gpu, cpu, memory_bytes); for the rest what the machine says it has counts.
    `connects` is how often a connection is tried, None as the SSH configuration says; a `container` is reached without SSH.
    `not_yet` is what is declared and has no effect in this version: a plan that needs the machine is refused with it.
    """

    name: str
    addr: str
    hostname: str
    user: str | None = None
    arch: str = "x86_64"
    workdir: str | None = None
    slots: Mapping[str, int] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    port: int | None = None
    ssh_key: str | None = None
    jump: str | None = None
    known_hosts: str | None = None
    transport: str | None = None
    container: Container | None = None
    direct: bool = False
    forward_agent: bool = False
    connects: int | None = None
    roles: tuple[str, ...] = ()
    span: Span | None = None
    not_yet: tuple[Diagnostic, ...] = field(default=(), repr=False)

    @property
    def is_local(self) -> bool:
        return self.transport == "local" or (self.transport is None and self.addr in LOCAL_ADDRESSES)

    @property
    def by_ssh(self) -> bool:
        """Whether it is another machine, with a server to log in at."""
        return not self.is_local and self.container is None

    @property
    def may_reach(self) -> bool:
        """Whether it may log in at other machines by itself, by a key that it has or by those of our agent."""
        return (self.direct or self.forward_agent) and self.by_ssh


@dataclass(frozen=True)
class Policy:
    """How a run behaves; nothing here is part of a fingerprint. `spans` place each value, `not_yet` is as of a machine."""

    stop_on_first: bool = True
    fails_unreachable: bool = False
    max_parallel: int | None = None
    drift: str = "heal"
    connects: int | None = None
    pre_apply: str | None = None
    post_apply: str | None = None
    on_success: str | None = None
    on_failure: str | None = None
    on_drift: str | None = None
    deny_paths: tuple[str, ...] = ()
    not_yet: tuple[Diagnostic, ...] = field(default=(), repr=False)
    spans: Mapping[str, Span] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class Output:
    """A named value that the pipeline publishes after a fully successful apply."""

    name: str
    value: str
    description: str = ""
    span: Span | None = None


@dataclass(frozen=True)
class DataSource:
    """A value that the controller reads when a plan is made; `default` is taken when it cannot be read. `at` places `value`.

    `config` is the name of the pipeline whose outputs they are.
    """

    name: str
    type: str
    value: str = ""
    default: str | None = None
    state_dir: str = "state"
    outputs: tuple[str, ...] = ()
    config: str | None = None
    span: Span | None = None
    at: Span | None = None


@dataclass(frozen=True)
class SecretSource:
    """Where secrets come from, and the names that templates use, with the first place of each. Holds no value."""

    provider: str = "env"
    path: str | None = None
    file: str | None = None
    span: Span | None = None
    names: Mapping[str, Span] = field(default_factory=dict)


@dataclass(frozen=True)
class Check:
    """A command that must end with `expect_exit` on its machine after a fully successful apply; one that does not only warns.

    `at` places the command.
    """

    name: str
    machine: str
    command: str
    expect_exit: int = 0
    description: str = ""
    span: Span | None = None
    at: Span | None = None


@dataclass(frozen=True)
class Moved:
    """A resource or a machine (`what`) that had the name `before` and is called `to` now."""

    before: str
    to: str
    what: str
    span: Span | None = None


@dataclass(frozen=True)
class Manifest:
    """Everything one manifest declares; `root` is the project folder that all relative paths start from.

    `files` are those that it was read from or looked for in, `environ` the variables that its templates asked for.
    """

    name: str
    path: str
    root: str
    machines: Mapping[str, Machine]
    resources: Mapping[str, Resource]
    policy: Policy = Policy()
    params: Mapping[str, str] = field(default_factory=dict)
    outputs: tuple[Output, ...] = ()
    description: str = ""
    warnings: tuple[Diagnostic, ...] = ()
    environment: str | None = None
    secrets: SecretSource = SecretSource()
    checks: tuple[Check, ...] = ()
    data: tuple[DataSource, ...] = ()
    moved: tuple[Moved, ...] = ()
    files: tuple[str, ...] = ()
    environ: frozenset[str] = frozenset()

    @property
    def pipeline(self) -> str:
        """What a state folder belongs to: the name, and the environment where one was chosen."""
        return f"{self.name} ({self.environment})" if self.environment else self.name

    def continues(self, lineage: str) -> bool:
        """Whether a lineage that a machine remembers is one of this pipeline in the chosen environment."""
        return lineage.partition("-")[0] == lineage_label(self.pipeline)
