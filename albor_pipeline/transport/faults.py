"""What stands between us and a machine, in words: one line that says it, and lines that say what to do. Opens nothing."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from typing import Any

INSTALL = {
    "alpine": "apk add python3",
    "arch": "pacman -S python",
    "debian": "apt-get install python3",
    "fedora": "dnf install python3",
    "opensuse-leap": "zypper install python311",
    "rhel": "dnf install python3.11",
    "ubuntu": "apt-get install python3",
}


class Unusable(Exception):
    """A machine cannot be used: `text` says why in a line, `ways` what to do about it."""

    def __init__(self, text: str, *ways: str) -> None:
        super().__init__(text)
        self.text = text
        self.ways = ways


class Lacking(Unusable):
    """It has not what the agent needs: `what` is `python3` or `blake3`."""

    def __init__(self, what: str, text: str, *ways: str) -> None:
        super().__init__(text, *ways)
        self.what = what


@dataclass(frozen=True)
class HostKey:
    """A host's key as a server shows it or a file records it."""

    kind: str
    base64: str
    fingerprint: str = field(compare=False)

    @classmethod
    def of(cls, key: Any) -> HostKey:
        """The same of a key of the library."""
        return cls(key.get_name(), key.get_base64(), key.fingerprint)

    def __str__(self) -> str:
        return f"{self.kind} {self.fingerprint}"


def unknown_key(name: str, key: HostKey, file: str) -> Unusable:
    """Nobody has said yet that this key is the host's."""
    line = shlex.quote(f"{name} {key.kind} {key.base64}")
    return Unusable(
        f"the host key of {name} is not known: {key}",
        "compare that with what the machine itself says: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub",
        f"to accept it: echo {line} >> {shell_path(file)}",
    )


def changed_key(name: str, shown: HostKey, recorded: HostKey, file: str) -> Unusable:
    """Another key than the recorded one: another machine, or someone in between."""
    return Unusable(
        f"the host key of {name} changed: {recorded} is recorded, {shown} is shown",
        f"nothing was sent. If the machine was made anew, forget the old key: ssh-keygen -f {shell_path(file)} -R {shlex.quote(name)}",
    )


def revoked_key(name: str, key: HostKey, file: str) -> Unusable:
    """The user took the key back."""
    return Unusable(f"the host key of {name} is marked as revoked: {key}", f"it stands in {file}; nothing was sent")


def refused(user: str, where: str, port: int, tried: list[str]) -> Unusable:
    """The server takes none of our keys."""
    keys = f"tried {', '.join(tried)}" if tried else "there is no key here: make one with ssh-keygen"
    at = f"-p {port} " if port != 22 else ""
    return Unusable(
        f"{user}@{where} takes none of our keys ({keys})",
        f"to let a key in: ssh-copy-id -i KEY.pub {at}{user}@{where}; or name the right one: `ssh_key:` and `user:` of the machine",
    )


def locked(keys: list[str]) -> Unusable:
    """A key that only its owner can open."""
    names = " ".join(keys)
    return Unusable(f"the key {names} has a passphrase, and nobody is asked for it here", f"give it to the agent first: ssh-add {names}")


def no_python(system: str, found: str) -> Lacking:
    """Nothing there can run the agent."""
    has = f"; its python3 is {found}" if found else ""
    command = INSTALL.get(system)
    way = f"install it there: sudo {command}" if command else "install python3 there with the system's package manager"
    return Lacking("python3", f"it has no Python 3.9 or newer{has}", way)


def no_blake3(python: str, platform: str, ours: str) -> Lacking:
    """No digests without it, and what we have does not fit."""
    return Lacking(
        "blake3",
        f"its Python {python} ({platform}) has no BLAKE3, and the module here is for {ours}",
        "install there the module `blake3` for that Python, or the program `b3sum`",
    )


def shell_path(path: str) -> str:
    """A path as it is typed; one in the home folder keeps its tilde."""
    return "~/" + shlex.quote(path[2:]) if path.startswith("~/") else shlex.quote(path)
