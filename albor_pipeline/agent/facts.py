"""What a machine is: ids, size, GPUs, interpreter, installed distributions. Changes nothing but the user's cache folder."""

from __future__ import annotations

import os
import re
import sys

from albor_pipeline.agent import liveness, logout
from albor_pipeline.agent.layout import read_bytes, read_json, replace_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

GPU_TIMEOUT_S = 5.0
PYTHON_TIMEOUT_S = 20.0
MACHINE_ID = "ALBOR_MACHINE_ID"
_DIST = re.compile(r"^(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*?)-(?P<version>[^-]+)(?:-py[0-9.]+)?\.(?:dist|egg)-info$")


def cache_folder() -> str:
    """The user's cache folder for this program."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "albor")


def machine_id() -> str:
    """What tells this machine from others: what its container is known by, else /etc/machine-id, else a random id in the user's cache."""
    if os.environ.get(MACHINE_ID):
        return os.environ[MACHINE_ID]
    for path in ("/etc/machine-id", os.path.join(cache_folder(), "machine-id")):
        text = (read_bytes(path) or b"").decode("ascii", "replace").strip()
        if text:
            return text
    made = os.urandom(16).hex()
    os.makedirs(cache_folder(), exist_ok=True)
    replace_file(os.path.join(cache_folder(), "machine-id"), made.encode("ascii") + b"\n", sync=True)
    return made


def gpus() -> list[str]:
    """One line a GPU, as the driver names it; empty where there is none."""
    found = []
    base = "/proc/driver/nvidia/gpus"
    try:
        for name in sorted(os.listdir(base)):
            lines = (read_bytes(os.path.join(base, name, "information")) or b"").decode("utf-8", "replace").split("\n")
            values = {key.strip(): value.strip() for key, _colon, value in (line.partition(":") for line in lines)}
            found.append("%s (UUID: %s)" % (values.get("Model", "NVIDIA GPU"), values.get("GPU UUID", name)))
    except OSError:
        pass
    return found or (ask_driver() if os.path.exists("/dev/nvidiactl") else [])


def ask_driver() -> list[str]:
    """The GPUs by nvidia-smi, empty where it does not answer in time."""
    import subprocess

    try:
        done = subprocess.run(
            ["nvidia-smi", "-L"], stdin=subprocess.DEVNULL, capture_output=True, timeout=GPU_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return [
        line.partition(": ")[2]
        for line in done.stdout.decode("utf-8", "replace").splitlines()
        if line.startswith("GPU ")
    ]


def memory_bytes() -> int:
    """Physical memory."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def disk_free_bytes(path: str) -> int:
    """What an ordinary user may still write where `path` lies."""
    info = os.statvfs(path)
    return info.f_bavail * info.f_frsize


def user() -> str:
    """The account's name, its number where it has none."""
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def facts(workdir: str) -> dict[str, Any]:
    """What hello says of the machine."""
    system = os.uname()
    return {
        "python": "%d.%d.%d" % sys.version_info[:3],
        "platform": "%s %s %s" % (system.sysname, system.release, system.machine),
        "machine_id": machine_id(),
        "boot_id": liveness.boot_id(),
        "hostname": system.nodename,
        "user": user(),
        "pid": os.getpid(),
        "cpus": len(os.sched_getaffinity(0)),
        "memory_bytes": memory_bytes(),
        "gpus": gpus(),
        "disk_free_bytes": disk_free_bytes(workdir),
        "workdir": workdir,
        "network_fs": liveness.is_network(workdir),
        "logout_kills": logout.logout_kills() and not logout.scope_words(user(), os.geteuid() == 0),
    }


def distributions(python: str | None) -> dict[str, Any]:
    """Version and installed distributions of an interpreter (None: this one), names as in PEP 503. Raises OSError, ValueError.

    A virtual environment is read from its folders without starting it.
    """
    if python is None:
        python = sys.executable
    prefix = os.path.dirname(os.path.dirname(os.path.abspath(python)))
    config = _pyvenv(prefix)
    if not config and python == sys.executable:
        from site import getsitepackages

        return {"python": "%d.%d.%d" % sys.version_info[:3], "dists": _scan([*getsitepackages(), *sys.path])}
    version = config.get("version") or config.get("version_info", "")
    words = version.split(".")
    if len(words) >= 3 and config.get("include-system-site-packages", "false") == "false":
        if not os.access(python, os.X_OK):
            raise FileNotFoundError(2, "no interpreter there", python)
        site = [
            os.path.join(prefix, lib, "python%s.%s" % (words[0], words[1]), "site-packages") for lib in ("lib", "lib64")
        ]
        return {"python": ".".join(words[:3]), "dists": _scan(site)}
    return _ask_interpreter(python)


def _pyvenv(prefix: str) -> dict[str, str]:
    text = (read_bytes(os.path.join(prefix, "pyvenv.cfg")) or b"").decode("utf-8", "replace")
    pairs = (line.partition("=") for line in text.split("\n"))
    return {key.strip().lower(): value.strip() for key, _equals, value in pairs}


def _scan(folders: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for folder in folders:
        try:
            names = os.listdir(folder or ".")
        except OSError:
            continue
        for name in names:
            match = _DIST.match(name)
            if match:
                found.setdefault(re.sub(r"[-_.]+", "-", match["name"]).lower(), match["version"])
    return dict(sorted(found.items()))


def _ask_interpreter(python: str) -> dict[str, Any]:
    import json
    import subprocess

    script = "import json,sys;print(json.dumps([list(sys.version_info[:3]),sys.path]))"
    try:
        done = subprocess.run(
            [python, "-I", "-c", script],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PYTHON_TIMEOUT_S,
            check=True,
        )
        version, path = json.loads(done.stdout)
    except subprocess.SubprocessError as error:
        raise ValueError("%s does not work: %s" % (python, error)) from None
    return {"python": ".".join(str(part) for part in version), "dists": _scan(path)}


def heads(path: str) -> dict[str, Any]:
    """The journal heads kept in .albor/head: {lineage: {"count", "digest"}}."""
    return read_json(path) or {}
