"""Places: where a path really lies, so that two ways of writing one file are equal. Looks at declarations only, at no disk.

A place is (machine, path): relative to the machine's folder where it lies in it, and followed through declared mounts to what
they mount (`lambda:/srv/models` is a path of lambda). Links on a disk are not followed: a manifest alone cannot know them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from itertools import takewhile
from posixpath import dirname, normpath
from posixpath import join as joined
from typing import Any

from albor_pipeline.model.manifest import Machine
from albor_pipeline.model.resource import Resource

MAGIC = frozenset("*?[")
WILD = re.compile(r"\*|\?|\[!?\]?[^\]]*\]|\[")
MAX_MOUNTS = 8
Place = tuple[str, str]


class Places:
    """The places of one manifest; a machine's folder is its workdir, and the project folder where it is local and has none."""

    def __init__(self, root: str, machines: Mapping[str, Machine], resources: Mapping[str, Resource]) -> None:
        self._bases = {name: _base(root, machine) for name, machine in machines.items()}
        self._hosts = {host: name for name, item in machines.items() for host in (item.hostname, item.addr, name) if not item.is_local}
        self._hosts |= {name: name for name in machines}
        self._mounts: dict[Place, Place] = {}
        for resource in resources.values():
            if resource.kind == "mount":
                for machine in resource.machines:
                    self._add(machine, resource.fields_on(machine))

    def of(self, machine: str, path: str) -> Place:
        """The place of a path or glob of a machine."""
        path = normpath(path)
        for _ in range(MAX_MOUNTS if self._mounts else 0):
            found = self._through(machine, path)
            if found is None:
                break
            machine, path = found
        base = self._bases.get(machine)
        if base is None or not path.startswith("/"):
            return machine, path
        return machine, "." if path == base else path[len(base) + 1 :] if path.startswith(base + "/") else path

    def mounted(self, machine: str, path: str) -> bool:
        """Whether the path lies on a declared mount."""
        return bool(self._mounts) and self._through(machine, normpath(path)) is not None

    def _add(self, machine: str, fields: Any) -> None:
        source, path = getattr(fields, "source", None), getattr(fields, "path", None)
        if not isinstance(source, str) or not isinstance(path, str) or getattr(fields, "state", "mounted") != "mounted":
            return
        host, colon, remote = source.partition(":")
        known = self._hosts.get(host.rpartition("@")[2])
        if colon and remote.startswith("/"):
            target = (known or f"host {host}", normpath(remote))
        else:
            target = (machine, normpath(source) if source.startswith("/") and not source.startswith("/dev/") else f"mounted {source}")
        self._mounts[machine, normpath(path)] = target

    def _through(self, machine: str, path: str) -> Place | None:
        base = self._bases.get(machine)
        whole = path if path.startswith("/") or base is None else normpath(joined(base, path))
        for folder in (whole, *folders(whole)):
            target = self._mounts.get((machine, folder))
            if target is not None:
                return target[0], normpath(target[1] + whole[len(folder) :])
        return None


def _base(root: str, machine: Machine) -> str | None:
    if machine.is_local:
        return normpath(joined(root, machine.workdir or "."))
    return normpath(machine.workdir) if machine.workdir and machine.workdir.startswith("/") else None


def folders(path: str) -> tuple[str, ...]:
    """The folders above a normal path, nearest first; a relative one ends with `.`."""
    above = dirname(path)
    if above and above != path:
        return _upwards(above)
    return () if path.startswith("/") or path == "." else (".",)


@lru_cache(maxsize=4096)
def _upwards(folder: str) -> tuple[str, ...]:
    """A folder and those above it; thousands of files share one."""
    return (folder, *folders(folder))


def parts(path: str) -> Sequence[str]:
    """A normal path word by word; nothing for the folder itself."""
    return () if path == "." else path.split("/")


def fixed(path: str) -> str:
    """The part of a path before its first wildcard."""
    if path and not MAGIC.intersection(path):
        return normpath(path)
    return normpath("/".join(takewhile(lambda part: not MAGIC & set(part), path.split("/"))) or ("/" if path[:1] == "/" else "."))


def meets(one: Sequence[str], two: Sequence[str]) -> bool:
    """True when of two paths or globs, as parts, one may mean something at or below the other."""
    if not one or not two or "**" in (one[0], two[0]):
        return True
    both_open = bool(MAGIC & set(one[0])) and bool(MAGIC & set(two[0]))
    same = _may_agree(one[0], two[0]) if both_open else fnmatchcase(one[0], two[0]) or fnmatchcase(two[0], one[0])
    return same and meets(one[1:], two[1:])


def _may_agree(one: str, two: str) -> bool:
    """False when no name can be of both patterns, because they begin or end otherwise: `*.txt` and `*.json`."""
    (head, *_, tail), (other_head, *_, other_tail) = WILD.split(one), WILD.split(two)
    begins = head.startswith(other_head) or other_head.startswith(head)
    return begins and (tail.endswith(other_tail) or other_tail.endswith(tail))


def overlaps(one: Sequence[str], two: Sequence[str]) -> bool:
    """True when of two paths or globs, as parts, one surely means something at or below the other."""
    if not one or not two:
        return True
    if MAGIC & set(one[0]) and MAGIC & set(two[0]):
        same = one[0] == two[0]
    else:
        same = "**" not in (one[0], two[0]) and (fnmatchcase(one[0], two[0]) or fnmatchcase(two[0], one[0]))
    return same and overlaps(one[1:], two[1:])
