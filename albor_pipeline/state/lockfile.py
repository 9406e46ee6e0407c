"""Lock files: a header, rows and an end, one JSON object a line behind `- `, so that the file is YAML with line-wise diffs. Knows no disk.

The end line holds the number of rows and the digest of all bytes before it: a file that was cut or edited is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
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
    """What a lock file holds; each row is the text of one JSON object."""

    header: Mapping[str, Any]
    rows: tuple[bytes, ...] = ()


def encode(lock: LockFile, about: str) -> bytes:
    """The bytes of a lock file; `about` is a comment of one line."""
    top = f"# {about}\n- {dumps({'format': FORMAT, **lock.header})}\n".encode()
    body = top + b"".join(b"- %s\n" % row for row in lock.rows)
    end = dumps({"end": len(lock.rows), "digest": short_digest(body)})
    return body + f"- {end}\n".encode()


def decode(data: bytes, shown: str) -> LockFile:
    """The lock file back; raises Damaged, or StateError when a newer version wrote it. `shown` is its name in messages."""
    lines = [line for line in data.split(b"\n") if line and not line.startswith(b"#")]
    if len(lines) < 2 or not all(line.startswith(_DASH) for line in lines):
        raise damaged(f"{shown} cannot be read")
    header, end = _object(lines[0]), _object(lines[-1])
    if isinstance(header.get("format"), int) and header["format"] > FORMAT:
        raise StateError.of(
            "state-newer",
            f"{shown} has format {header['format']}; this version reads up to {FORMAT}",
            "use the version of albor-pipeline that wrote it, or a newer one",
        )
    body = data[: data.rstrip(b"\n").rfind(b"\n") + 1]
    if end != {"end": len(lines) - 2, "digest": short_digest(body)}:
        raise damaged(f"{shown} was changed since it was written")
    rows = tuple(line[len(_DASH) :] for line in lines[1:-1])
    return LockFile({key: value for key, value in header.items() if key != "format"}, rows)


def _object(line: bytes) -> dict[str, Any]:
    """The JSON object of a line, empty when it is none: the digest tells then."""
    try:
        value = json.loads(line[len(_DASH) :])
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


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
