"""A slow link: carries frames between a port and a tap, late, at a rate and with losses. Run at the desk that has the bridge.

    python relay.py PORT TAP RTT_MS RATE_MBIT LOSS_PERCENT

For kernels without netem. Both sides hand over the virtio header, so that the kernel's large segments pass whole and cost little.
"""

from __future__ import annotations

import fcntl
import heapq
import os
import random
import select
import socket
import struct
import sys
import time

TUNSETIFF, TUNSETOFFLOAD = 0x400454CA, 0x400454D0
TAP_WITH_HEADER = 0x0002 | 0x1000 | 0x4000
CHECKSUM_AND_SEGMENTS = 0x01 | 0x02 | 0x04
SOL_PACKET, PACKET_VNET_HDR, PACKET_IGNORE_OUTGOING, SO_RCVBUFFORCE = 263, 15, 23, 33
HEADER_BYTES = 10
FRAME_BYTES = 70000
QUEUE_S = 0.2
AWAY, THERE = 0, 1


class Line:
    """The frames that are under way, by the time at which each is due."""

    def __init__(self, rtt_ms: float, rate_mbit: float, loss_percent: float) -> None:
        self._delay_s = rtt_ms / 2000
        self._bytes_per_s = rate_mbit * 1e6 / 8
        self._loss = loss_percent / 100
        self._heap: list[tuple[float, int, int, bytes]] = []
        self._count = 0
        self._free_at = [0.0, 0.0]

    def put(self, way: int, frame: bytes, now: float) -> None:
        """Take a frame, or drop it: by chance, or when more than the queue holds waits before it."""
        if self._loss and random.random() < self._loss:
            return
        due = now
        if self._bytes_per_s:
            begins = max(now, self._free_at[way])
            if begins - now > QUEUE_S:
                return
            due = self._free_at[way] = begins + (len(frame) - HEADER_BYTES) / self._bytes_per_s
        self._count += 1
        heapq.heappush(self._heap, (due + self._delay_s, self._count, way, frame))

    def due(self, now: float) -> tuple[int, bytes] | None:
        """The next frame whose time has come."""
        if not self._heap or self._heap[0][0] > now:
            return None
        _at, _count, way, frame = heapq.heappop(self._heap)
        return way, frame

    def wait_s(self, now: float) -> float:
        """Seconds until the next frame is due."""
        return max(0.0, self._heap[0][0] - now) if self._heap else 1.0


def open_tap(name: str) -> int:
    """A device of this name, made here."""
    tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH22x", name.encode(), TAP_WITH_HEADER))
    fcntl.ioctl(tap, TUNSETOFFLOAD, CHECKSUM_AND_SEGMENTS)
    return tap


def open_port(name: str) -> socket.socket:
    """The machine's end, which is made anew at each of its boots. Raises OSError while it is not there."""
    port = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    try:
        port.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
        port.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        port.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)
        port.bind((name, 3))
        port.setblocking(False)
    except OSError:
        port.close()
        raise
    return port


def serve(port: socket.socket, tap: int, line: Line) -> None:
    """Carry frames until the port is gone. Raises OSError then."""
    while True:
        now = time.monotonic()
        while (found := line.due(now)) is not None:
            way, frame = found
            try:
                port.send(frame) if way == THERE else os.write(tap, frame)
            except BlockingIOError:
                pass  # a full queue drops
            except OSError:
                if way == THERE:
                    raise
        ready, _, _ = select.select([tap, port], [], [], line.wait_s(now))
        now = time.monotonic()
        for source in ready:
            for _ in range(64):
                try:
                    frame = os.read(tap, FRAME_BYTES) if source is tap else port.recv(FRAME_BYTES)
                except BlockingIOError:
                    break
                line.put(THERE if source is tap else AWAY, frame, now)


def main() -> None:
    name, tap_name, rtt_ms, rate_mbit, loss_percent = sys.argv[1:]
    tap = open_tap(tap_name)
    line = Line(float(rtt_ms), float(rate_mbit), float(loss_percent))
    while True:
        try:
            port = open_port(name)
        except OSError:
            time.sleep(0.05)
            continue
        try:
            serve(port, tap, line)
        except OSError:
            port.close()
            time.sleep(0.05)


if __name__ == "__main__":
    main()
