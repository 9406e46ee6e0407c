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
WINDOW_BYTES = 1 << 20
MAX_NOISE_BYTES = 1 << 20
MAX_MESSAGE_BYTES = 1 << 30

_dumps = json.JSONEncoder(separators=(",", ":"), ensure_ascii=True).encode


class FrameError(ValueError):
    """What arrived is not our frames."""


def frame(kind: int, stream: int, payload: bytes | memoryview = b"") -> bytes:
    """One frame as bytes; the payload is at most MAX_PAYLOAD bytes."""
    return HEADER.pack(kind, stream, len(payload)) + payload


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


def data_frames(stream: int, data: bytes | memoryview) -> Iterator[bytes]:
    """The DATA frames of some bytes; the caller has the credit for them."""
    view = memoryview(data)
    for start in range(0, len(view), MAX_PAYLOAD):
        yield frame(DATA, stream, view[start : start + MAX_PAYLOAD])


def credit(stream: int, size_bytes: int) -> bytes:
    """The frame that lets the other side send `size_bytes` more on a stream."""
    return frame(CREDIT, stream, struct.pack(">I", size_bytes))


class Decoder:
    """Bytes in, whole frames out. `magic` True skips noise up to the magic line first (rc files print)."""

    def __init__(self, magic: bool) -> None:
        self._buffer = bytearray()
        self._partial: dict[int, list[bytes]] = {}
        self._seeking = magic
        self.noise = b""

    def feed(self, data: bytes) -> list[tuple[int, int, Any]]:
        """(kind, stream, payload) of every whole frame: a message's payload is the JSON value, a credit's the number. Raises FrameError."""
        self._buffer += data
        if self._seeking and not self._skip_noise():
            return []
        frames: list[tuple[int, int, Any]] = []
        position, buffer = 0, self._buffer
        while len(buffer) - position >= HEADER.size:
            kind, stream, length = HEADER.unpack_from(buffer, position)
            if length > MAX_PAYLOAD or not MESSAGE <= kind <= CREDIT:
                raise FrameError("not a frame: kind %d, length %d" % (kind, length))
            end = position + HEADER.size + length
            if len(buffer) < end:
                break
            payload = bytes(memoryview(buffer)[position + HEADER.size : end])
            position = end
            if kind == MORE:
                self._keep(stream, payload)
            elif kind == MESSAGE:
                frames.append((kind, stream, self._message(stream, payload)))
            else:
                frames.append((kind, stream, struct.unpack(">I", payload)[0] if kind == CREDIT else payload))
        del buffer[:position]
        return frames

    def _skip_noise(self) -> bool:
        at = self._buffer.find(MAGIC)
        if at < 0:
            self.noise = bytes(self._buffer[-4096:])
            if len(self._buffer) > MAX_NOISE_BYTES:
                raise FrameError("no agent answered")
            return False
        self.noise = bytes(self._buffer[:at][-4096:])
        del self._buffer[: at + len(MAGIC)]
        self._seeking = False
        return True

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
