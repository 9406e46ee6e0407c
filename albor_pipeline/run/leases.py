"""Leases: being the only controller of a lineage on every machine. Starts nothing and writes no state."""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any

from albor_pipeline.agent import liveness
from albor_pipeline.errors import LockedError, UnreachableError
from albor_pipeline.model.events import NoteEvent, Reporter
from albor_pipeline.run.fleet import Fleet, holder
from albor_pipeline.transport.client import AgentError

# A machine lets a lease go after 60 s without a word from its holder.
PATIENCE_S = 75.0
PAUSE_S = 0.5
HELD = ("held", "no-lease")
NAMED = re.compile(r"pid (\d+) on (\S+) since ")


def take(fleet: Fleet, report: Reporter, leaves: Callable[[], bool]) -> dict[str, Any]:
    """Take the lease of every machine that answers, in the order of names, so that of two who begin together one gets all of them.

    Returns the journal head that each of them remembers now.

    A machine whose holder was a process of this host that is gone has not heard of that: it is waited for, unless the user leaves.
    One that cannot take it, for want of room or since it was cut off, is lost to the run. Raises LockedError with the holder's words.
    """
    limit = time.monotonic() + PATIENCE_S
    heads = {}
    for name, agent in sorted(fleet.agents.items()):
        told = False
        while True:
            try:
                reply = agent.request("lease", **holder())
                heads[name], fleet.tokens[name] = reply.get("head"), str(reply["token"])
                fleet.unheard_s[name] = reply.get("unheard_s")
                break
            except UnreachableError as error:
                fleet.lose(name, error)
                break
            except AgentError as error:
                if error.code not in HELD:
                    _cannot(fleet, name, error.message, report)
                    break
                held, process = error.message, error.attempt
            if not was_ours(held, process) or leaves() or time.monotonic() >= limit:
                raise LockedError.of("leased", f"{name} is in use by {held}", "wait for it, or look at `status`")
            if not told:
                gone = held.partition(" since ")[0]
                report(NoteEvent(f"{name} has not heard that {gone} is gone; waiting until it does, a minute at most"))
                told = True
            time.sleep(PAUSE_S)
    return heads


def _cannot(fleet: Fleet, name: str, why: str, report: Reporter) -> None:
    report(NoteEvent(f"{name} cannot be driven now: {why}; its steps wait for the next run"))
    error = UnreachableError.of("unreachable", f"{name}: its agent cannot work: {why}")
    assert isinstance(error, UnreachableError)
    fleet.lose(name, error)


def was_ours(held: str, process: Mapping[str, Any] | None) -> bool:
    """True when the named holder was a process of this host and is gone. Its number alone proves little: pids are used again."""
    named = NAMED.match(held)
    if named is None or named[2] != socket.gethostname():
        return False
    if process is not None and process["boot"] != liveness.boot_id():
        return True
    if process is not None and process["ns"] == liveness.pid_namespace():
        return not liveness.same_process(process)
    try:
        os.kill(int(named[1]), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
