"""Frames: whatever way the bytes are cut, the same messages come out; noise before the magic line is skipped; credit bounds data."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from albor_pipeline.agent import wire
from albor_pipeline.agent.link import Link

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
NOISE = st.binary(max_size=50).filter(lambda noise: wire.MAGIC not in noise)


def drain(link: Link, step: int = 1 << 30) -> bytes:
    out = b""
    while parts := link.output():
        data = b"".join(parts)[:step]
        out += data
        link.sent(len(data))
    return out


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), JSON), max_size=5), st.integers(1, 50), NOISE)
def test_messages_survive_any_cut_and_any_noise_before(
    messages: list[tuple[int, Any]], step: int, noise: bytes
) -> None:
    raw = noise + wire.MAGIC + b"".join(part for stream, body in messages for part in wire.message(stream, body))
    decoder, found = wire.Decoder(magic=True), []
    for start in range(0, len(raw), step):
        found += decoder.feed(raw[start : start + step])
    assert found == [(wire.MESSAGE, stream, body) for stream, body in messages]


def test_a_message_longer_than_a_frame_goes_in_parts_that_others_may_pass_between() -> None:
    long = {"text": "x" * 1_000_000}
    parts = list(wire.message(1, long))
    assert len(parts) == 4 and all(len(part) <= 256 * 1024 for part in parts)
    mixed = parts[:2] + list(wire.message(2, "short")) + parts[2:]
    assert wire.Decoder(magic=False).feed(b"".join(mixed)) == [(wire.MESSAGE, 2, "short"), (wire.MESSAGE, 1, long)]


@pytest.mark.parametrize(
    "junk", [b"\0" * 9, b"Welcome to Debian\n", wire.frame(wire.MESSAGE, 1, b"{"), b"\x01" + b"\xff" * 8]
)
def test_what_is_no_frame_is_an_error(junk: bytes) -> None:
    with pytest.raises(wire.FrameError):
        wire.Decoder(magic=False).feed(junk)


def test_endless_noise_is_an_error() -> None:
    decoder = wire.Decoder(magic=True)
    with pytest.raises(wire.FrameError):
        for _ in range(100):
            decoder.feed(b"motd " * 4096)
    assert decoder.noise.startswith(b"motd") or b"motd" in decoder.noise


def test_data_waits_for_credit_and_messages_pass_it() -> None:
    sender, receiver = Link(magic=False), Link(magic=False)
    sent = bytes(range(256)) * 4096 * 3
    sender.data(7, sent)
    sender.end(7)
    first = drain(sender)
    sender.message(0, "cancel")
    second = drain(sender)
    assert len(first) < wire.WINDOW_BYTES + 100 and len(second) < 100
    got, ended = b"", False
    queue = first + second
    while queue:
        for kind, stream, payload in receiver.feed(queue):
            if kind == wire.DATA:
                got += payload
                receiver.taken(stream, len(payload))
            ended = ended or kind == wire.END
        sender.feed(drain(receiver))
        queue = drain(sender)
    assert got == sent and ended


def test_two_streams_share_the_line() -> None:
    link = Link(magic=False)
    for stream in (1, 2):
        link.data(stream, b"x" * 600_000)
    order = [stream for _kind, stream, _payload in wire.Decoder(magic=False).feed(drain(link))]
    assert order[:4] == [1, 2, 1, 2]


@pytest.mark.parametrize("step", [1, 7, 100_003])
def test_data_comes_out_as_it_comes_in_whole_frame_or_not(step: int) -> None:
    """However it is cut on its way, in and out, and with messages in between."""
    sender, receiver = Link(magic=False), wire.Decoder(magic=False)
    sent = {1: bytes(range(256)) * (5 if step == 1 else 2000), 2: b"x" * 700}
    for stream, data in sent.items():
        sender.data(stream, data)
    sender.message(3, "short")
    sender.end(1)
    raw = drain(sender, step)
    got: dict[int, bytes] = {1: b"", 2: b""}
    rest = []
    for start in range(0, len(raw), step):
        for kind, stream, payload in receiver.feed(raw[start : start + step]):
            if kind == wire.DATA:
                got[stream] += payload
            else:
                rest.append((kind, stream, payload))
    assert got == sent and rest == [(wire.MESSAGE, 3, "short"), (wire.END, 1, b"")]
