"""Short shell scripts: run with a time limit and bounded output, nothing left behind. Not for tasks; those are attempts."""

from __future__ import annotations

import os
import select
import signal
import time

from albor_pipeline.agent.layout import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    import subprocess
    from collections.abc import Mapping
    from typing import Any

OUTPUT_LIMIT_BYTES = 1 << 20
DEFAULT_TIMEOUT_S = 60.0
LINGER_S = 0.3
GRACE_S = 5.0
LEAVE_S = 1.0
# Without it a shell that is asked to end leaves out what it was told to do at its end.
ASKED = "trap 'exit 143' TERM; "
_running: set[int] = set()


def run_script(script: str, timeout_s: float | None, env: Mapping[str, str] | None, cwd: str) -> dict[str, Any]:
    """Run `script` with /bin/sh: {"exit", "signal", "stdout", "stderr", "timed_out", "truncated"}.

    `exit` is None when a signal or the time limit ended it. At the limit its group is asked to end, so that an EXIT trap clears up, and
    killed some seconds later; what it left running is killed when it has ended.
    The shell reads the script from a file without a name, so that nothing of it shows in a list of processes and its size has no limit.
    Raises OSError.
    """
    import subprocess

    limit_s = timeout_s or DEFAULT_TIMEOUT_S
    text = os.memfd_create("script", os.MFD_CLOEXEC)
    try:
        write_all(text, (ASKED + script).encode("utf-8", "surrogateescape"))
        os.lseek(text, 0, os.SEEK_SET)
        process = subprocess.Popen(
            ["/bin/sh", "/dev/fd/%d" % text],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=cwd,
            env={**os.environ, **(env or {})},
            start_new_session=True,
            pass_fds=(text,),
        )
    finally:
        os.close(text)
    _running.add(process.pid)
    try:
        out, err, timed_out = _collect(process, time.monotonic() + limit_s)
    finally:
        _kill(process.pid)
        process.wait()
        _running.discard(process.pid)
    code = process.returncode
    prefix = b"/dev/fd/%d: " % text
    return {
        "exit": None if timed_out or code < 0 else code,
        "signal": -code if code < 0 and not timed_out else None,
        "stdout": out[0].decode("utf-8", "replace"),
        "stderr": err[0].replace(prefix, b"").decode("utf-8", "replace"),
        "timed_out": timed_out,
        "truncated": out[1] or err[1],
    }


def _collect(process: subprocess.Popen[bytes], deadline: float) -> tuple[tuple[bytes, bool], tuple[bytes, bool], bool]:
    assert process.stdout is not None and process.stderr is not None
    streams = {process.stdout.fileno(): bytearray(), process.stderr.fileno(): bytearray()}
    totals = dict.fromkeys(streams, 0)
    order = list(streams)
    open_ends = set(streams)
    timed_out = False
    poll = select.poll()
    for descriptor in order:
        poll.register(descriptor, select.POLLIN)
    while open_ends:
        left = deadline - time.monotonic()
        if left <= 0 and (timed_out or _ended(process.pid)):
            break
        if left <= 0:
            timed_out, deadline = True, _asked_to_end(process.pid)
            continue
        if _ended(process.pid):
            deadline = min(deadline, time.monotonic() + LINGER_S)
            left = min(left, LINGER_S)
        for descriptor, _events in poll.poll(min(left, 0.2) * 1000):
            data = os.read(descriptor, 1 << 16)
            if not data:
                poll.unregister(descriptor)
                open_ends.discard(descriptor)
            totals[descriptor] += len(data)
            streams[descriptor] += data[: max(0, OUTPUT_LIMIT_BYTES - len(streams[descriptor]))]
    while not _ended(process.pid):
        if time.monotonic() >= deadline and timed_out:
            break
        if time.monotonic() >= deadline:
            timed_out, deadline = True, _asked_to_end(process.pid)
        time.sleep(0.002)
    process.stdout.close()
    process.stderr.close()
    out, err = ((bytes(streams[descriptor]), totals[descriptor] > OUTPUT_LIMIT_BYTES) for descriptor in order)
    return out, err, timed_out


def _ended(pid: int) -> bool:
    """True once the process has ended; it is not collected yet, so its group's number stays ours."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _asked_to_end(pid: int) -> float:
    """Ask the group of a script to end; until when it may take."""
    _signal(pid, signal.SIGTERM)
    return time.monotonic() + GRACE_S


def _kill(pid: int) -> None:
    _signal(pid, signal.SIGKILL)


def _signal(pid: int, number: int) -> None:
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        pass


def kill_all() -> None:
    """End every script that still runs, with a moment to clear up; the agent is about to go."""
    for pid in list(_running):
        _signal(pid, signal.SIGTERM)
    deadline = time.monotonic() + LEAVE_S
    while _running and time.monotonic() < deadline:
        time.sleep(0.005)
    for pid in list(_running):
        _kill(pid)
