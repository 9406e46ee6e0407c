"""Which host keys the user has accepted: files of known hosts, read as OpenSSH reads them. Opens no connection, accepts nothing.

Names are plain, hashed (`|1|salt|hash`), or patterns with `*`, `?` and `!`. A `@revoked` key is refused for every host it names;
certificate authorities say nothing here, since certificates of hosts are not looked at. A line that is none is passed over.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from albor_pipeline.transport.faults import HostKey, changed_key, revoked_key, unknown_key

REVOKED = "@revoked"


@dataclass(frozen=True)
class Recorded:
    """One line that speaks of a host: the file it stands in, and the key."""

    file: str
    mark: str
    key: HostKey


def recorded(name: str, files: Sequence[str]) -> list[Recorded]:
    """Every line about a host, in the order of the files."""
    return [line for file in files for line in _lines(file, name)]


def check(name: str, files: Sequence[str], shown: HostKey) -> None:
    """Raise Unusable unless the key that a host shows is one that was accepted for it."""
    known = recorded(name, files)
    for line in known:
        if line.mark == REVOKED and line.key == shown:
            raise revoked_key(name, shown, line.file)
    accepted = [line for line in known if not line.mark]
    if any(line.key == shown for line in accepted):
        return
    if not accepted:
        raise unknown_key(name, shown, files[0])
    nearest = next((line for line in accepted if line.key.kind == shown.kind), accepted[0])
    raise changed_key(name, shown, nearest.key, nearest.file)


def _lines(file: str, name: str) -> Iterator[Recorded]:
    try:
        text = Path(file).expanduser().read_text(errors="replace")
    except OSError:
        return
    for line in text.splitlines():
        words = line.split()
        mark = words.pop(0) if words and words[0].startswith("@") else ""
        if len(words) >= 3 and not words[0].startswith("#") and mark in ("", REVOKED) and _speaks_of(words[0], name):
            key = _key(words[1], words[2])
            if key is not None:
                yield Recorded(file, mark, key)


def _key(kind: str, text: str) -> HostKey | None:
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error:
        return None
    digest = base64.b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
    return HostKey(kind, text, f"SHA256:{digest}")


def _speaks_of(patterns: str, name: str) -> bool:
    if patterns.startswith("|1|"):
        _, _, salt, digest = [*patterns.split("|"), "", ""][:4]
        try:
            wanted = hmac.new(base64.b64decode(salt), name.encode(), hashlib.sha1).digest()
            return hmac.compare_digest(wanted, base64.b64decode(digest))
        except binascii.Error:
            return False
    found = False
    for pattern in patterns.split(","):
        if _matches(name.lower(), pattern.removeprefix("!").lower()):
            if pattern.startswith("!"):
                return False
            found = True
    return found


def _matches(name: str, pattern: str) -> bool:
    """A pattern of OpenSSH, in which brackets are only brackets."""
    return fnmatchcase(name, pattern.replace("[", "[[]"))
