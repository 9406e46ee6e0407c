"""The controller's part of putting the agent on a machine: what is typed there, and what is sent when it is asked for. Knows no SSH."""

from __future__ import annotations

import hashlib
import json
import shlex
import sys
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from albor_pipeline.agent import arrive, wire
from albor_pipeline.transport.bundle import ensure_bundle
from albor_pipeline.transport.faults import Unusable, no_blake3, no_python

PYTHONS = ("python3", *(f"python3.{minor}" for minor in range(15, 8, -1)))
NO_PYTHON = "albor-agent finds no python "
IS_NEW = "import sys; sys.exit(sys.version_info < (3, 9))"
RUN = "import sys; exec(bytes.fromhex(sys.argv[1]))"
SCRIPT = (
    f'for p in {" ".join(PYTHONS)}; do command -v "$p" >/dev/null 2>&1 && "$p" -I -S -c "{IS_NEW}" </dev/null 2>/dev/null'
    f' && exec "$p" -I -S -c "{RUN}" "$0" "$1"; done; echo; '
    f'echo "{NO_PYTHON}$(. /etc/os-release 2>/dev/null; echo "$ID") $(python3 -V 2>&1 | grep "^Python [0-9]")"'
)
MAX_LINE_BYTES = 1 << 20


@cache
def _agent() -> tuple[Path, str]:
    path = ensure_bundle()
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


def command(workdir: str, lineage: str, machine: str, *, again: bool = False) -> str:
    """The line for the login shell: one call of /bin/sh, whose arguments no shell can misread. Raises OSError.

    `again`: the agent is there, and settle() is not needed.
    """
    path, digest = _agent()
    order = {"agent": {"name": path.name, "sha256": digest}, "workdir": workdir, "lineage": lineage, "machine": machine, "again": again}
    program = Path(arrive.__file__).read_bytes()
    return f"/bin/sh -c {shlex.quote(SCRIPT)} {program.hex()} {json.dumps(order).encode().hex()}"


def settle(receive: Callable[[], bytes], send: Callable[[bytes], object]) -> bytes:
    """Wait for the machine's first word and send what it lacks; the bytes that came after that word. Raises Unusable."""
    seen = bytearray()
    while True:
        at = seen.find(arrive.HERE.encode())
        end = seen.find(b"\n", at)
        if at >= 0 and end >= 0:
            break
        lost = seen.find(NO_PYTHON.encode())
        if lost >= 0 and seen.find(b"\n", lost) >= 0:
            words = seen[lost + len(NO_PYTHON) : seen.find(b"\n", lost)].decode("utf-8", "replace").split(" ", 1)
            raise no_python(words[0], words[-1].strip() if len(words) > 1 else "")
        data = receive()
        if not data or len(seen) > wire.MAX_NOISE_BYTES:
            raise Unusable(_last_line(bytes(seen)) or "its shell ended before the agent was there")
        seen += data
    told = json.loads(seen[at + len(arrive.HERE) : end])
    if told["needs"]:
        for part in _parcel(told):
            send(part)
    return bytes(seen[end + 1 :])


def _last_line(data: bytes) -> str:
    lines = [line.strip() for line in data.decode("utf-8", "replace").splitlines() if line.strip()]
    return lines[-1] if lines else ""


def _parcel(told: Mapping[str, Any]) -> list[bytes]:
    """The list of files and then their bytes."""
    path, _digest = _agent()
    files = {path.name: path.read_bytes()} if "agent" in told["needs"] else {}
    if "blake3" in told["needs"]:
        files |= _module(told)
    items = [{"path": name, "size_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in files.items()]
    return [json.dumps({"files": items}).encode() + b"\n", *files.values()]


def _module(told: Mapping[str, Any]) -> dict[str, bytes]:
    """Our own blake3 where it was built for such an interpreter and system; its `__init__.py` goes last and makes it whole."""
    import blake3

    folder = Path(blake3.__file__).parent
    built = [path.name for path in folder.glob("*.so")]
    fitting = tuple(suffix for suffix in told["suffixes"] if suffix != ".so")
    if not any(name.endswith(fitting) for name in built):
        if told["b3sum"]:
            return {}
        raise no_blake3(told["python"], told["platform"], f"Python {sys.version_info[0]}.{sys.version_info[1]} ({', '.join(built)})")
    paths = sorted((path for path in folder.iterdir() if path.is_file()), key=lambda path: path.name == "__init__.py")
    bodies = {path.name: path.read_bytes() for path in paths}
    digest = hashlib.sha256(b"".join(bodies.values())).hexdigest()[:16]
    return {f"blake3-{digest}/blake3/{name}": body for name, body in bodies.items()}
