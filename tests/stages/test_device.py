"""The device and number format a stage takes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from support_data import ROOT

from stages.lib.device import likely_device, likely_dtype, thread_count


def test_what_is_asked_for_is_taken() -> None:
    assert (likely_device("cuda"), likely_device("cpu")) == ("cuda", "cpu")
    assert (likely_dtype("fp32", "cuda"), likely_dtype("bf16", "cpu"), likely_dtype("auto", "cuda")) == ("fp32", "bf16", "bf16")


def test_threads_are_those_asked_for_then_those_the_slot_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert (thread_count(5), thread_count(None)) == (5, 3)
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert thread_count(None) == len(os.sched_getaffinity(0))


@pytest.mark.torch
def test_a_gpu_that_is_not_there_is_an_error_and_idle_threads_sleep() -> None:
    """ALB-046: without a GPU, figures of a GPU were shown."""
    code = ("import os\nfrom stages.lib.device import choose\nprint(choose('auto', 'fp32', 1).text)\n"
            "print(os.environ['OMP_WAIT_POLICY'])\nchoose('cuda', 'auto', 1)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False,
                          env={"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""})
    assert done.stdout.split("\n")[:2] == ["cpu, fp32", "PASSIVE"]
    assert "torch sees no CUDA device" in done.stderr
