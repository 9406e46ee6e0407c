"""One command as a process of its supervisor's session: started, waited for, stopped with all it started. Knows no attempt folder.

It is started without a second fork of this interpreter (posix_spawn), which halves what a short task costs. Nobody needs
its pid to find it later: it is in its supervisor's session, and until it has been executed it holds the `alive` lock too.
"""

from __future__ import annotations

import errno
import os
import signal
import time

from albor_pipeline.agent import liveness

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

WATCHED = frozenset((signal.SIGCHLD, signal.SIGUSR1, signal.SIGTERM, signal.SIGINT, signal.SIGHUP))
CHILD_ENDED = frozenset((signal.SIGCHLD,))
DEFAULTS = (*sorted({*WATCHED, signal.SIGQUIT}), signal.SIGPIPE, signal.SIGXFSZ)
PR_SET_CHILD_SUBREAPER = 36
SIGNAL_SET_BYTES = 128
SHELL = ("/bin/bash", "-c")
PLAIN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-+./,:=@ ")
# fmt: off
SHELL_WORDS = frozenset((
    ".", ":", "alias", "bg", "bind", "break", "builtin", "caller", "case", "cd", "command", "compgen",
    "complete", "compopt", "continue", "coproc", "declare", "dirs", "disown", "do", "done", "echo", "elif",
    "else", "enable", "esac", "eval", "exec", "exit", "export", "false", "fc", "fg", "fi", "for", "function",
    "getopts", "hash", "help", "history", "if", "in", "jobs", "kill", "let", "local", "logout", "mapfile",
    "popd", "printf", "pushd", "pwd", "read", "readarray", "readonly", "return", "select", "set", "shift",
    "shopt", "source", "suspend", "test", "then", "time", "times", "trap", "true", "type", "typeset", "ulimit",
    "umask", "unalias", "unset", "until", "wait", "while",
))
# fmt: on
LEFTOVER_GRACE_S = 2.0
SLICE_S = 2.0


def become_subreaper() -> None:
    """Make this process the parent of whatever its descendants leave behind."""
    import ctypes

    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


_library: Any = None
_sets: dict[frozenset[int], Any] = {}


def take_signal(watched: frozenset[int], timeout_s: float) -> int:
    """Wait for one of these signals, at most so long; its number, 0 when the time is over.

    Asked of the C library: Python's sigtimedwait() makes a number up when its process was stopped or frozen beyond the time.
    """
    import ctypes

    wanted = _sets.get(watched) or _signal_set(watched)
    deadline = time.monotonic() + timeout_s
    while True:
        left_s = max(0.0, deadline - time.monotonic())
        found: int = _library.sigtimedwait(wanted, None, (ctypes.c_long * 2)(int(left_s), int(left_s % 1 * 1e9)))
        if found > 0:
            return found
        if ctypes.get_errno() != errno.EINTR or left_s == 0.0:
            return 0


def _signal_set(watched: frozenset[int]) -> Any:
    """The signals as the C library wants them; made once."""
    import ctypes

    global _library
    _library = _library or ctypes.CDLL(None, use_errno=True)
    made = _sets[watched] = ctypes.create_string_buffer(SIGNAL_SET_BYTES)
    _library.sigemptyset(made)
    for number in watched:
        _library.sigaddset(made, int(number))
    return made


class Child:
    """A running command, leader of its own process group; `status` is waitpid's once it has ended."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str]) -> None:
        """Run the command here, with this process's stdio and folder. Raises OSError that says what cannot be run."""
        self.status: int | None = None
        words = plain_words(argv, env)
        try:
            self.pid = _spawn(words or argv, env)
        except OSError:
            if not words:
                raise
            self.pid = _spawn(argv, env)

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
        return take_signal(WATCHED, timeout_s)

    def stop(self, grace_s: float) -> float:
        """TERM to the group, `grace_s` of patience, then KILL; returns when the command is gone, with what is left of the grace."""
        self.kill(signal.SIGTERM)
        self.kill(signal.SIGCONT)
        deadline = time.monotonic() + grace_s
        while not self.reap():
            left = deadline - time.monotonic()
            if left <= 0:
                self.kill(signal.SIGKILL)
            self.wait(min(left, SLICE_S) if left > 0 else 0.1)
        return max(0.0, deadline - time.monotonic())


def plain_words(argv: Sequence[str], env: Mapping[str, str]) -> list[str]:
    """The words of a `bash -c` command that means the same without bash, empty for every other (as make does it).

    Only unquoted words of letters that mean nothing to the shell, the first of them no builtin, keyword or assignment.
    What then cannot be executed is left to bash, for its message and its ways with scripts.
    """
    if len(argv) != 3 or tuple(argv[:2]) != SHELL or not PLAIN.issuperset(argv[2]):
        return []
    if any(name.startswith(("BASH", "SHELLOPTS")) for name in env):
        return []
    words = argv[2].split()
    return [] if not words or "=" in words[0] or words[0] in SHELL_WORDS else words


def _spawn(argv: Sequence[str], env: Mapping[str, str]) -> int:
    program = find_program(argv[0], env)
    return os.posix_spawn(program, list(argv), env, setpgroup=0, setsigmask=(), setsigdef=DEFAULTS)


def find_program(name: str, env: Mapping[str, str]) -> str:
    """The path of a command, by the PATH that it will have. Raises FileNotFoundError, PermissionError."""
    if "/" in name:
        return name
    found = None
    for folder in (env.get("PATH") or os.defpath).split(":"):
        path = os.path.join(folder or ".", name)
        if os.path.isfile(path):
            if os.access(path, os.X_OK):
                return path
            found = path
    if found is not None:
        raise PermissionError(13, "Permission denied", found)
    raise FileNotFoundError(2, "command not found", name)


def end_descendants(patience_s: float, told_group: int = 0) -> None:
    """Stop every process that is left below this one: TERM, which `told_group` had before, patience, KILL; returns when none lives."""
    deadline = time.monotonic() + patience_s
    told: set[int] = set()
    while True:
        try:
            pid, _status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid:
            continue
        late = time.monotonic() >= deadline
        for other in _below(os.getpid()):
            if late or (other not in told and _group(other) != told_group):
                _kill(other, signal.SIGKILL if late else signal.SIGTERM)
                told.add(other)
        take_signal(CHILD_ENDED, 0.05)


def _below(pid: int) -> list[int]:
    found, queue = [], [pid]
    while queue:
        direct = liveness.children(queue.pop())
        found += direct
        queue += direct
    return found


def _group(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return 0


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
