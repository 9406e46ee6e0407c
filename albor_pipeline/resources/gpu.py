"""Gpu: the driver and the toolkit of the machine's graphics cards, and their settings. Makes agent operations; reboots nothing.

The version of a driver counts as far as it is declared: `550` is any 550. What a new driver still needs (a reboot, so that the
kernel runs it) is a state of its own, which no operation takes away: applying it fails with what to do.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from albor_pipeline.agent.gpulimits import file_of
from albor_pipeline.model.observed import Observation
from albor_pipeline.resources import drivers, package_apt
from albor_pipeline.resources.base import Brought, Convergent, Instance, Item, look, probe_error, sh
from albor_pipeline.resources.cards import PROBE, Cards, as_wanted
from albor_pipeline.resources.fields import CONTENT, DOC, Count, Fields, Flag, Positive, Text, wrong
from albor_pipeline.resources.formats import matching
from albor_pipeline.resources.package_manager import output
from albor_pipeline.resources.shell import Script, join

LOOK_TIMEOUT_S = 30.0
INSTALL_TIMEOUT_S = 3600.0
PRESENT = {"state": "present"}
OF_NVIDIA = ("cuda_version", "compute_mode", "persistence_mode")
OF_ROCM = ("rocm_version",)
Version = Annotated[str, matching(r"[A-Za-z0-9_.+~:-]{0,99}", "a version: letters, digits, `.`, `_`, `+`, `~`, `:` and `-`; empty for any")]


class Gpu(Fields):
    """The driver and the toolkit of the graphics cards, and their settings."""

    driver_version: Annotated[Version, CONTENT, Field(description="the version of the driver, or the beginning of it; empty for any")]
    state: Annotated[Literal["present", "absent"], CONTENT, Field(description="whether they are installed")] = "present"
    name: Annotated[Text | None, DOC, Field(description="a name for readers")] = None
    gpu_backend: Annotated[
        Literal["nvidia", "rocm", "cpu"], CONTENT,
        Field(description="the maker's software stack; with `cpu` nothing is needed and nothing is done"),
    ] = "nvidia"
    cuda_version: Annotated[
        Version | None, CONTENT, Field(description="of nvidia: the version of the CUDA toolkit, or the beginning of it")
    ] = None
    rocm_version: Annotated[Version | None, CONTENT, Field(description="of rocm: the version of ROCm, or the beginning of it")] = None
    devices: Annotated[
        tuple[Count, ...], CONTENT, Field(description="the cards that must be there and that the settings are for; all when none is named")
    ] = ()
    persistence_mode: Annotated[
        Flag, CONTENT, Field(description="of nvidia: whether the driver stays loaded; amdgpu always does")
    ] = True
    compute_mode: Annotated[
        Literal["default", "exclusive_process", "prohibited"] | None, CONTENT,
        Field(description="of nvidia: who may compute on a card at once"),
    ] = None
    gpu_memory_limit_mb: Annotated[
        Positive | None, CONTENT,
        Field(description="what a task may use of a card, in MiB: told to tasks as ALBOR_GPU_MEMORY_LIMIT_MB; stages keep to it"),
    ] = None
    description: Annotated[str, DOC, Field(description="a sentence for readers")] = ""

    @model_validator(mode="after")
    def _fitting(self) -> Gpu:
        if self.gpu_backend == "cpu":
            return self
        other = OF_ROCM if self.gpu_backend == "nvidia" else OF_NVIDIA
        if given := [f"`{name}`" for name in other if getattr(self, name) not in ("", type(self).model_fields[name].default)]:
            maker = "rocm" if self.gpu_backend == "nvidia" else "nvidia"
            raise wrong(f"given without {', '.join(given)}, or with `gpu_backend: {maker}`, which alone has that")
        return self


class GpuKind(Convergent):
    """The kind `gpu`: drivers by the machine's own package manager, settings by the driver's own program."""

    name: ClassVar[str] = "gpu"
    model: ClassVar[type[Fields]] = Gpu
    exclusive: ClassVar[str] = "apt"

    def probes(self, one: Instance) -> list[Item]:
        """One look for all gpu resources of a machine; where nothing is needed, only that there is a machine."""
        return [{"op": "stat", "path": "/"}] if one.fields.gpu_backend == "cpu" else [look(_program(PROBE), timeout_s=LOOK_TIMEOUT_S)]

    def observe(self, one: Instance, results: Sequence[Mapping[str, Any]]) -> Observation:
        """State, versions as far as they are as wanted, and the settings of the cards that are meant."""
        fields: Gpu = one.fields
        seen = results[0] if results else {}
        if fields.gpu_backend == "cpu":
            there = bool(seen.get("found"))
            return Observation(there, {"state": fields.state} if there else {}, None if there else probe_error(seen))
        if seen.get("timed_out"):
            return Observation(False, error=f"the driver did not answer in {LOOK_TIMEOUT_S:.0f} s")
        if not isinstance(seen.get("stdout"), str) or not (cards := Cards.of(seen["stdout"])).complete:
            return Observation(False, error=probe_error(seen))
        found = _nvidia(fields, cards) if fields.gpu_backend == "nvidia" else _rocm(fields, cards)
        found["gpu_memory_limit_mb"] = _limit_found(cards.limits.get(file_of(one.resource.id)), fields)
        return Observation(found["state"] != "absent", {name: found[name] for name in {**PRESENT, **self.wanted(one)} if name in found})

    def wanted(self, one: Instance) -> Mapping[str, str]:
        """What is declared and is of the backend; the limit of the memory always, so that one that is dropped goes."""
        fields: Gpu = one.fields
        if fields.state == "absent" or fields.gpu_backend == "cpu":
            return {"state": fields.state}
        limit = fields.gpu_memory_limit_mb
        values = {**PRESENT, "gpu_memory_limit_mb": "none" if limit is None else str(limit)}
        if fields.driver_version:
            values["driver_version"] = fields.driver_version
        if fields.devices:
            values["devices"] = _listed(fields.devices)
        if fields.gpu_backend == "rocm":
            return values | ({"rocm_version": fields.rocm_version} if fields.rocm_version else {})
        if fields.cuda_version:
            values["cuda_version"] = fields.cuda_version
        values["persistence_mode"] = str(fields.persistence_mode).lower()
        return values | ({"compute_mode": fields.compute_mode} if fields.compute_mode else {})

    def converge(self, one: Instance, observed: Observation) -> list[Item]:
        """Driver, toolkit, settings, limit: each only where it differs. A driver that waits for a reboot fails with that."""
        fields: Gpu = one.fields
        wanted, found = self.wanted(one), observed.values
        if fields.gpu_backend == "cpu":
            return []
        if fields.state == "absent":
            return self.remove(one)
        state = found.get("state", "absent")
        if state.startswith("needs a reboot"):
            return [sh(_program(drivers.REFUSE, f"the driver {state}; nothing here reboots a machine: do it, then apply again"))]
        off = {name for name, value in wanted.items() if found.get(name) != value}
        operations = []
        for name, want in self._lacking(one, observed).items():
            operations += [_install(want), *([_check(fields.gpu_backend)] if name == "driver_version" else [])]
        settings = _settings(fields, off)
        operations += [sh(*settings)] if settings else []
        if "gpu_memory_limit_mb" in off:
            operations.append(_put_limit(one))
        return operations

    def again(self, one: Instance, observed: Observation) -> list[Item]:
        """What differs: a driver that is as declared is not installed anew."""
        return self.converge(one, observed)

    def remove(self, one: Instance) -> list[Item]:
        """The packages of the driver, those of the toolkit that is declared, and our limit; a loaded module stays until a reboot."""
        fields: Gpu = one.fields
        limit: Item = {"verb": "put", "path": file_of(one.resource.id), "type": "absent"}
        if fields.gpu_backend == "cpu":
            return []
        version = fields.cuda_version if fields.gpu_backend == "nvidia" else fields.rocm_version
        removed = _program(drivers.REMOVE, fields.gpu_backend, *drivers.toolkits(fields.gpu_backend, version or ""))
        return [limit, sh(removed, timeout_s=INSTALL_TIMEOUT_S)]

    def forecasts(self, one: Instance, observed: Observation) -> list[Item]:
        """What the package manager has of each thing that may have to be installed."""
        return [look(_program(drivers.KNOWN, want.version, want.what, *want.names)) for want in _wants(one.fields).values()]

    def forecast(self, one: Instance, observed: Observation, results: Sequence[Mapping[str, Any]]) -> list[str]:
        """A sentence for each that no known package brings."""
        return [_said(seen) for seen in results if seen.get("exit") != 0]

    def weighs(self, one: Instance, observed: Observation) -> list[Item]:
        """What apt says of the sizes of what is to be installed."""
        wants = self._lacking(one, observed).values()
        return [look(_program(drivers.WEIGH, want.version, *want.names), timeout_s=package_apt.WEIGH_TIMEOUT_S) for want in wants]

    def brings(self, one: Instance, observed: Observation, results: Sequence[Mapping[str, Any]]) -> list[Brought]:
        """Those sizes."""
        told = [package_apt.weighed(output(results, number)) for number in range(len(self._lacking(one, observed)))]
        return [each for brought in told for each in brought]

    def _lacking(self, one: Instance, observed: Observation) -> dict[str, drivers.Want]:
        """What of it is not there as declared; nothing while a driver waits for a reboot."""
        state = observed.values.get("state", "absent")
        off = {name for name, value in self.wanted(one).items() if observed.values.get(name) != value}
        if state not in ("present", "no card"):
            off.add("driver_version")
        return {} if state.startswith("needs a reboot") else {name: want for name, want in _wants(one.fields).items() if name in off}


def _said(seen: Mapping[str, Any]) -> str:
    return (str(seen.get("stdout", "")).strip() or str(seen.get("stderr", "")).strip()) if "exit" in seen else probe_error(seen)


def _program(text: str, *words: str) -> Script:
    return join(["/bin/sh", "-c", text, "gpu", *words])


def _wants(fields: Gpu) -> dict[str, drivers.Want]:
    """What is declared to be installed, by the field that says its version."""
    if fields.state == "absent" or fields.gpu_backend == "cpu":
        return {}
    wants = {"driver_version": drivers.driver(fields.gpu_backend, fields.driver_version)}
    if fields.gpu_backend == "nvidia" and fields.cuda_version:
        wants["cuda_version"] = drivers.cuda(fields.cuda_version)
    if fields.gpu_backend == "rocm" and fields.rocm_version:
        wants["rocm_version"] = drivers.rocm(fields.rocm_version)
    return wants


def _install(want: drivers.Want) -> Item:
    return sh(_program(drivers.INSTALL, want.version, want.what, want.pinned, *want.names), timeout_s=INSTALL_TIMEOUT_S)


def _check(backend: str) -> Item:
    return sh(_program(drivers.CHECK, backend))


def _settings(fields: Gpu, off: set[str]) -> list[Script]:
    """What `nvidia-smi` sets, a card at a time where cards are named."""
    changes = []
    if "persistence_mode" in off:
        changes.append(["-pm", "1" if fields.persistence_mode else "0"])
    if "compute_mode" in off and fields.compute_mode:
        changes.append(["-c", fields.compute_mode.upper()])
    chosen = [["-i", str(index)] for index in fields.devices] or [[]]
    return [_program(drivers.SET, *card, *change) for change in changes for card in chosen]


def _put_limit(one: Instance) -> Item:
    fields: Gpu = one.fields
    put: Item = {"verb": "put", "path": file_of(one.resource.id)}
    if fields.gpu_memory_limit_mb is None:
        return {**put, "type": "absent"}
    body = {"limit_mb": fields.gpu_memory_limit_mb, "devices": list(fields.devices)}
    return {**put, "type": "file", "data": json.dumps(body).encode() + b"\n", "mode": "0644"}


def _limit_found(text: str | None, fields: Gpu) -> str:
    if text is None:
        return "none"
    try:
        body = json.loads(text)
        limit, devices = int(body["limit_mb"]), tuple(body["devices"])
    except (ValueError, KeyError, TypeError):
        return "unreadable"
    return str(limit) if devices == fields.devices else f"{limit} for {'cards ' + _listed(devices) if devices else 'all cards'}"


def _listed(devices: Sequence[object]) -> str:
    return ", ".join(map(str, devices))


def _nvidia(fields: Gpu, cards: Cards) -> dict[str, str]:
    chosen = [card for card in cards.nvidia if not fields.devices or card.index in fields.devices]
    values = {"state": cards.nvidia_state}
    if cards.nvidia_version:
        values["driver_version"] = as_wanted([cards.nvidia_version], fields.driver_version)
    if cards.toolkits:
        values["cuda_version"] = as_wanted(cards.toolkits, fields.cuda_version or "")
    if fields.devices:
        values["devices"] = _listed(sorted(card.index for card in chosen)) or "none"
        if {card.index for card in chosen} == set(fields.devices):
            values["devices"] = _listed(fields.devices)
    asked = "persistence_mode" in fields.model_fields_set
    modes = [str(fields.persistence_mode).lower() if card.persistence == "unknown" and not asked else card.persistence for card in chosen]
    if modes:
        values["persistence_mode"] = ", ".join(sorted(set(modes)))
        values["compute_mode"] = ", ".join(sorted({card.compute for card in chosen}))
    return values


def _rocm(fields: Gpu, cards: Cards) -> dict[str, str]:
    values = {"state": cards.amd_state}
    if cards.amd_version:
        values["driver_version"] = as_wanted([cards.amd_version], fields.driver_version)
    if cards.rocm_version:
        values["rocm_version"] = as_wanted([cards.rocm_version], fields.rocm_version or "")
    if fields.devices:
        there = [index for index in fields.devices if index < cards.amd]
        values["devices"] = _listed(there) or "none"
    return values
