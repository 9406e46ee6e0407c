"""Doctor: what would go wrong on a machine, found before a long run does. Takes no lease and no lock, changes nothing."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from albor_pipeline.model.manifest import Machine, Manifest
from albor_pipeline.resources.python_env import PythonEnv, interpreter
from albor_pipeline.resources.task import Task
from albor_pipeline.run.fleet import Fleet
from albor_pipeline.transport.client import AgentClient

FINE, WARNING, WRONG = "ok", "warning", "wrong"
SKEW_S = 2.0
LITTLE_DISK_BYTES = 10 << 30
SCRIPT_S = 20.0
CARDS = r"""
nvidia-smi 2>/dev/null | sed -n 's/.*Driver Version: *\([0-9.]*\).*CUDA Version: *\([0-9.]*\).*/nvidia \1 \2/p'
for card in /sys/class/drm/card[0-9] /sys/class/drm/card[0-9][0-9]; do
  [ "$(cat "$card/device/vendor" 2>/dev/null)" = 0x1002 ] && echo "amd $(cat "$card/device/product_name" 2>/dev/null)"
done
:
"""
BUILD = re.compile(r"\+cu(\d+)(\d)$")
RUNTIMES = ("nvidia-cuda-runtime", "nvidia-cuda-runtime-cu12", "nvidia-cuda-runtime-cu11")


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: how it stands, what was seen, and what to do where something is to be done."""

    what: str
    level: str
    text: str
    way: str = ""


def examine(manifest: Manifest, fleet: Fleet, name: str) -> list[Finding]:
    """Everything about one machine that was opened, or was tried to be. Raises UnreachableError when it stops answering."""
    agent = fleet.agents.get(name)
    if name in fleet.unmade:
        return [Finding("reached", WARNING, "its container is not there yet", "`apply` makes it")]
    if agent is None:
        return [Finding("reached", WRONG, fleet.errors.get(name, "it was not asked"), "; ".join(fleet.faults[name].notes))]
    machine, facts = manifest.machines[name], agent.hello
    pythons = _interpreters(manifest, machine)
    clock, round_trip_s = _clock(agent)
    items = [{"op": "sh", "script": CARDS, "timeout_s": SCRIPT_S}, *({"op": "python", "python": path} for path in pythons.values())]
    cards, *installed = agent.request("probe", items=items)["results"]
    driver, others = _cards(str(cards.get("stdout", "")))
    return [
        Finding("reached", FINE, f"{round_trip_s * 1000:.1f} ms, {facts['user']}@{facts['hostname']}, in {facts['workdir']}"),
        *_line(fleet, machine),
        *_direct(fleet, manifest, machine),
        Finding("system", FINE, f"{facts['platform']}, Python {facts['python']}"),
        *_folder(facts),
        clock,
        *_slots(machine, facts, agent),
        *_gpus(facts, driver, others),
        *(found for env, answer in zip(pythons, installed, strict=True) for found in torch(env, answer, driver, len(facts["gpus"]))),
        _logout(facts),
    ]


def _line(fleet: Fleet, machine: Machine) -> Iterator[Finding]:
    """Whether much data can go over the system's `ssh`."""
    if machine.container is not None:
        yield Finding("transfers", FINE, f"by {machine.container.runtime} exec")
    if not machine.by_ssh:
        return
    why = fleet.without_line(machine.name)
    if why:
        way = "install `ssh` here, or see why it cannot log in: albor-pipeline ssh " + machine.name
        yield Finding("transfers", WARNING, f"over paramiko, which is slower for much data; the system's `ssh`: {why}", way)
    else:
        yield Finding("transfers", FINE, "over the system's `ssh`")


def _direct(fleet: Fleet, manifest: Manifest, machine: Machine) -> Iterator[Finding]:
    """Whether a machine that may reach others by itself gets through to them."""
    for other in manifest.machines.values() if machine.may_reach else ():
        if other.name == machine.name or not other.by_ssh or other.name not in fleet.agents:
            continue
        why = fleet.without_way(machine.name, other.name)
        if why:
            way = f"let {other.name} take a key that {machine.name} {'or the ssh-agent here ' if machine.forward_agent else ''}has"
            yield Finding("direct", WARNING, f"to {other.name} only through here: {why}", way)
        else:
            yield Finding("direct", FINE, f"to {other.name} without a way through here")


def _interpreters(manifest: Manifest, machine: Machine) -> dict[str, str | None]:
    """The interpreters that tasks and environments of a machine use, by what the manifest calls them; None is the agent's own."""
    found: dict[str, str | None] = {}
    for resource in manifest.resources.values():
        if machine.name not in resource.machines:
            continue
        fields = resource.fields_on(machine.name)
        if isinstance(fields, PythonEnv):
            found[resource.id] = interpreter(fields)
        elif isinstance(fields, Task) and fields.python is not None and fields.python not in manifest.resources:
            found[fields.python] = fields.python
        elif isinstance(fields, Task) and fields.stage is not None and fields.python is None:
            found["the agent's Python"] = None
    return found


def _clock(agent: AgentClient) -> tuple[Finding, float]:
    """How far its clock is from ours, as exactly as one round trip tells; and how long one takes."""
    began = time.monotonic()
    agent.request("probe", items=[])
    round_trip_s = time.monotonic() - began
    before = time.time()
    answer = agent.request("probe", items=[{"op": "sh", "script": "date +%s.%N", "timeout_s": SCRIPT_S}])["results"][0]
    after = time.time()
    try:
        ahead = float(answer["stdout"]) - (before + after) / 2
    except (KeyError, ValueError):
        return Finding("clock", WARNING, "`date` does not tell its time"), round_trip_s
    if abs(ahead) - (after - before) / 2 <= SKEW_S:
        return Finding("clock", FINE, "as ours"), round_trip_s
    text = f"{abs(ahead):,.0f} s {'ahead of' if ahead > 0 else 'behind'} ours: no decision compares them, but logs will be hard to read"
    return Finding("clock", WARNING, text, "let it keep time: timedatectl set-ntp true"), round_trip_s


def _folder(facts: Mapping[str, Any]) -> Iterator[Finding]:
    free = int(facts["disk_free_bytes"])
    text = f"{free / 1e9:,.0f} GB free in the working directory"
    yield Finding("disk", WARNING if free < LITTLE_DISK_BYTES else FINE, text, "free some: store gc" if free < LITTLE_DISK_BYTES else "")
    if facts["network_fs"]:
        way = "give the machine a `workdir` on a disk of its own"
        yield Finding("disk", WRONG, "the working directory is on a network file system, where no attempt is started", way)


def _slots(machine: Machine, facts: Mapping[str, Any], agent: AgentClient) -> Iterator[Finding]:
    has = {"gpu": len(facts["gpus"]), "cpu": int(facts["cpus"]), "memory_bytes": int(facts["memory_bytes"])}
    total = {**has, **machine.slots}
    text = f"{total['cpu']} CPUs, {total['memory_bytes'] / 1e9:,.0f} GB of memory, {total['gpu']} GPUs"
    declared = [f"{kind} {machine.slots[kind]}, found {has[kind]}" for kind in has if machine.slots.get(kind, 0) > has[kind]]
    if declared:
        yield Finding("slots", WARNING, f"`slots` says more than there is: {', '.join(declared)}", "declare what there is, or leave it out")
    held = agent.request("slots", wants=[{"needs": total, "total": total}])["missing"][0]
    yield Finding("slots", FINE, f"{text}; {held}" if held else f"{text}; all free")


def _cards(said: str) -> tuple[tuple[str, str] | None, list[str]]:
    """The NVIDIA driver with the CUDA that it speaks, and the names of AMD cards."""
    lines = [line.split(maxsplit=1) for line in said.splitlines() if line.strip()]
    drivers = [words[1].split() for words in lines if words[0] == "nvidia" and len(words) > 1]
    driver = (drivers[0][0], drivers[0][1]) if drivers and len(drivers[0]) == 2 else None
    return driver, [words[1] if len(words) > 1 else "AMD card" for words in lines if words[0] == "amd"]


def _gpus(facts: Mapping[str, Any], driver: tuple[str, str] | None, others: list[str]) -> Iterator[Finding]:
    names = [str(name).partition(" (UUID")[0] for name in facts["gpus"]]
    told = f"; driver {driver[0]}, CUDA {driver[1]}" if driver is not None else ""
    if names and driver is None:
        yield Finding("gpu", WARNING, f"{', '.join(names)}, but nvidia-smi says nothing of a driver", "install or reload the NVIDIA driver")
    else:
        yield Finding("gpu", FINE, f"{', '.join(names) or ('no NVIDIA card' if others else 'no GPU')}{told}")
    for name in others:
        yield Finding("gpu", FINE, f"{name} (AMD: declare it in `slots`, it is not counted by itself)")


def torch(env: str, answer: Mapping[str, Any], driver: tuple[str, str] | None, gpus: int) -> Iterator[Finding]:
    """Whether the torch of an interpreter fits the driver; an older minor version of the same CUDA major works (CUDA 11 on)."""
    if answer.get("error"):
        why = answer["error"].get("message", "it does not answer")
        yield Finding("python", WARNING, f"{env}: {why}", "`apply` makes what is declared as python_env")
        return
    dists = answer.get("dists") or {}
    version = dists.get("torch")
    if version is None:
        return
    wants = _cuda_of(str(version), dists)
    text = f"torch {version} in {env}"
    if wants is None:
        way = "install one that is built for CUDA"
        yield Finding("torch", WARNING, f"{text} uses no GPU", way) if gpus else Finding("torch", FINE, text)
    elif driver is None:
        yield Finding("torch", WARNING if gpus else FINE, f"{text} is built for CUDA {wants}; no driver is there")
    elif int(wants.split(".")[0]) > int(driver[1].split(".")[0]):
        way = f"install a newer driver, or a torch for CUDA {driver[1].split('.')[0]}"
        yield Finding("torch", WRONG, f"{text} is built for CUDA {wants}; driver {driver[0]} speaks only {driver[1]}", way)
    else:
        yield Finding("torch", FINE, f"{text} is built for CUDA {wants}, which the driver speaks")


def _cuda_of(version: str, dists: Mapping[str, Any]) -> str | None:
    build = BUILD.search(version)
    if build is not None:
        return f"{build[1]}.{build[2]}"
    if "+" in version:
        return None
    runtime = next((str(dists[name]) for name in RUNTIMES if name in dists), None)
    return ".".join(runtime.split(".")[:2]) if runtime is not None else None


def _logout(facts: Mapping[str, Any]) -> Finding:
    if facts["logout_kills"]:
        return Finding("logout", WARNING, "ends what runs: the system kills a user's processes", f"loginctl enable-linger {facts['user']}")
    return Finding("logout", FINE, "attempts outlive it")
