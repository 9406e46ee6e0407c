"""One command as a process: started only when its supervisor says so, waited for, stopped with all it started. Knows no attempt folder.

The child is forked first and waits at a gate; its pid can so be made durable before the command runs. When the
supervisor dies in between, the gate closes and the child ends without having run anything.
"""

from __future__ import annotations

import os
import signal
import time

from albor_pipeline.agent import liveness

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

WATCHED = frozenset((signal.SIGCHLD, signal.SIGUSR1, signal.SIGTERM, signal.SIGINT, signal.SIGHUP))
PR_SET_CHILD_SUBREAPER = 36
LEFTOVER_GRACE_S = 2.0
SLICE_S = 2.0


def become_subreaper() -> None:
    """Make this process the parent of whatever its descendants leave behind."""
    import ctypes

    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


class Child:
    """A forked process that waits for release(); `status` is waitpid's once it has ended."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str], cwd: str, log: int) -> None:
        gate_read, self._gate = os.pipe()
        self._failure, failure_write = os.pipe()
        self.status: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._gate)
            _become(argv, env, cwd, log, gate_read, failure_write)
        os.close(gate_read)
        os.close(failure_write)

    def release(self) -> None:
        """Let the command run."""
        try:
            os.write(self._gate, b"g")
        except BrokenPipeError:
            pass
        os.close(self._gate)

    def failure(self) -> str:
        """Why the command could not be executed, empty when it was; to be asked once, after the end."""
        text = os.read(self._failure, 4096).decode("utf-8", "replace")
        os.close(self._failure)
        return text

    def kill(self, number: int) -> None:
        """Send a signal to the command's process group."""
        try:
            os.killpg(self.pid, number)
        except (ProcessLookupError, PermissionError):
            pass

    def reap(self) -> bool:
        """Collect what has ended, orphans included; True once the command itself is gone."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return self.status is not None
            if pid == 0:
                return self.status is not None
            if pid == self.pid:
                self.status = status

    def wait(self, timeout_s: float) -> int:
        """Wait for a signal that concerns us, at most so long; its number, 0 when the time is over."""
        if self.reap():
            return signal.SIGCHLD
        found = signal.sigtimedwait(WATCHED, max(0.0, timeout_s))
        return found.si_signo if found else 0

    def stop(self, grace_s: float) -> None:
        """TERM to the group, `grace_s` of patience, then KILL; returns when the command is gone."""
        self.kill(signal.SIGTERM)
        self.kill(signal.SIGCONT)
        deadline = time.monotonic() + grace_s
        while not self.reap():
            left = deadline - time.monotonic()
            if left <= 0:
                self.kill(signal.SIGKILL)
            self.wait(min(left, SLICE_S) if left > 0 else 0.1)


def _become(argv: Sequence[str], env: Mapping[str, str], cwd: str, log: int, gate: int, failure: int) -> None:
    """In the child: set the process up, wait at the gate, run the command; never returns."""
    try:
        os.setsid()
        null = os.open("/dev/null", os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        for number in (
            signal.SIGPIPE,
            signal.SIGXFSZ,
            signal.SIGCHLD,
            signal.SIGUSR1,
            signal.SIGTERM,
            signal.SIGINT,
            signal.SIGHUP,
        ):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.umask(0o022)
        if os.read(gate, 1) != b"g":
            os._exit(125)
        os.chdir(cwd)
        os.execvpe(argv[0], list(argv), dict(env))
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        what = error.filename if isinstance(error.filename, str) else argv[0]
        text = "cannot run %s: %s: %s" % (argv[0], what, error.strerror)
        os.write(failure, text.encode("utf-8", "replace"))
        os.write(2, ("albor: %s\n" % text).encode("utf-8", "replace"))
        os._exit(127 if missing else 126)
    finally:
        os._exit(126)


def end_descendants(grace_s: float) -> int:
    """Stop every process that is left below this one: TERM, patience, KILL; returns how many, when none lives."""
    deadline = time.monotonic() + min(grace_s, LEFTOVER_GRACE_S)
    told: set[int] = set()
    while True:
        try:
            pid, _status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return len(told)
        if pid:
            continue
        late = time.monotonic() >= deadline
        for other in _below(os.getpid()):
            if late or other not in told:
                _kill(other, signal.SIGKILL if late else signal.SIGTERM)
                told.add(other)
        signal.sigtimedwait({signal.SIGCHLD}, 0.05)


def _below(pid: int) -> list[int]:
    found, queue = [], [pid]
    while queue:
        direct = liveness.children(queue.pop())
        found += direct
        queue += direct
    return found


def _kill(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        pass


def end_members(record: Mapping[str, object], folder: str, grace_s: float) -> bool:
    """Stop an attempt that has no supervisor any more, from outside; True when none of its processes lives."""
    deadline = time.monotonic() + grace_s
    told: set[int] = set()
    while True:
        alive = liveness.members(record, folder)
        if not alive:
            return True
        late = time.monotonic() >= deadline
        if time.monotonic() >= deadline + 30:
            return False
        for pid in alive:
            if late or pid not in told:
                _kill(pid, signal.SIGKILL if late else signal.SIGTERM)
                told.add(pid)
        time.sleep(0.05)
