"""Sealed lines: one JSON object that ends with the digest of everything before it. Knows no journal and no files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from albor_pipeline.agent.hashing import digest_bytes
from albor_pipeline.state.codec import dumps

DIGEST_CHARS = 16
_SUFFIX_BYTES = len(',"digest":""}') + DIGEST_CHARS


@dataclass(frozen=True, slots=True)
class Head:
    """How many lines there are and the digest of the last one; both are kept on each machine too, so that a cut tail shows."""

    count: int = 0
    digest: str = ""


EMPTY = Head()


def short_digest(data: bytes) -> str:
    """The first 16 hex characters of BLAKE3: enough to find accidents and edits, not meant against an attacker."""
    return digest_bytes(data)[:DIGEST_CHARS]


def seal(body: Mapping[str, Any]) -> tuple[bytes, str]:
    """The line (with its newline) of an object that is not empty, and its digest."""
    text = dumps(body).encode()
    digest = short_digest(text)
    return b'%s,"digest":"%s"}\n' % (text[:-1], digest.encode()), digest


def unseal(line: bytes) -> dict[str, Any] | None:
    """The object of a line without its newline, `digest` included; None when the line is not whole or was changed."""
    body, suffix = line[:-_SUFFIX_BYTES], line[-_SUFFIX_BYTES:]
    if not suffix.startswith(b',"digest":"') or not line.startswith(b"{"):
        return None
    if short_digest(body + b"}").encode() != suffix[11:-2]:
        return None
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
