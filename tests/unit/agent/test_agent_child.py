"""Waiting for a signal, beyond what the library promises."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

WAITS = """
import signal
from albor_pipeline.agent.child import WATCHED, take_signal
signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
print("there", flush=True)
print(take_signal(WATCHED, 0.3), flush=True)
"""


def test_a_process_that_was_stopped_beyond_its_wait_hears_no_signal_that_nobody_sent() -> None:
    """As after a machine was frozen, or slept."""
    process = subprocess.Popen([sys.executable, "-c", WAITS], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "there\n"
    time.sleep(0.1)
    os.kill(process.pid, signal.SIGSTOP)
    time.sleep(0.5)
    os.kill(process.pid, signal.SIGCONT)
    assert process.communicate(timeout=20)[0] == "0\n"
