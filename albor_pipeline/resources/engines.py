"""Engines: the shell programs that look at a container and change one, and what they print, read. Docker's commands, podman's too.

Each program is a text without a value in it: values are its arguments.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LOOK = """\
tool=$(command -v docker || command -v podman) || { echo none; exit 0; }
"$tool" container inspect --format '{{json .Config.Image}}
{{json .Config.Env}}
{{json .Config.Cmd}}
{{json .Config.Volumes}}
{{json .HostConfig.PortBindings}}
{{json .HostConfig.Binds}}
{{json .HostConfig.RestartPolicy}}
{{json .State.Status}}
{{json .Image}}' "$1" || exit
image=$("$tool" container inspect --format '{{.Image}}' "$1") || exit
brought=$("$tool" image inspect --format '{{json .Config.Env}}
{{json .Config.Cmd}}
{{json .Config.Volumes}}' -- "$image" 2>/dev/null) || brought='null
null
null'
tagged=$("$tool" image inspect --format '{{json .Id}}' -- "$2" 2>/dev/null) || tagged=null
printf '%s\\n' "$brought" "$tagged"
"""
HAS = """\
tool=$(command -v docker || command -v podman) || exit 1
"$tool" image inspect -- "$1" >/dev/null 2>&1
"""
ROWS = ("ref", "env", "cmd", "volumes", "ports", "binds", "restart", "status", "image", "image_env", "image_cmd", "image_volumes", "tagged")
_TOOL = """\
tool=$(command -v docker || command -v podman) || {
  echo "neither docker nor podman is installed on this machine: add a package resource for one of them" >&2
  exit 1
}
"""
# What is to run has to last a moment: a container that ends at once is a failure, and its last words say why.
_LASTS = """\
sleep 1
now=$("$tool" container inspect --format '{{.State.Status}}' "$name") || exit
[ "$now" = running ] || {
  "$tool" logs --tail 5 "$name" >&2
  echo "the container $name was started and is $now" >&2
  exit 1
}
"""
# The image is there before the old container goes: one that cannot be had leaves everything as it is.
MAKE = f"""{_TOOL}name=$1 state=$2 image=$3 file=$4; shift 4
[ -z "$file" ] || {{ trap 'exit 143' TERM; trap 'rm -f "$file"' EXIT; }}
"$tool" image inspect -- "$image" >/dev/null 2>&1 || "$tool" pull -q -- "$image" >/dev/null || exit
if "$tool" container inspect "$name" >/dev/null 2>&1; then
  "$tool" stop "$name" >/dev/null
  "$tool" rm -f "$name" >/dev/null || exit
fi
"$tool" create --name "$name" ${{file:+--env-file "$file"}} "$@" >/dev/null || exit
[ "$state" = running ] || exit 0
"$tool" start "$name" >/dev/null || exit
{_LASTS}"""
START = f"""{_TOOL}name=$1
case $("$tool" container inspect --format '{{{{.State.Status}}}}' "$name") in
  paused) "$tool" unpause "$name" >/dev/null || exit ;;
  restarting) ;;
  *) "$tool" start "$name" >/dev/null || exit ;;
esac
{_LASTS}"""
STOP = f"""{_TOOL}"$tool" stop "$1" >/dev/null"""
RESTART = f"""{_TOOL}name=$1
"$tool" restart "$name" >/dev/null || exit
{_LASTS}"""
UPDATE = f"""{_TOOL}"$tool" update --restart "$2" "$1" >/dev/null"""
REMOVE = """\
tool=$(command -v docker || command -v podman) || exit 0
said=$("$tool" container inspect "$1" 2>&1 >/dev/null) || case $said in
  *[Nn]"o such container"*) exit 0 ;;
  *) echo "$said" >&2; exit 1 ;;
esac
"$tool" stop "$1" >/dev/null
"$tool" rm -f "$1" >/dev/null
"""
STATES = {"running": "running", "exited": "stopped", "created": "stopped", "configured": "stopped", "stopped": "stopped"}
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "ALL_PROXY", "NO_PROXY")
OF_ENGINES = frozenset(("PATH", "TERM", "HOME", "HOSTNAME", "container", *PROXIES, *map(str.lower, PROXIES)))
USUAL = frozenset(("rw", "rprivate", "private", "rbind", "nosuid", "nodev"))
HUB = re.compile(r"^(?:docker\.io/(?:library/)?|localhost/)")


@dataclass(frozen=True)
class Container:
    """A container as it was made, or is to be; `command` None is the image's, `is_old` when the image's name means another now."""

    image: str
    is_old: bool
    environment: Mapping[str, str]
    command: Sequence[str] | None
    volumes: frozenset[str]
    ports: frozenset[str]
    restart: str
    state: str


def read(text: str, declared: Container) -> Container | None:
    """What LOOK printed, without what image or engine bring and nobody declared; None when it is something else."""
    lines = text.removesuffix("\n").split("\n")
    if len(lines) != len(ROWS):
        return None
    try:
        seen: dict[str, Any] = {name: json.loads(line) for name, line in zip(ROWS, lines, strict=True)}
        brought = _variables(seen["image_env"])
        command = [str(word) for word in seen["cmd"] or ()]
        unnamed = set(seen["volumes"] or ()) - (set(seen["image_volumes"] or ()) - declared.volumes)
        return Container(
            image=reference(str(seen["ref"])),
            is_old=seen["tagged"] is not None and _id(seen["tagged"]) != _id(seen["image"]),
            environment={
                name: value
                for name, value in _variables(seen["env"]).items()
                if name in declared.environment or (brought.get(name) != value and name not in OF_ENGINES)
            },
            command=None if declared.command is None and command == (seen["image_cmd"] or []) else command,
            volumes=frozenset({*unnamed, *map(volume, seen["binds"] or ())}),
            ports=frozenset(_bound(seen["ports"] or {})),
            restart=_restart(seen["restart"] or {}),
            state=STATES.get(str(seen["status"]), str(seen["status"])),
        )
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def reference(image: str) -> str:
    """The name of an image in its short form, always with a tag or a digest."""
    image = HUB.sub("", image)
    return image if "@" in image or ":" in image.rpartition("/")[2] else f"{image}:latest"


def volume(text: str) -> str:
    """`data:/data:ro` in one form: without what the engines add by themselves."""
    source, _, rest = text.partition(":")
    target, _, options = rest.partition(":")
    kept = ",".join(sorted(set(options.split(",")) - USUAL - {""}))
    return ":".join(part for part in (source, target, kept) if part)


def ports(text: str) -> list[str]:
    """`127.0.0.1:8000-8001:80-81` as one entry a port: `127.0.0.1:8000:80/tcp` and so on."""
    rest, _, protocol = text.partition("/")
    outside, _, inside = rest.rpartition(":")
    address, _, host = outside.rpartition(":")
    inner, outer = _range(inside), _range(host) if host else []
    outer = outer if len(outer) == len(inner) else [host] * len(inner)
    return [_port(address.strip("[]"), there, f"{here}/{protocol or 'tcp'}") for here, there in zip(inner, outer, strict=True)]


def _port(address: str, outer: object, inner: str) -> str:
    address = "" if address in ("0.0.0.0", "::") else address
    return ":".join(part for part in (f"[{address}]" if ":" in address else address, str(outer), inner) if part)


def _range(text: str) -> list[object]:
    first, _, last = text.partition("-")
    return [*range(int(first), int(last or first) + 1)]


def _bound(bindings: Mapping[str, Any]) -> list[str]:
    return [
        _port(str(each.get("HostIp") or ""), each.get("HostPort") or "", inner) for inner, found in bindings.items() for each in found or ()
    ]


def _restart(rule: Mapping[str, Any]) -> str:
    name, times = str(rule.get("Name") or "no"), int(rule.get("MaximumRetryCount") or 0)
    return f"{name}:{times}" if name == "on-failure" and times else name


def _variables(lines: Sequence[str] | None) -> dict[str, str]:
    return dict(line.partition("=")[::2] for line in lines or ())


def _id(text: object) -> str:
    return str(text).removeprefix("sha256:")


def words(command: Sequence[str]) -> str:
    """A command in one spelling."""
    return shlex.join(command)
