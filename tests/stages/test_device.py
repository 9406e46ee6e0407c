"""The device and number format a stage takes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from support_data import ROOT

from stages.lib import device
from stages.lib.device import Compute, cpu_multiplies_by_fp32, likely_device, likely_dtype, thread_count


def test_what_is_asked_for_is_taken() -> None:
    assert (likely_device("cuda"), likely_device("cpu")) == ("cuda", "cpu")
    assert (likely_dtype("fp32", "cuda"), likely_dtype("bf16", "cpu"), likely_dtype("auto", "cuda")) == ("fp32", "bf16", "bf16")


def test_auto_takes_bf16_only_where_it_is_faster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    info = tmp_path / "cpuinfo"
    monkeypatch.setattr(device, "CPU_INFO", info)
    found = []
    for flags in ("", "avx512f avx512_bf16", "avx512f avx512_bf16 amx_bf16 amx_tile"):
        info.write_text(f"flags\t\t: fpu {flags}\n")
        found.append(likely_dtype("auto", "cpu"))
    info.unlink()
    assert [*found, likely_dtype("auto", "cpu")] == ["fp32", "fp32", "bf16", "fp32"]


@pytest.mark.parametrize(("words", "by_fp32"), [
    ("flags : fpu avx2", True),
    ("vendor_id : GenuineIntel flags : fpu avx512f avx512_bf16", True),
    ("vendor_id : GenuineIntel flags : fpu avx512f avx512_bf16 amx_bf16", False),
    ("vendor_id : AuthenticAMD flags : fpu avx512f avx512_bf16", False),
    ("vendor_id : AuthenticAMD flags : fpu avx2", True),
    ("Features : fp asimd bf16", False),
    ("", False),
])
def test_products_in_few_bits_are_made_by_fp32_where_a_cpu_is_slow_at_them(
    words: str, by_fp32: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:
    (tmp_path / "cpuinfo").write_text(words)
    monkeypatch.setattr(device, "CPU_INFO", tmp_path / "cpuinfo")
    assert cpu_multiplies_by_fp32() is by_fp32


def test_threads_are_those_asked_for_then_those_the_slot_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert (thread_count(5), thread_count(None)) == (5, 3)
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert thread_count(None) == len(os.sched_getaffinity(0))


def test_the_memory_told_is_what_this_process_held_and_not_what_the_one_that_started_it_did(monkeypatch: pytest.MonkeyPatch) -> None:
    """`ru_maxrss` begins with what the starter held."""
    child = "from types import SimpleNamespace as S; from stages.lib.device import Compute; print(Compute(S(type='cpu'), False).peak_bytes)"
    starter = "import subprocess, sys; held = b'x' * 300_000_000; subprocess.run([sys.executable, '-c', sys.argv[1]], check=True)"
    argv = [sys.executable, "-c", starter, child]
    said = subprocess.run(argv, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True).stdout
    assert 5e6 < int(said) < 100e6
    monkeypatch.setattr(device, "STATUS", Path("/nowhere"))
    assert Compute(SimpleNamespace(type="cpu"), False).peak_bytes > 5e6


@pytest.mark.torch
def test_a_gpu_that_is_not_there_is_an_error_and_idle_threads_sleep() -> None:
    """ALB-046: without a GPU, figures of a GPU were shown."""
    code = ("import os\nfrom stages.lib.device import choose\nprint(choose('auto', 'fp32', 1).text)\n"
            "print(os.environ['OMP_WAIT_POLICY'])\nchoose('cuda', 'auto', 1)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False,
                          env={"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""})
    assert done.stdout.split("\n")[:2] == ["cpu, fp32", "PASSIVE"]
    assert "torch sees no CUDA device" in done.stderr


@pytest.mark.effect("gpu.gpu_memory_limit_mb")
@pytest.mark.torch
def test_a_stage_takes_no_more_of_a_card_than_its_machine_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    """As torch is told, on a card of 24 GiB; without a limit it is told nothing."""
    import torch

    told: list[float] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _card: type("Card", (), {"total_memory": 24 * 2**30}))
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", told.append)
    for limit in ("", "8192", "100000"):
        monkeypatch.setenv("ALBOR_GPU_MEMORY_LIMIT_MB", limit)
        device.choose("auto", "auto", 1)
    assert told == [pytest.approx(1 / 3), 1.0]
