"""How much of a device's peak the training uses; the peak is the maker's, and a device without one has no such share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from stages.lib.budget import flops_per_token
from stages.lib.devices import TABLE, Device
from stages.lib.shape import Shape

_LEAST = 0.01


@dataclass(frozen=True)
class Mfu:
    """A share of the dense peak in operations a second, of which number format, and whose peak that is."""

    share: float
    peak: float
    dtype: str
    source: str

    @property
    def text(self) -> str:
        """The share with its denominator, as it is shown everywhere."""
        return f"MFU {self.share:.1%} of {self.peak / 1e12:,.1f} TFLOP/s dense {self.dtype} ({self.source})"

    @property
    def of(self) -> str:
        """The denominator in short."""
        return f"{self.peak / 1e12:,.0f} TFLOP/s {self.dtype}"

    @property
    def fault(self) -> tuple[Literal["error", "warning"], str] | None:
        """F-MFU-001: a share over 100 % cannot be, so the figures are wrong; under 1 % something is."""
        if self.share > 1:
            return "error", f"{self.text}: more than the device can do, so the rate, the operations or the peak are counted wrongly"
        if self.share < _LEAST:
            return "warning", f"{self.text}: under {_LEAST:.0%}, so the device mostly waits; look at batch_size, the loader and dtype"
        return None


def mfu(tokens_per_s: float, shape: Shape, seq_len: int, device: Device, dtype: str) -> Mfu | None:
    """(6P + 12 L d T) tokens/s over the dense peak of `device` in `dtype`; None for one that is not in the table."""
    if device not in TABLE.values():
        return None
    peak = device.rate(dtype)
    return Mfu(tokens_per_s * flops_per_token(shape, seq_len) / peak, peak, dtype, f"{device.name}: {device.source}")
