"""SIGTERM and SIGINT as a run hears them: the first is answered between steps, a second SIGINT at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from stages.lib.interrupts import InterruptedRunError, heard


@pytest.fixture(autouse=True)
def _heeding() -> Iterator[None]:
    """As started from a terminal: what runs in the background of a script ignores SIGINT from its start."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_waits_for_the_end_of_the_step_and_keeps_its_name(sent: signal.Signals) -> None:
    with heard() as asked:
        asked.check()
        os.kill(os.getpid(), sent)
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(InterruptedRunError):
            asked.check()
        assert asked.name == sent.name


def test_a_second_ctrl_c_is_not_waited_for() -> None:
    """Whoever types it twice means now, also in the middle of a long step."""
    with heard():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_a_signal_that_was_ignored_stays_so_and_the_others_are_as_before_afterwards() -> None:
    """A run started with nohup or in the background of a script is not ended by the terminal's Ctrl-C."""
    before = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with heard() as asked:
        os.kill(os.getpid(), signal.SIGINT)
        asked.check()
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == (before, signal.SIG_IGN)
