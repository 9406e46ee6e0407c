"""Service: a unit that the machine's systemd runs or does not run. Makes operations; starts nothing itself.

`running` and `stopped` are about now, `enabled` and `disabled` about the machine's next start; a running one also starts with the
machine unless `enabled` says otherwise. A unit that nothing can enable (static, generated) is as it should be then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from albor_pipeline.model.observed import Observation
from albor_pipeline.resources import needs
from albor_pipeline.resources.base import Convergent, Instance, Item, look, sh
from albor_pipeline.resources.fields import CONTENT, DOC, Fields, Flag, wrong
from albor_pipeline.resources.formats import matching
from albor_pipeline.resources.shell import Script, fixed

START_TIMEOUT_S = 180.0
NO_SYSTEMD = "no systemd"
STATES = {"active": "running", "reloading": "running", "inactive": "stopped", "activating": "starting", "deactivating": "stopping"}
ENABLED = frozenset(("enabled", "alias"))
# `systemctl disable` takes a linked unit off the machine, whoever linked it; it does not start with the machine as it is.
NOT_ENABLED = frozenset(("disabled", "static", "indirect", "masked", "masked-runtime", "linked", "linked-runtime"))
AS_NEEDED = frozenset(("static", "indirect", "generated", "transient"))
UnitName = Annotated[
    str, matching(r"[A-Za-z0-9:_.\\@-]{1,255}", "the name of a unit: letters, digits, `:`, `-`, `_`, `.`, `@` and backslashes")
]


class Service(Fields):
    """A unit of the service manager; it starts with the machine unless `enabled` or the state says otherwise."""

    name: Annotated[UnitName, CONTENT, Field(description="the name of the unit")]
    state: Annotated[
        Literal["running", "stopped", "enabled", "disabled"],
        CONTENT,
        Field(description="whether it runs, or starts with the machine"),
    ] = "running"
    enabled: Annotated[Flag | None, CONTENT, Field(description="whether it starts with the machine")] = None
    description: Annotated[str, DOC, Field(description="a sentence for readers")] = ""

    @model_validator(mode="after")
    def _fitting(self) -> Service:
        if (self.state, self.enabled) in (("enabled", False), ("disabled", True)):
            raise wrong("either enabled or disabled; `state` and `enabled` contradict one another")
        return self


_LOOK = """
[ -d /run/systemd/system ] || { echo systemd=no; exit 0; }
systemctl show --property=LoadState,ActiveState,SubState -- "$1"
printf 'Enabled=%s\\n' "$(systemctl is-enabled -- "$1" 2>/dev/null || true)"
"""
_SYSTEMD = """
[ -d /run/systemd/system ] || { echo "$1 is not run by systemd, which starts and stops services" >&2; exit 1; }
"""
# `systemctl start` comes back before a program that ends at once has done so, or has been started for the second time.
_START = """
reloaded=$(systemctl show --property=NeedDaemonReload --value -- "$1")
[ "$reloaded" != yes ] || systemctl daemon-reload
verb=$2
[ "$reloaded" != yes ] || [ "$verb" = start ] || verb=restart
systemctl reset-failed -- "$1" 2>/dev/null || true
code=0
systemctl "$verb" -- "$1" || code=$?
[ "$code" = 0 ] || [ "$(systemctl show --property=LoadState --value -- "$1")" = loaded ] || exit "$code"
before=$(systemctl show --property=NRestarts --value -- "$1")
sleep 0.5
now=$(systemctl show --property=NRestarts --value -- "$1")
if [ "$code" != 0 ] || [ "$before" != "$now" ] || ! systemctl is-active --quiet -- "$1"; then
  systemctl status --no-pager --full --lines=5 -- "$1" >&2 || true
  echo "$1 was started and does not keep running" >&2
  exit 1
fi
"""
_GONE = """
[ "$(systemctl show --property=LoadState --value -- "$1")" != not-found ] || exit 0
systemctl stop -- "$1"
case $(systemctl is-enabled -- "$1" 2>/dev/null || true) in enabled*|alias) systemctl disable -- "$1" ;; esac
"""


class ServiceKind(Convergent):
    """The kind `service`: compared by what systemd says of the unit; a masked unit is left masked, which is an error where it must run."""

    placed: ClassVar[tuple[str, ...]] = ("name",)
    name: ClassVar[str] = "service"
    model: ClassVar[type[Fields]] = Service

    def probes(self, one: Instance) -> list[Item]:
        """The states of the unit."""
        return [look(needs.SBIN, fixed(_LOOK, one.fields.name))]

    def observe(self, one: Instance, results: Sequence[Mapping[str, Any]]) -> Observation:
        """Whether it runs and starts with the machine, in the words of the manifest where they fit, else in those of systemd."""
        seen = results[0] if results else {}
        if seen.get("exit") != 0:
            return Observation(False, error=needs.unseen(seen))
        told = dict(line.partition("=")[::2] for line in str(seen.get("stdout", "")).splitlines())
        if told.get("systemd") == "no":
            return Observation(False, error=f"{one.machine.name} is not run by systemd, which starts and stops services")
        wanted = self.wanted(one)
        if told.get("LoadState") == "not-found" and told.get("ActiveState") != "active":
            return Observation(False, dict.fromkeys(wanted, "no such unit"))
        enabled = _enabled(told.get("Enabled", ""), one.fields, wanted.get("enabled"))
        found = {"state": _state(told, wanted.get("state")), "enabled": enabled}
        return Observation(True, {name: found[name] for name in wanted})

    def wanted(self, one: Instance) -> Mapping[str, str]:
        """`state` when it is about now, `enabled` when anything is said of the next start."""
        fields: Service = one.fields
        values = {"state": fields.state} if fields.state in ("running", "stopped") else {}
        enabled = {"enabled": True, "disabled": False, "running": True}.get(fields.state) if fields.enabled is None else fields.enabled
        return values if enabled is None else {**values, "enabled": "true" if enabled else "false"}

    def converge(self, one: Instance, observed: Observation) -> list[Item]:
        """Enable or disable first, then start and see whether it stays, or stop."""
        return self._converged(one, observed)

    def was_there(self, observed: Observation, wanted: Mapping[str, str]) -> bool:
        """A unit is not ours in any case: what was there is that it ran, or started with the machine."""
        return any(observed.values.get(name) == value for name, value in wanted.items())

    def again(self, one: Instance, observed: Observation) -> list[Item]:
        """What differs; a running one reads its settings again, or is started again when it cannot do that or its unit changed."""
        running = self.wanted(one).get("state") == "running" and observed.values.get("state") == "running"
        return self._converged(one, observed, [fixed(_START, one.fields.name, "reload-or-restart")] if running else [])

    def _converged(self, one: Instance, observed: Observation, more: Sequence[Script] = ()) -> list[Item]:
        wanted = self.wanted(one)
        off = {name: value for name, value in wanted.items() if observed.values.get(name) != value}
        commands = []
        if "enabled" in off:
            commands.append(fixed('systemctl "$1" -- "$2"', "enable" if off["enabled"] == "true" else "disable", one.fields.name))
        if off.get("state") == "running":
            commands.append(fixed(_START, one.fields.name, "start"))
        if off.get("state") == "stopped":
            commands.append(fixed('systemctl stop -- "$1"', one.fields.name))
        return _operations(one, [*commands, *more])

    def remove(self, one: Instance) -> list[Item]:
        """It stops and starts no more with the machine; the unit itself belongs to whoever put it there."""
        return _operations(one, [fixed(_GONE, one.fields.name)])


def _operations(one: Instance, commands: Sequence[Script]) -> list[Item]:
    return [sh(needs.root(one), fixed(_SYSTEMD, one.machine.name), *commands, timeout_s=START_TIMEOUT_S)] if commands else []


def _state(told: Mapping[str, str], wanted: str | None) -> str:
    active = told.get("ActiveState", "")
    if told.get("SubState") == "auto-restart":
        return "restarting"
    if active == "failed" and wanted == "stopped":
        return "stopped"
    return STATES.get(active, active)


def _enabled(word: str, fields: Service, wanted: str | None) -> str:
    implied = fields.enabled is None and fields.state == "running"
    if word in ENABLED or (wanted == "true" and implied and word in AS_NEEDED):
        return "true"
    return "false" if word == "disabled" or (wanted == "false" and word in NOT_ENABLED) else word or "unknown"
