"""A log read from a time on: how long it was is written down while it grows."""

from __future__ import annotations

import os
from pathlib import Path

from albor_pipeline.agent.logs import Times, offset_at


def test_a_log_can_be_read_from_about_ten_seconds_before_any_time(tmp_path: Path) -> None:
    path, now = tmp_path / "log", 1000.0
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    times = Times(descriptor, str(path), lambda: now)
    for second in range(100):
        now = 1000.0 + second
        os.write(descriptor, b"%03d\n" % second)
        times.mark()
    os.close(descriptor)
    assert len((tmp_path / "log.times").read_text().splitlines()) == 10
    for second in (5, 37, 99):
        behind = second - offset_at(str(path), 1000.0 + second) // 4
        assert 0 <= behind <= 10, "nothing of the time asked for is left out, and little more is shown"
    assert offset_at(str(path), 999.0) == 0


def test_what_was_last_written_before_that_time_is_not_shown_at_all(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("old\n")
    os.utime(path, (1000, 1000))
    assert offset_at(str(path), 1001.0) == 4 and offset_at(str(path), 999.0) == 0


def test_a_torn_or_foreign_line_ends_what_is_known(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("x" * 100)
    (tmp_path / "log.times").write_text("10 20\n20 40\n30 6")
    assert offset_at(str(path), 35.0) == 40
    (tmp_path / "log.times").write_bytes(b"10 20\n\xff\xfe\n")
    assert offset_at(str(path), 35.0) in (0, 20)


def test_a_quiet_log_adds_no_lines(tmp_path: Path) -> None:
    path, clock = tmp_path / "log", iter(range(0, 1000, 20))
    path.write_text("x\n")
    with path.open("rb") as file:
        times = Times(file.fileno(), str(path), lambda: next(clock))
        for _ in range(50):
            times.mark()
    assert (tmp_path / "log.times").read_text() == "0 2\n"
