"""Claim an attempt: the next folder of a resource, with its slots, when nothing of it runs. Starts no process and digests nothing."""

from __future__ import annotations

import fcntl
import os

from albor_pipeline.agent import attempts, liveness, slots
from albor_pipeline.agent.attempts import AttemptError
from albor_pipeline.agent.layout import Layout, lock_file, quote, to_json, write_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

CLAIM_WAIT_S = 10.0
NOT_WRITTEN = ("files", "needs", "total", "secrets")


class Claim:
    """A claimed attempt: its spec as written, its folder, its slots, and the descriptor that holds `alive`."""

    def __init__(self, spec: Mapping[str, Any], folder: str, alive: int, seat: slots.Seat | None) -> None:
        self.spec = spec
        self.folder = folder
        self._alive = alive
        self._seat = seat

    def let_go(self) -> None:
        """The attempt is proven ended: its slots are free, then its lock."""
        if self._seat is not None:
            self._seat.free()
        os.close(self._alive)


def claim(layout: Layout, spec: Mapping[str, Any]) -> Claim:
    """Make the next attempt folder of a resource.

    Under the resource's flock, and only when every earlier attempt is proven ended and its slots are free. The folder
    gets its name by rename when spec, files and the held lock are in it, so nobody ever sees one whose supervisor is
    yet to come. `spec["expected"]` must be the number it gets: a request that was overtaken starts nothing.
    Raises AttemptError `busy`, `stale`, `no-slot`.
    """
    resource = spec["resource"]
    base = os.path.join(layout.attempts, quote(resource))
    os.makedirs(base, exist_ok=True)
    lock = lock_file(os.path.join(base, ".lock"), CLAIM_WAIT_S)
    if lock is None:
        raise AttemptError("busy", "another start of %s is under way" % resource)
    try:
        earlier = attempts.numbered(base)
        number = earlier[-1][0] + 1 if earlier else 1
        for _number, folder in reversed(earlier):
            if attempts.state_of(folder)[0] in attempts.RUNNING:
                attempt = attempts.describe(layout, folder) or {}
                raise AttemptError("busy", _busy_text(attempt), attempt)
        if spec["expected"] != number:
            raise AttemptError("stale", "%s: attempt %d was asked for, %d is next" % (resource, spec["expected"], number))
        folder = os.path.join(base, "%d-%s" % (number, spec["fingerprint"][:12]))
        seat = slots.take(layout, spec, folder)
        try:
            written = _written(spec, number, seat)
            os.utime(layout.attempts)
            return Claim(written, folder, _publish(base, folder, written, spec.get("files") or {}), seat)
        except BaseException:
            if seat is not None:
                seat.free()
            raise
    finally:
        os.close(lock)


def _written(spec: Mapping[str, Any], number: int, seat: slots.Seat | None) -> dict[str, Any]:
    """The spec as it is kept: no value of the environment, and the slots that were given."""
    return {
        **{key: value for key, value in spec.items() if key not in NOT_WRITTEN},
        "version": attempts.VERSION,
        "number": number,
        "started_utc": spec["at_utc"],
        "boot": liveness.boot_id(),
        "env": sorted(spec.get("env") or {}),
        "slots": seat.told if seat is not None else {},
    }


def _busy_text(attempt: Mapping[str, Any]) -> str:
    return "attempt %s of %s is %s since %s (run %s)" % tuple(
        attempt.get(key) for key in ("number", "resource", "liveness", "started_utc", "run")
    )


def _publish(base: str, folder: str, written: Mapping[str, Any], files: Mapping[str, str]) -> int:
    building = os.path.join(base, ".new")
    if os.path.exists(building):
        attempts.remove_tree(building)
    os.mkdir(building)
    write_file(os.path.join(building, "spec"), to_json(written))
    for name, text in files.items():
        path = os.path.join(building, name)
        if os.path.dirname(name):
            os.makedirs(os.path.dirname(path), exist_ok=True)
        write_file(path, text.encode("utf-8", "surrogateescape"))
    alive = os.open(os.path.join(building, "alive"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    fcntl.flock(alive, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.rename(building, folder)
    return alive
