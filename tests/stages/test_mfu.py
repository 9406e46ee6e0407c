"""How much of a card's peak is used, always with whose peak it is, and tokens a second of this process."""

from __future__ import annotations

import pytest

from stages.lib.devices import TABLE, Device, card, this_cpu
from stages.lib.mfu import mfu
from stages.lib.rate import TokenRate
from stages.lib.shape import Shape

LARGE = Shape.model_validate({"layers": 24, "d_model": 1024, "heads": 16, "kv_heads": 4, "ffn": 4096, "vocab_size": 32768, "context": 2048})
A_TOKEN = 6 * 398_509_056 + 12 * 24 * 1024 * 1024


def test_the_share_is_operations_over_the_peak_of_the_card_in_the_format_and_says_so() -> None:
    """F-MFU-001. The original divided by the fp32 peak of a 4090 whatever the card and format."""
    found = mfu(10_000, LARGE, 1024, TABLE["rtx4090"], "bf16")
    assert found is not None and found.share == pytest.approx(10_000 * A_TOKEN / 165.2e12) and found.fault is None
    assert found.text == ("MFU 16.3% of 165.2 TFLOP/s dense bf16 (RTX 4090: NVIDIA, Ada architecture white paper, appendix A)")
    assert found.of == "165 TFLOP/s bf16"
    in_fp32, in_fp16 = (mfu(10_000, LARGE, 1024, TABLE["rtx4090"], dtype) for dtype in ("fp32", "fp16"))
    assert in_fp32 is not None and in_fp32.share == pytest.approx(2 * found.share) and "dense fp32" in in_fp32.text
    assert in_fp16 is not None and in_fp16.share == found.share and "dense fp16" in in_fp16.text


@pytest.mark.parametrize("device", [this_cpu(1), Device("A card", None, 1e14, 1e14, 0.0, "a guess")])
def test_a_device_without_a_makers_peak_has_no_share(device: Device) -> None:
    assert mfu(10_000, LARGE, 1024, device, "bf16") is None


@pytest.mark.parametrize(("rate", "level", "said"), [
    (70_000, "error", "more than the device can do"), (500, "warning", "under 1%, so the device mostly waits"),
    (0, "warning", "MFU 0.0% of"),
])
def test_a_share_that_cannot_be_is_an_error_and_one_under_1_percent_a_warning(rate: float, level: str, said: str) -> None:
    """F-MFU-001."""
    found = mfu(rate, LARGE, 1024, TABLE["rtx4090"], "bf16")
    assert found is not None and found.fault is not None
    assert found.fault[0] == level and said in found.fault[1] and "RTX 4090" in found.fault[1]


@pytest.mark.parametrize(("name", "known"), [
    ("NVIDIA H200", "H200"), ("NVIDIA H100 80GB HBM3", "H100"), ("NVIDIA A100-SXM4-40GB", "A100"), ("NVIDIA L4", "L4"),
    ("NVIDIA H100 NVL", None), ("NVIDIA GeForce RTX 3090 Ti", None), ("NVIDIA GeForce RTX 4090 D", None),
    ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", None), ("NVIDIA GH200 480GB", None), ("Tesla T4", None),
])
def test_no_card_is_given_the_peak_of_another(name: str, known: str | None) -> None:
    found = card(name)
    assert (found.name if found else None) == known


def test_tokens_a_second_count_only_steps_this_process_made() -> None:
    """U-1: after a restart skipped tokens counted as trained; a step without an update costs time and counts none."""
    rate = TokenRate()
    assert rate.tokens_per_s == 0.0 and rate.seconds_left(10) is None
    rate.see(1000, 2.0)
    rate.see(1000, 2.0, made=False)
    rate.see(1000, 1.0)
    assert (rate.tokens_per_s, rate.seconds_left(10)) == (400.0, 25.0)
