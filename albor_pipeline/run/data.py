"""Data sources: values that the controller reads when a plan is made. Writes nothing; no machine is asked."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from albor_pipeline.errors import AlborError
from albor_pipeline.model.manifest import DataSource

COMMAND_LIMIT_S = 60.0
STATES = ("albor.lock.yaml", "forjar.lock.yaml")
NAMES = ("pipeline", "name")  # of the pipeline, in the one and in the other


def fetcher(root: Path) -> Callable[[DataSource], Mapping[str, str]]:
    """What reads a source of the project below `root`: its outputs by name, or one text under the empty name."""

    def fetch(source: DataSource) -> Mapping[str, str]:
        if source.type == "file":
            return {"": _file(root / source.value, source.value)}
        if source.type == "command":
            return {"": _command(source.value, root)}
        if source.type == "dns":
            return {"": _address(source.value)}
        return _outputs(root / source.state_dir, source)

    return fetch


def _file(path: Path, shown: str) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError, ValueError) as error:
        why = (error.strerror or "cannot be read").lower() if isinstance(error, OSError) else "is no text file"
        raise AlborError.of("data", f"{shown}: {why}") from None


def _command(command: str, root: Path) -> str:
    argv = ["/bin/sh", "-c", command]
    try:
        done = subprocess.run(
            argv, cwd=root, stdin=subprocess.DEVNULL, capture_output=True, timeout=COMMAND_LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise AlborError.of("data", f"its command took more than {COMMAND_LIMIT_S:.0f} s") from None
    if done.returncode != 0:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise AlborError.of("data", f"its command ended with exit {done.returncode}" + (f": {lines[-1]}" if lines else ""))
    return done.stdout.decode("utf-8", "replace").strip()


def _address(name: str) -> str:
    """The first address of a host name, IPv4 before IPv6, the lowest first, so that it is the same every time."""
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else "no such host"
        raise AlborError.of("data", f"{name}: {why.lower()}") from None
    return min((family != socket.AF_INET, str(address[0])) for family, _, _, _, address in found)[1]


def _outputs(folder: Path, source: DataSource) -> Mapping[str, str]:
    path = next((folder / name for name in STATES if (folder / name).is_file()), None)
    if path is None:
        raise AlborError.of("data", f"{source.state_dir} holds no state")
    try:
        document: Any = yaml.load(path.read_text(encoding="utf-8"), yaml.CSafeLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        raise AlborError.of("data", f"{source.state_dir}/{path.name} cannot be read") from None
    header = document[0] if isinstance(document, list) and document else document
    name = next((header[key] for key in NAMES if key in header), "") if isinstance(header, dict) else ""
    if source.config not in (None, name):
        raise AlborError.of("data", f"{source.state_dir} is the state of `{name}`, not of `{source.config}`")
    outputs = header.get("outputs") if isinstance(header, dict) else None
    found = {str(key): str(value) for key, value in outputs.items()} if isinstance(outputs, dict) else {}
    missing = [name for name in source.outputs if name not in found]
    if missing:
        raise AlborError.of("data", f"{source.state_dir} has no output `{missing[0]}`")
    return {name: found[name] for name in source.outputs} if source.outputs else found
