"""Slots: what running attempts take of this machine, whatever pipeline, workdir and account they are of. Starts nothing, waits for nobody.

    /run/lock/albor-slots/<machine id>/    .lock    <token>: folder, resource, run, since, gpu (ids), cpu, memory_bytes

All accounts write there, each takes away only what is its own; a machine without such a folder has one in the cache of each account.
A record is written under the flock of `.lock`, before its attempt's folder has its name, and its own flock is held by
the supervisor. It counts while that lock is held, or while processes of an attempt live whose supervisor was killed and whose
folder this account may read.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat

from albor_pipeline.agent import attempts, facts, liveness
from albor_pipeline.agent.layout import Layout, lock_file, read_json, to_json, unlink, utc, write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

KINDS = ("gpu", "cpu", "memory_bytes")
NAMES = {"gpu": "GPU", "cpu": "cpu slots", "memory_bytes": "bytes of memory"}
DEFAULT = {"gpu": 0, "cpu": 1, "memory_bytes": 0}
LOCK_WAIT_S = 10.0
SHARED = "/run/lock"
OPEN_TO_ALL = stat.S_ISVTX | stat.S_IRWXU | stat.S_IRWXG | stat.S_IRWXO


class Seat:
    """What one attempt has taken; `told` is what its task is told of it: what was asked for, GPUs by number."""

    def __init__(self, path: str, descriptor: int, told: Mapping[str, Any]) -> None:
        self._path = path
        self._descriptor = descriptor
        self.told = dict(told)

    def free(self) -> None:
        """Give it back."""
        unlink(self._path)
        os.close(self._descriptor)


def folders(layout: Layout) -> list[str]:
    """Where records of this machine are, new ones in the first; the account's own folder counts too: older agents know no other."""
    shared, own = _shared(), _own(layout)
    return [own] if shared is None else [shared, own]


def _shared() -> str | None:
    """The folder that all accounts may write to, made where it is not there; None where there can be none."""
    base = os.environ.get("ALBOR_TEST_SLOTS", SHARED)
    try:
        for name in ("albor-slots", facts.machine_id()):
            base = os.path.join(base, name)
            with contextlib.suppress(FileExistsError):
                os.mkdir(base)
                os.chmod(base, OPEN_TO_ALL)
            if os.lstat(base).st_mode != stat.S_IFDIR | OPEN_TO_ALL:
                return None
    except OSError:
        return None
    return base


def _own(layout: Layout) -> str:
    """With the account's cache, or with the workdir where locks in the cache prove nothing."""
    base = facts.cache_folder()
    os.makedirs(base, exist_ok=True)
    if liveness.is_network(base):
        base = layout.home
    found = os.path.join(base, "slots", facts.machine_id())
    os.makedirs(found, exist_ok=True)
    return found


def take(layout: Layout, spec: Mapping[str, Any], attempt: str) -> Seat | None:
    """Take what `spec["needs"]` says of `spec["total"]` for the attempt folder to come; None when the request names no slots.

    What is larger than the machine may run alone. Raises AttemptError `no-slot` with who holds what is missing.
    """
    total = spec.get("total")
    if total is None:
        return None
    where = folders(layout)
    lock = lock_file(os.path.join(where[0], ".lock"), LOCK_WAIT_S, shared=True)
    if lock is None:
        raise attempts.AttemptError("busy", "another start on this machine is under way")
    try:
        wanted, held = _wanted(spec), _held(where)
        lacking = missing(wanted, total, held) or _taken(spec, held)
        if lacking:
            raise attempts.AttemptError("no-slot", lacking)
        device = (spec.get("needs") or {}).get("gpu_device")
        gpus = free_gpus(total, held)[: wanted["gpu"]] if device is None else [device]
        body = {**wanted, "gpu": gpus, "folder": attempt, "since": utc()}
        body.update({key: spec[key] for key in ("resource", "run", "lineage")})
        asked = spec.get("needs") or {}
        told = {key: gpus if key == "gpu" else asked[key] for key in KINDS if asked.get(key) is not None}
        return Seat(*_write(where[0], body), told)
    finally:
        os.close(lock)


def look(layout: Layout, wants: Sequence[Mapping[str, Any]]) -> list[str]:
    """For each request's `needs` and `total`: what is missing, empty when it would get its slots now."""
    held = _held(folders(layout))
    return [missing(_wanted(want), want["total"], held) or _taken(want, held) for want in wants]


def missing(wanted: Mapping[str, int], total: Mapping[str, int], held: Sequence[Mapping[str, Any]]) -> str:
    """Why a request must wait, with the holders; empty when it need not."""
    for kind in KINDS:
        used = sum(len(one["gpu"]) if kind == "gpu" else one[kind] for one in held)
        free = len(free_gpus(total, held)) if kind == "gpu" else total[kind] - used
        holders = [one for one in held if one[kind]]
        if wanted[kind] > free and (holders if kind == "gpu" else held):
            names = ", ".join("%s in %s (run %s, since %s)" % _holder(one) for one in holders or held)
            return "%d of %d %s free, %d wanted; held by %s" % (max(0, free), total[kind], NAMES[kind], wanted[kind], names)
    return ""


def _taken(spec: Mapping[str, Any], held: Sequence[Mapping[str, Any]]) -> str:
    """Who holds the one card that a request names; empty when nobody does, or it names none."""
    device = (spec.get("needs") or {}).get("gpu_device")
    if device is None:
        return ""
    holder = next((one for one in held if device in one["gpu"]), None)
    return "GPU %d is held by %s in %s (run %s, since %s)" % (device, *_holder(holder)) if holder is not None else ""


def free_gpus(total: Mapping[str, int], held: Sequence[Mapping[str, Any]]) -> list[int]:
    """The numbers of the GPUs that nobody holds."""
    busy = {gpu for one in held for gpu in one["gpu"]}
    return [gpu for gpu in range(total["gpu"]) if gpu not in busy]


def _holder(one: Mapping[str, Any]) -> tuple[str, str, str, str]:
    workdir = one["folder"].partition("/.albor/")[0]
    return one["resource"], workdir, one["run"], one["since"]


def _wanted(spec: Mapping[str, Any]) -> dict[str, int]:
    needs = spec.get("needs") or {}
    return {kind: DEFAULT[kind] if needs.get(kind) is None else needs[kind] for kind in KINDS}


def _held(where: Sequence[str]) -> list[dict[str, Any]]:
    """The records that count, oldest first; others are removed, which is right under the lock and harmless without it."""
    found = []
    for path in (os.path.join(base, name) for base in where for name in os.listdir(base) if not name.startswith(".")):
        body = _sound(read_json(path))
        if liveness.lock_is_held(path) or (body and attempts.state_of(body["folder"])[0] in attempts.RUNNING):
            found += [body] if body else []
        else:
            with contextlib.suppress(PermissionError):  # another account's
                unlink(path)
    return sorted(found, key=lambda one: str(one["since"]))


def _sound(body: dict[str, Any] | None) -> dict[str, Any] | None:
    """A record as take() writes it; None for what another account may have put there."""
    texts, counts = ("folder", "resource", "run", "since"), ("cpu", "memory_bytes")
    if body is None or not all(isinstance(body.get(key), str) for key in texts):
        return None
    gpus = body.get("gpu")
    right = isinstance(gpus, list) and all(isinstance(one, int) for one in [*gpus, *(body.get(key) for key in counts)])
    return body if right else None


def _write(base: str, body: Mapping[str, Any]) -> tuple[str, int]:
    path = os.path.join(base, os.urandom(8).hex())
    hidden = os.path.join(base, "." + os.path.basename(path))
    descriptor = os.open(hidden, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        write_all(descriptor, to_json(body))
        os.rename(hidden, path)
    except BaseException:
        os.close(descriptor)
        unlink(hidden)
        raise
    return path, descriptor
