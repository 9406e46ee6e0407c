"""One end of the connection without its descriptors: frames in, frames out, credit for both. Knows no verb and never blocks.

Messages go before data, so a cancel never waits behind a transfer; data goes only against the other side's credit.
"""

from __future__ import annotations

from collections import deque

from albor_pipeline.agent import wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class _Outgoing:
    """Data of one stream that waits for credit."""

    __slots__ = ("chunks", "credit", "ended", "size_bytes")

    def __init__(self) -> None:
        self.chunks: deque[memoryview] = deque()
        self.size_bytes = 0
        self.credit = wire.WINDOW_BYTES
        self.ended = False


class Link:
    """Frames of one end; the owner moves the bytes (`output`, `sent`, `feed`) and holds any lock."""

    def __init__(self, magic: bool) -> None:
        self._decoder = wire.Decoder(magic)
        self._urgent: deque[bytes] = deque()
        self._now: list[memoryview] = []
        self._streams: dict[int, _Outgoing] = {}
        self._taken: dict[int, int] = {}

    @property
    def noise(self) -> bytes:
        """What arrived before the magic line."""
        return self._decoder.noise

    def feed(self, data: bytes) -> list[tuple[int, int, Any]]:
        """The frames that arrived, credits already booked. Raises FrameError."""
        frames = []
        for kind, stream, payload in self._decoder.feed(data):
            if kind == wire.CREDIT:
                outgoing = self._streams.get(stream)
                if outgoing is not None:
                    outgoing.credit += payload
            else:
                frames.append((kind, stream, payload))
        return frames

    def raw(self, data: bytes) -> None:
        """Queue bytes that are no frame (the magic line)."""
        self._urgent.append(data)

    def message(self, stream: int, body: object) -> None:
        """Queue a JSON message."""
        self._urgent.extend(wire.message(stream, body))

    def data(self, stream: int, data: bytes | memoryview) -> None:
        """Queue data; it goes as credit allows."""
        outgoing = self._streams.get(stream)
        if outgoing is None:
            outgoing = self._streams[stream] = _Outgoing()
        view = memoryview(data)
        if len(view):
            outgoing.chunks.append(view)
            outgoing.size_bytes += len(view)

    def end(self, stream: int) -> None:
        """No more data will be queued on this stream."""
        self.data(stream, b"")
        self._streams[stream].ended = True

    def waiting(self, stream: int) -> int:
        """Bytes queued on a stream that did not go yet; a producer pauses above one window."""
        outgoing = self._streams.get(stream)
        return outgoing.size_bytes if outgoing is not None else 0

    def taken(self, stream: int, size_bytes: int) -> None:
        """Received data was used up: grant the other side as much again, half a window at a time."""
        total = self._taken.get(stream, 0) + size_bytes
        if total >= wire.WINDOW_BYTES // 2:
            self._urgent.append(wire.credit(stream, total))
            total = 0
        self._taken[stream] = total

    def forget(self, stream: int) -> None:
        """A received stream is over."""
        self._taken.pop(stream, None)

    def output(self) -> list[memoryview]:
        """The next bytes to write, in parts that are not put together first; none when there is nothing that may go."""
        if not self._now:
            size = 0
            while size < wire.MAX_PAYLOAD and (parts := self._next()):
                self._now += parts
                size += sum(map(len, parts))
        return self._now

    def sent(self, size_bytes: int) -> None:
        """So many bytes of output() were written."""
        while size_bytes and size_bytes >= len(self._now[0]):
            size_bytes -= len(self._now.pop(0))
        if size_bytes:
            self._now[0] = self._now[0][size_bytes:]

    def _next(self) -> list[memoryview]:
        if self._urgent:
            return [memoryview(self._urgent.popleft())]
        for stream, outgoing in list(self._streams.items()):
            if outgoing.chunks and outgoing.credit > 0:
                self._streams[stream] = self._streams.pop(stream)
                data = self._cut(outgoing)
                return [memoryview(wire.header(wire.DATA, stream, len(data))), data]
            if outgoing.ended and not outgoing.chunks:
                del self._streams[stream]
                return [memoryview(wire.frame(wire.END, stream))]
        return []

    @staticmethod
    def _cut(outgoing: _Outgoing) -> memoryview:
        chunk = outgoing.chunks.popleft()
        size = min(len(chunk), outgoing.credit, wire.MAX_PAYLOAD)
        if size < len(chunk):
            outgoing.chunks.appendleft(chunk[size:])
        outgoing.size_bytes -= size
        outgoing.credit -= size
        return chunk[:size]
