"""Lock files: a header, rows and an end, one JSON object a line behind `- `, so that the file is YAML with line-wise diffs. Knows no disk.

The end line holds the number of rows and the digest of all bytes before it: a file that was cut or edited is refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from albor_pipeline.errors import StateError
from albor_pipeline.state.codec import dumps
from albor_pipeline.state.lines import short_digest

FORMAT = 1
_DASH = b"- "


class Damaged(StateError):
    """A file of the state folder is cut, edited or not readable."""


@dataclass(frozen=True, slots=True)
class LockFile:
    """What a lock file holds."""

    header: Mapping[str, Any]
    rows: tuple[Mapping[str, Any], ...] = ()


def encode(lock: LockFile, about: str) -> bytes:
    """The bytes of a lock file; `about` is a comment of one line."""
    lines = [f"# {about}\n", f"- {dumps({'format': FORMAT, **lock.header})}\n"]
    lines += [f"- {dumps(row)}\n" for row in lock.rows]
    body = "".join(lines).encode()
    end = dumps({"end": len(lock.rows), "digest": short_digest(body)})
    return body + f"- {end}\n".encode()


def decode(data: bytes, shown: str) -> LockFile:
    """The lock file back; raises Damaged, or StateError when a newer version wrote it. `shown` is its name in messages."""
    items = _items(data)
    if items is None or len(items) < 2 or not all(isinstance(item, dict) for item in items):
        raise damaged(f"{shown} cannot be read")
    header, *rows, end = items
    if header.get("format", 0) > FORMAT:
        raise StateError.of(
            "state-newer",
            f"{shown} has format {header['format']}; this version reads up to {FORMAT}",
            "use the version of albor-pipeline that wrote it, or a newer one",
        )
    body = data[: data.rstrip(b"\n").rfind(b"\n") + 1]
    if end != {"end": len(rows), "digest": short_digest(body)}:
        raise damaged(f"{shown} was changed since it was written")
    return LockFile({key: value for key, value in header.items() if key != "format"}, tuple(rows))


def _items(data: bytes) -> list[Any] | None:
    lines: Iterable[bytes] = (line for line in data.split(b"\n") if line and not line.startswith(b"#"))
    kept = list(lines)
    if not all(line.startswith(_DASH) for line in kept):
        return None
    try:
        items = json.loads(b"[" + b",".join(line[2:] for line in kept) + b"]")
    except ValueError:
        return None
    return items if isinstance(items, list) else None


def damaged(message: str) -> Damaged:
    """The error that names both ways out of a state that cannot be trusted."""
    error = Damaged.of(
        "state-damaged",
        message,
        "`albor-pipeline audit` says what is wrong, and where",
        "`albor-pipeline state rebuild` makes the state anew from what the machines prove",
    )
    assert isinstance(error, Damaged)
    return error
