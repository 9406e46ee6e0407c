"""The lease: one controller of a lineage drives this machine, for as long as it is heard of. Attempts need none and outlive it.

A flock on .albor/leases/<lineage>, whose text says who holds it. It is let go when the connection ends, and when nothing
came from the controller for LEASE_S seconds (a closed laptop, a cut line that nobody told us of). A controller that comes
back takes it again, unless another had it meanwhile: then its picture of the machine is old, and it must start anew.
A second connection of the holder says so by the token that the first was given, and may do what that one may.
The file's time is when its holder was last heard of, so that the next one can be told what it missed.
Test hook: ALBOR_TEST_LEASE_S is the limit in place of LEASE_S.
"""

from __future__ import annotations

import os
import time

from albor_pipeline.agent import liveness
from albor_pipeline.agent.attempts import AttemptError
from albor_pipeline.agent.layout import Layout, lock_file, quote, read_json, to_json, utc, write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

LEASE_S = 60.0


def boot_time() -> float:
    """Seconds since this machine started, sleep included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Lease:
    """The lease of one lineage as one connection has it: never taken, held, or lapsed."""

    def __init__(self, layout: Layout, lineage: str, clock: Callable[[], float] = boot_time) -> None:
        self._path = os.path.join(layout.leases, quote(lineage or "none"))
        self.limit_s = float(os.environ.get("ALBOR_TEST_LEASE_S") or LEASE_S)
        self._clock = clock
        self._heard_s = clock()
        self._holder = ""
        self._process: Mapping[str, Any] | None = None
        self._joined = False
        self._descriptor: int | None = None
        self.token = ""
        self.unheard_s: float | None = None

    def join(self, token: str) -> None:
        """Be a second connection of who was given this token. Raises AttemptError `held`, `no-lease`."""
        self._require_first(token)
        self.token, self._joined = token, True

    def take(self, holder: str, process: Mapping[str, Any] | None = None) -> None:
        """Become the holder, or go on as such; `unheard_s` is then for how long nothing was heard of the one before, None: there was none.

        Raises AttemptError `held` with the other's words, and its process where it told of it.
        """
        if self.token:
            self.require()
            return
        self._lock()
        assert self._descriptor is not None
        last = os.fstat(self._descriptor)
        self.unheard_s = max(0.0, time.time() - last.st_mtime) if last.st_size else None
        self._holder, self._process, self.token = holder, process, os.urandom(8).hex()
        self._sign()

    def require(self) -> None:
        """Make sure that it is held, taking it again when it lapsed. Raises AttemptError `held`, `no-lease`."""
        if not self.token:
            raise AttemptError("no-lease", "a controller takes the lease before it starts anything")
        if self._descriptor is not None:
            return
        if self._joined:
            self._require_first(self.token)
            return
        self._lock()
        try:
            self._compare(self.token)
        except AttemptError:
            self._unlock()
            raise

    def _require_first(self, token: str) -> None:
        """Make sure that the connection which was given this token holds it still."""
        if not liveness.lock_is_held(self._path):
            raise AttemptError("no-lease", "the first connection of this controller does not hold the lease any more")
        self._compare(token)

    def _compare(self, token: str) -> None:
        last = read_json(self._path) or {}
        if last.get("token") != token:
            raise AttemptError("held", "%s took over while this controller was not heard of" % _words(last))

    def heard(self) -> None:
        """Something came from the controller."""
        self._heard_s = self._clock()

    def tick(self, busy: bool) -> float | None:
        """Let go after a silence, but not while a request is being worked on; seconds until the next look, None when none is due."""
        if self._descriptor is None:
            return None
        if busy:
            self.heard()
        left = self._heard_s + self.limit_s - self._clock()
        if left <= 0:
            self.let_go()
            return None
        return left

    def let_go(self) -> None:
        """The controller is gone, or was silent for too long."""
        if self._descriptor is not None:
            heard = time.time() - (self._clock() - self._heard_s)
            try:
                os.utime(self._descriptor, (heard, heard))
            except OSError:
                pass  # the file's time is then when the lease was taken: more is shown than was missed
        self._unlock()

    def _lock(self) -> None:
        os.makedirs(os.path.dirname(self._path), exist_ok=True)
        self._descriptor = lock_file(self._path, 0.0)
        if self._descriptor is None:
            said = read_json(self._path) or {}
            raise AttemptError("held", _words(said), said.get("process"))

    def _sign(self) -> None:
        assert self._descriptor is not None
        os.ftruncate(self._descriptor, 0)
        write_all(self._descriptor, to_json({"holder": self._holder, "process": self._process, "since": utc(), "token": self.token}))

    def _unlock(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _words(said: dict[str, object]) -> str:
    return "%s since %s" % (said["holder"], said["since"]) if "holder" in said else "another controller"
