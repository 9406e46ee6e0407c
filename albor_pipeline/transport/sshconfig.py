"""Where a machine is and how to log in: the manifest's fields over ~/.ssh/config over the defaults. Opens no connection."""

from __future__ import annotations

import getpass
import io
import os
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from albor_pipeline.model.manifest import Machine
from albor_pipeline.transport.faults import Unusable

CONFIG = ("~/.ssh/config", "/etc/ssh/ssh_config")
KNOWN_HOSTS = "~/.ssh/known_hosts ~/.ssh/known_hosts2"
ALL_KNOWN_HOSTS = "/etc/ssh/ssh_known_hosts"
MATCH_EXEC = re.compile(r"^\s*match\b.*\bexec\b", re.IGNORECASE | re.MULTILINE)
MAX_JUMPS = 8
MAX_INCLUDES = 100
CONNECT_S = 10.0


@dataclass(frozen=True)
class Hop:
    """One SSH server on the way; `key_name` is what its host key is filed under."""

    host: str
    port: int
    user: str
    key_name: str
    keys: tuple[str, ...]
    only_these_keys: bool
    known_hosts: tuple[str, ...]
    connect_s: float = CONNECT_S
    connects: int = 1
    proxy_command: str | None = None

    @property
    def where(self) -> str:
        """`host:port`."""
        return f"{self.host}:{self.port}"


def route(machine: Machine, root: str) -> list[Hop]:
    """The servers to go through, the machine itself last. Raises Unusable.

    The environment's ALBOR_SSH_CONFIG names a file that is read in place of the user's and the system's.
    """
    given: dict[str, Any] = {"port": machine.port, "user": machine.user, "jump": machine.jump, "connects": machine.connects}
    if machine.ssh_key is not None:
        key = Path(root, Path(machine.ssh_key).expanduser())
        if not key.is_file():
            raise Unusable(f"its `ssh_key` {machine.ssh_key} is not there", f"looked for {key}")
        given["key"] = str(key)
    if machine.known_hosts is not None:
        given["known_hosts"] = str(Path(root, Path(machine.known_hosts).expanduser()))
    return _way(read_config(), machine.addr, given, [])


def _way(config: Any, name: str, given: Mapping[str, Any], through: list[str]) -> list[Hop]:
    if len(through) > MAX_JUMPS or name in through:
        raise Unusable(f"the way to it goes in a circle: {' > '.join([*through, name])}", "look at ProxyJump in the SSH configuration")
    found = _look_up(config, name)
    hop = _hop(found, name, given)
    jumps = given.get("jump") or found.get("proxyjump") or "none"
    if jumps.lower() == "none":
        return [hop]
    *before, last = jumps.split(",")
    host, settings = _parse(last.strip())
    settings["connects"] = given["connects"]
    if before:
        settings["jump"] = ",".join(before)
    return [*_way(config, host, settings, [*through, name]), hop]


def _look_up(config: Any, name: str) -> Mapping[str, Any]:
    try:
        found: Mapping[str, Any] = config.lookup(name)
    except Exception as error:  # the library raises what comes, also for a missing companion of its own
        raise Unusable(f"the SSH configuration cannot be used for {name}: {error}") from None
    return found


def _hop(found: Mapping[str, Any], name: str, given: Mapping[str, Any]) -> Hop:
    host = str(found.get("hostname") or name)
    port = given.get("port") or _number(found.get("port")) or 22
    alias = found.get("hostkeyalias") or host
    named = [str(Path(path).expanduser()) for path in found.get("identityfile", ()) if path.lower() != "none"]
    keys = [given["key"]] if given.get("key") else [path for path in named if Path(path).is_file()]
    files = [given["known_hosts"]] if given.get("known_hosts") else str(found.get("userknownhostsfile") or KNOWN_HOSTS).split()
    files += str(found.get("globalknownhostsfile") or ALL_KNOWN_HOSTS).split()
    command = found.get("proxycommand")
    return Hop(
        host=host,
        port=port,
        user=given.get("user") or found.get("user") or getpass.getuser(),
        key_name=str(alias) if port == 22 or found.get("hostkeyalias") else f"[{alias}]:{port}",
        keys=tuple(keys),
        only_these_keys=bool(given.get("key")) or str(found.get("identitiesonly", "")).lower() == "yes",
        known_hosts=tuple(files),
        connect_s=float(_number(found.get("connecttimeout")) or CONNECT_S),
        connects=given.get("connects") or _number(found.get("connectionattempts")) or 1,
        proxy_command=str(command) if command and str(command).lower() != "none" else None,
    )


def _number(text: Any) -> int:
    return int(text) if text is not None and str(text).isdigit() else 0


def _parse(text: str) -> tuple[str, dict[str, Any]]:
    """`user@host:port`, each of user and port where it is given."""
    user, _, rest = text.removeprefix("ssh://").rpartition("@")
    host, colon, port = rest.rpartition(":")
    if not colon or not port.isdigit() or (":" in host and not host.startswith("[")):
        host, port = rest, ""
    return host.strip("[]"), {"user": user or None, "port": int(port) if port else None}


def config_texts() -> dict[Path, str]:
    """The configuration files, included files in their place; a file that is not there is empty."""
    chosen = os.environ.get("ALBOR_SSH_CONFIG")
    paths = [Path(name).expanduser() for name in ((chosen,) if chosen else CONFIG)]
    left = [MAX_INCLUDES]
    return {path: "\n".join([*_lines(path, left), ""]) for path in paths}


def runs_programs(texts: Iterable[str]) -> bool:
    """Whether a program decides what the configuration says."""
    return any(MATCH_EXEC.search(text) for text in texts)


def read_config() -> Any:
    """What the configuration files say. Raises Unusable."""
    files = config_texts()
    config = _reader(runs_programs(files.values()))()
    for path, text in files.items():
        try:
            config.parse(io.StringIO(text))
        except Exception as error:  # as in _look_up
            raise Unusable(f"{path} cannot be read: {error}") from None
    return config


def import_library() -> None:
    """Import the library; in the thread of a connection it would take turns with whatever is done beside that."""
    _reader(with_invoke=False)


def _reader(with_invoke: bool) -> Any:
    """The library's reader. It needs `invoke` for `Match exec` alone, which takes nearly as long to import as all the rest of it."""
    if not with_invoke and "paramiko" not in sys.modules:
        sys.modules["invoke"] = None  # type: ignore[assignment]  # so that its import fails, which the library allows for
        try:
            import paramiko
        finally:
            sys.modules.pop("invoke", None)
    import paramiko.config

    if with_invoke and paramiko.config.invoke is None:
        import invoke

        paramiko.config.invoke = invoke
    return paramiko.config.SSHConfig


def _lines(path: Path, left: list[int]) -> list[str]:
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return []
    found = []
    for line in text.splitlines():
        word, _, rest = line.strip().replace("=", " ", 1).partition(" ")
        if word.lower() != "include":
            found.append(line)
            continue
        for pattern in rest.split():
            base = Path("/etc/ssh") if path.is_relative_to("/etc/ssh") else path.parent
            whole = base / Path(pattern.strip('"')).expanduser()
            for name in sorted(Path(whole.anchor).glob(str(whole.relative_to(whole.anchor)))):
                left[0] -= 1
                found += _lines(name, left) if left[0] >= 0 else []
    return found
