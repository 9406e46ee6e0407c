"""Containers of this machine that are machines themselves: looked at, made, started and removed by docker or podman. Reaches no agent."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from albor_pipeline.model.manifest import Container
from albor_pipeline.transport.faults import Unusable

OF_PIPELINE = "albor-pipeline"
MADE_WITH = "albor-pipeline.made-with"
LOOK_S = 30.0
# What a container that was made here may lack, and how it comes there: by the package manager of its image, BLAKE3 else by pip.
PROVIDE = r"""
get() {
  if command -v apt-get; then
    apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends "$@"
  elif command -v apk; then apk add --no-cache "$@"
  elif command -v dnf; then dnf -q -y install "$@"
  elif command -v microdnf; then microdnf -y install "$@"
  elif command -v zypper; then zypper -n install "$@"
  else echo "no package manager is known in it" >&2; return 1
  fi
}
case $1 in
  python3) get python3 ;;
  blake3) get b3sum || { get python3-pip || get py3-pip
    python3 -m pip install -q --break-system-packages blake3 || python3 -m pip install -q blake3; } ;;
esac >&2
"""


@dataclass(frozen=True)
class Seen:
    """A container that is there: its id, whether it runs, and, where it was made here, for which pipeline and with what."""

    id: str
    running: bool
    pipeline: str = ""
    made_with: str = ""


def look(container: Container) -> Seen | None:
    """The container as it is; None where there is none of that name. Raises Unusable."""
    done = _call(container, ["container", "inspect", container.name])
    if done.returncode != 0:
        if "no such container" in done.stderr.lower():
            return None
        way = f"see what it says of itself: {container.runtime} info"
        raise Unusable(f"{container.runtime} does not work here: {_last(done.stderr)}", way)
    (told,) = json.loads(done.stdout)
    labels: Mapping[str, str] = told["Config"]["Labels"] or {}
    return Seen(str(told["Id"]), bool(told["State"]["Running"]), labels.get(OF_PIPELINE, ""), labels.get(MADE_WITH, ""))


def check(container: Container, seen: Seen) -> None:
    """Raises Unusable for a container that was made here from something else than what is declared now."""
    if seen.made_with not in ("", digest(container)):
        raise Unusable(
            f"its container {container.name} was made with other settings than the manifest has now",
            f"to make it anew, without what is in it now: {container.runtime} rm -f {shlex.quote(container.name)}",
        )


def make(container: Container, pipeline: str) -> None:
    """Make it and let it run; its image is pulled where it is not here. Raises Unusable, and leaves nothing half made."""
    done = _call(container, words(container, pipeline), env=container.env, limit_s=None)
    if done.returncode == 0:
        return
    left = look(container)
    if left is not None and left.pipeline and not left.running:
        remove(container)
    raise Unusable(f"its container {container.name} cannot be made from {container.image}: {_last(done.stderr)}")


def start(container: Container) -> None:
    """Let a stopped one run. Raises Unusable."""
    done = _call(container, ["start", container.name])
    if done.returncode != 0:
        raise Unusable(f"its container {container.name} cannot be started: {_last(done.stderr)}")


def remove(container: Container) -> None:
    """Take it away with all that is in it, and with its nameless volumes. Raises Unusable."""
    done = _call(container, ["rm", "-f", "-v", container.name], limit_s=None)
    if done.returncode != 0:
        raise Unusable(f"its container {container.name} cannot be removed: {_last(done.stderr)}")


def provide(container: Container, what: str) -> None:
    """Install what the agent needs in a container that was made here: `python3` or `blake3`. Raises Unusable."""
    done = _call(container, ["exec", "-u", "0", container.name, "/bin/sh", "-c", PROVIDE, "sh", what], limit_s=None)
    if done.returncode != 0:
        way = f"take an image that has Python 3.9 or newer, and the module `blake3` or the program `b3sum`, in place of {container.image}"
        raise Unusable(f"{what} cannot be installed in its container {container.name}: {_last(done.stderr)}", way)


def words(container: Container, pipeline: str) -> list[str]:
    """What the engine is told to make it; values of variables go by its environment, where no list of processes shows them."""
    flags = [flag for flag, wanted in (("--init", container.init), ("--privileged", container.privileged)) if wanted]
    given = {
        "--label": (f"{OF_PIPELINE}={pipeline}", f"{MADE_WITH}={digest(container)}"),
        "--gpus": (container.gpus,) if container.gpus else (),
        "--device": container.devices,
        "--group-add": container.group_add,
        "--env": tuple(sorted(container.env)),
        "--volume": container.volumes,
    }
    options = [f"{option}={value}" for option, values in given.items() for value in values]
    return ["run", "-d", f"--name={container.name}", *flags, *options, "--entrypoint=sleep", container.image or "", "infinity"]


def enter(container: Container, user: str | None, *, variables: Sequence[str] = (), terminal: bool = False) -> list[str]:
    """The command line that runs in it what is to be put after it. Raises Unusable."""
    account = ["-u", user] if user else []
    given = [word for variable in variables for word in ("-e", variable)]
    return [_program(container), "exec", "-it" if terminal else "-i", *account, *given, container.name]


def digest(container: Container) -> str:
    """What tells one way of making it from another."""
    settings = {name: value for name, value in asdict(container).items() if name not in ("runtime", "name", "ephemeral")}
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def _program(container: Container) -> str:
    program = shutil.which(container.runtime)
    if program is None:
        raise Unusable(f"{container.runtime}, which its container runs by, is not installed here", "install it, or name another `runtime`")
    return program


def _call(
    container: Container, arguments: Sequence[str], *, env: Mapping[str, str] | None = None, limit_s: float | None = LOOK_S
) -> subprocess.CompletedProcess[str]:
    command = [_program(container), *arguments]
    try:
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False, timeout=limit_s,
            env={**os.environ, **(env or {})}, start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        raise Unusable(f"{command[0]} cannot be started: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise Unusable(f"{container.runtime} did not answer for {limit_s:.0f} s") from None


def _last(said: str) -> str:
    """The last error in what an engine wrote, else its last line."""
    lines = [line.strip() for line in said.splitlines() if line.strip()] or ["it said nothing"]
    return ([line for line in lines if "error" in line.lower()] or lines)[-1]
