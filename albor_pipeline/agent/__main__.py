"""Entry of the agent program: fork the spawner while this process is still small, then serve frames on stdin and stdout.

    python -I -S agent.pyz --workdir W --lineage L --machine NAME [--path FOLDERS]

-S spares the site folders, whose start-up files may cost more than all of this; --path names where blake3 is, when known.
Everything is imported before it serves, so that the file may be replaced under it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

USAGE = 64
SET_PIPE_SIZE, PIPE_BYTES = 1031, 1 << 20  # F_SETPIPE_SZ, which Python 3.9 does not name; with less, data comes in small pieces


def options(words: list[str]) -> dict[str, str]:
    """`--name value` pairs; ends the program with 64 when they are something else."""
    names = words[::2]
    if len(words) % 2 or any(
        name not in ("--workdir", "--lineage", "--machine", "--path", "--spawner", "--as") for name in names
    ):
        sys.stderr.write("usage: agent --workdir FOLDER --lineage ID --machine NAME\n")
        raise SystemExit(USAGE)
    return {name[2:]: value for name, value in zip(names, words[1::2])}  # noqa: B905 (Python 3.9)


def spawn(workdir: str, machine: str) -> tuple[int, int]:
    """Fork the spawner: the pipe to ask through, the pipe that answers."""
    request_read, request_write = os.pipe()
    reply_read, reply_write = os.pipe()
    if os.fork() == 0:
        from albor_pipeline.agent.spawner import run_spawner

        run_spawner(workdir, machine, request_read, reply_write)
    os.close(request_read)
    os.close(reply_write)
    return request_write, reply_read


def main(words: list[str]) -> int:
    """Serve one connection; the exit code."""
    given = options(words)
    workdir, machine = os.path.realpath(given.get("workdir", ".")), given.get("machine", "localhost")
    os.umask(0o022)
    sys.path += [folder for folder in given.get("path", "").split(":") if folder]
    if given.get("as") == "root":
        from albor_pipeline.agent.converging import serve_as_root

        return serve_as_root(workdir)
    if "spawner" in given:
        from albor_pipeline.agent.spawner import run_spawner

        requests, _comma, replies = given["spawner"].partition(",")
        run_spawner(workdir, machine, int(requests), int(replies))
    try:
        os.makedirs(os.path.join(workdir, ".albor"), exist_ok=True)
        os.chdir(workdir)
    except OSError as error:
        sys.stderr.write("the working directory cannot be used: %s: %s; %s\n" % (error.filename, error.strerror, _way_out(workdir, error)))
        return 1
    pipes = spawn(workdir, machine)
    return serve(workdir, given.get("lineage", ""), machine, pipes)


def _way_out(workdir: str, error: OSError) -> str:
    import shlex

    from albor_pipeline.agent.files import owner

    if error.errno not in (errno.EACCES, errno.EPERM):
        return "mend that, or give the machine another `workdir`"
    make = shlex.join(["sudo", "install", "-d", "-o", owner(os.geteuid()), workdir])
    return "make it there once: %s, or give the machine a `workdir` that its user may write" % make


def serve(workdir: str, lineage: str, machine: str, pipes: tuple[int, int]) -> int:
    """Run the loop on descriptors of its own; what prints by accident goes to stderr and not between frames."""
    import signal

    from albor_pipeline.agent import facts, logout
    from albor_pipeline.agent.layout import Layout
    from albor_pipeline.agent.server import Server
    from albor_pipeline.agent.starts import Spawning
    from albor_pipeline.agent.verbs import VERBS
    from albor_pipeline.agent.wire import FrameError

    incoming, outgoing = os.dup(0), os.dup(1)
    for pipe in (incoming, outgoing):
        with contextlib.suppress(OSError):  # a socket, or more than this user may have
            fcntl.fcntl(pipe, SET_PIPE_SIZE, PIPE_BYTES)
    null = os.open("/dev/null", os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(2, 1)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    spawning = Spawning(*pipes)
    if logout.logout_kills():
        spawning.scope = logout.scope_words(facts.user(), os.geteuid() == 0)
        if spawning.scope:
            spawning.respawn()
    server = Server(Layout(workdir), lineage, machine, spawning, VERBS)
    try:
        server.run(incoming, outgoing)
        return 0
    except (BrokenPipeError, ConnectionResetError):
        return 0
    except FrameError as error:
        sys.stderr.write("the connection is not usable: %s\n" % error)
        return 1
    finally:
        server.close()


def entry() -> NoReturn:
    """Run the program and end the process, whatever threads are left."""
    try:
        status = main(sys.argv[1:])
    except SystemExit as error:
        status = int(error.code or 0)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 70
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    entry()
