"""The frames that controller and agent exchange: JSON messages, data with credits. Knows no verb and no socket.

A frame is kind (1 byte), stream (4 bytes), length (4 bytes), payload; at most 256 KiB, so that a short message never waits
long behind a large one. A message that is longer goes in several MORE frames and one MESSAGE frame of the same stream.
DATA may be sent only against credit: WINDOW_BYTES at the start of a stream, and what the receiver grants by CREDIT.
"""

from __future__ import annotations

import json
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

MAGIC = b"albor-agent frames 1\n"
MESSAGE, MORE, DATA, END, CREDIT = 1, 2, 3, 4, 5
HEADER = struct.Struct(">BII")
MAX_PAYLOAD = 256 * 1024 - HEADER.size
WINDOW_BYTES = 4 << 20
MAX_NOISE_BYTES = 1 << 20
MAX_MESSAGE_BYTES = 1 << 30

_dumps = json.JSONEncoder(separators=(",", ":"), ensure_ascii=True).encode


class FrameError(ValueError):
    """What arrived is not our frames."""


def header(kind: int, stream: int, size_bytes: int) -> bytes:
    """The bytes before a payload of that size."""
    return HEADER.pack(kind, stream, size_bytes)


def frame(kind: int, stream: int, payload: bytes | memoryview = b"") -> bytes:
    """One frame as bytes; the payload is at most MAX_PAYLOAD bytes."""
    return header(kind, stream, len(payload)) + payload


def message(stream: int, body: object) -> Iterator[bytes]:
    """The frames of one JSON message."""
    data = _dumps(body).encode("ascii")
    if len(data) <= MAX_PAYLOAD:
        yield frame(MESSAGE, stream, data)
        return
    last = len(data) - MAX_PAYLOAD
    view = memoryview(data)
    start = 0
    while start < last:
        yield frame(MORE, stream, view[start : start + MAX_PAYLOAD])
        start += MAX_PAYLOAD
    yield frame(MESSAGE, stream, view[start:])


def credit(stream: int, size_bytes: int) -> bytes:
    """The frame that lets the other side send `size_bytes` more on a stream."""
    return frame(CREDIT, stream, struct.pack(">I", size_bytes))


class Decoder:
    """Bytes in, whole frames out, but for data, which comes out as it comes in.

    `magic` True skips noise up to the magic line first (rc files print).
    """

    def __init__(self, magic: bool) -> None:
        self._buffer = b""
        self._stream = 0
        self._left = 0  # bytes of a data frame of that stream that are still to come
        self._partial: dict[int, list[bytes]] = {}
        self._seeking = magic
        self.noise = b""

    def feed(self, data: bytes) -> list[tuple[int, int, Any]]:
        """(kind, stream, payload) of every frame: a message's payload is the JSON value, a credit's the number, data's a view of `data`.

        Raises FrameError.
        """
        if self._buffer:
            data, self._buffer = self._buffer + data, b""
        if self._seeking:
            data = self._skip_noise(data)
        view, position = memoryview(data), 0
        frames: list[tuple[int, int, Any]] = []
        while position < len(view):
            if self._left:
                part = view[position : position + self._left]
                self._left -= len(part)
                position += len(part)
                frames.append((DATA, self._stream, part))
                continue
            begin = position + HEADER.size
            if len(view) < begin:
                break
            kind, stream, length = HEADER.unpack_from(view, position)
            if length > MAX_PAYLOAD or not MESSAGE <= kind <= CREDIT:
                raise FrameError("not a frame: kind %d, length %d" % (kind, length))
            if kind == DATA:
                self._stream, self._left, position = stream, length, begin
                continue
            if len(view) < begin + length:
                break
            position = begin + length
            frames += self._frame(kind, stream, bytes(view[begin:position]))
        if position < len(view):
            self._buffer = bytes(view[position:])
        return frames

    def _frame(self, kind: int, stream: int, payload: bytes) -> list[tuple[int, int, Any]]:
        if kind == MORE:
            self._keep(stream, payload)
            return []
        if kind == MESSAGE:
            return [(kind, stream, self._message(stream, payload))]
        return [(kind, stream, struct.unpack(">I", payload)[0] if kind == CREDIT else payload)]

    def _skip_noise(self, data: bytes) -> bytes:
        """What follows the magic line; before that is there, nothing."""
        at = data.find(MAGIC)
        self.noise = data[: at if at >= 0 else len(data)][-4096:]
        if at < 0:
            if len(data) > MAX_NOISE_BYTES:
                raise FrameError("no agent answered")
            self._buffer = data
            return b""
        self._seeking = False
        return data[at + len(MAGIC) :]

    def _keep(self, stream: int, payload: bytes) -> None:
        parts = self._partial.setdefault(stream, [])
        parts.append(payload)
        if len(parts) * MAX_PAYLOAD > MAX_MESSAGE_BYTES:
            raise FrameError("a message is longer than 1 GiB")

    def _message(self, stream: int, payload: bytes) -> Any:
        parts = self._partial.pop(stream, None)
        if parts:
            payload = b"".join([*parts, payload])
        try:
            return json.loads(payload)
        except ValueError:
            raise FrameError("a message is not JSON") from None
