"""What devices can do by their makers' data sheets, and which one a plan is made for; knows no model and imports no torch.

`memory_bytes` counts a GB on the box as 2^30 bytes, as drivers do. Rates are dense (no sparsity), in operations a second, with sums made
in fp32: on GeForce cards half of what the sheets print first.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path

from stages.lib.config import Config
from stages.lib.device import DeviceName, likely_device, thread_count

_GB = 1 << 30
_PER_CPU_THREAD = 30e9
_UNKNOWN_GPU = 50e12 / 0.4
_SHARE_OF_PEAK = 0.4
UNSEEN = "a card"
_NAMES_OF_THE_DRIVER = Path("/proc/driver/nvidia/gpus")
# Words in a driver's name that make a card another one than the table's.
_VARIANTS = {"laptop", "ti", "super", "d", "nvl", "mig"}


@dataclass(frozen=True)
class Device:
    """One device: bytes of memory (None: not known), operations a second by number format, bytes a second, and who says so."""

    name: str
    memory_bytes: int | None
    bf16: float
    fp32: float
    bandwidth: float
    source: str
    is_cpu: bool = False

    def rate(self, dtype: str) -> float:
        """Operations a second at the peak in `dtype`, fp32, bf16 or fp16 (as bf16, on all of these)."""
        return self.bf16 if dtype in ("bf16", "fp16") else self.fp32


def _card(name: str, gigabytes: int, bf16: float, fp32: float, bandwidth: float, source: str) -> tuple[str, Device]:
    key = name.lower().replace(" ", "")
    return key, Device(name, gigabytes * _GB, bf16 * 1e12, fp32 * 1e12, bandwidth * 1e9, f"NVIDIA, {source}")


_AMPERE, _ADA = "GA102 architecture white paper", "Ada architecture white paper, appendix A"
TABLE: Mapping[str, Device] = dict((
    _card("RTX 3090", 24, 71.0, 35.6, 936, _AMPERE),
    _card("RTX 4090", 24, 165.2, 82.6, 1008, _ADA),
    _card("RTX 5090", 32, 209.5, 104.8, 1792, "RTX Blackwell architecture white paper, appendix A"),
    _card("RTX A6000", 48, 154.8, 38.7, 768, _AMPERE),
    _card("L4", 24, 121.0, 30.3, 300, "L4 data sheet, halved: it prints the rate with sparsity"),
    _card("L40S", 48, 362.0, 91.6, 864, "L40S data sheet"),
    _card("A100", 40, 312.0, 19.5, 1555, "A100 data sheet, 40 GB SXM"),
    _card("A100-80GB", 80, 312.0, 19.5, 2039, "A100 data sheet, 80 GB SXM"),
    _card("H100-PCIe", 80, 756.0, 51.0, 2000, "H100 data sheet, PCIe, halved: it prints the rate with sparsity"),
    _card("H100", 80, 989.4, 66.9, 3350, "H100 data sheet, SXM, halved: it prints the rate with sparsity"),
    _card("H200", 141, 989.4, 66.9, 4800, "H200 data sheet, SXM, halved: it prints the rate with sparsity"),
))  # fmt: skip


class Target(Config):
    """What a plan is made for instead of this machine: a device by name, its memory, a measured rate, a price an hour.

    `gpu` is a card as its driver calls it, empty for one that nobody has seen yet. With nothing said it is what is here.
    """

    device: str | None = None
    gpu: str | None = None
    vram_bytes: int | None = None
    tokens_per_s: float | None = None
    price_per_hour: float | None = None


def named(name: str) -> Device:
    """The device of the table, or `cpu`: this machine's. ValueError with the closest name when there is none."""
    key = name.lower().replace(" ", "").replace("_", "-").removeprefix("nvidia").removeprefix("geforce").lstrip("-")
    if key == "cpu":
        return this_cpu(None)
    if key in TABLE:
        return TABLE[key]
    close = get_close_matches(key, [*TABLE, "cpu"], n=1)
    hint = f"did you mean `{close[0]}`?" if close else f"there are: {', '.join([*TABLE, 'cpu'])}"
    raise ValueError(f"there is no device `{name}`; {hint} For another card: --vram 24GB")


def memory_of(text: str) -> int:
    """Bytes of a card's memory as on its box: 24GB, 24GiB or 24 is 24 x 2^30, 24564MB or MiB is 24564 x 2^20."""
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?(?:(G|M)i?B?)?", text.strip(), re.IGNORECASE)
    if not found or float(found[1]) == 0:
        raise ValueError(f"`{text}` is not the memory of a card; write it as 24GB or 24564MB")
    return int(float(found[1]) * (1 << 20 if (found[2] or "G") in "mM" else _GB))


def this_cpu(threads: int | None) -> Device:
    """This machine's processor: its memory, and a rate that is a guess of 30 GFLOP/s a thread."""
    rate = _PER_CPU_THREAD * thread_count(threads)
    return Device("cpu", _physical_memory(), rate, rate, 0.0, "a guess of 30 GFLOP/s a thread", is_cpu=True)


def chosen(target: Target | None, wanted: DeviceName, threads: int | None) -> Device:
    """The device that a plan is for: the one asked for, a card of the memory asked for, else what is likely to train here.

    ValueError when a device is asked for by a name that is not in the table.
    """
    if target is not None and target.device is not None:
        found = named(target.device)
    elif target is not None and target.vram_bytes is not None:
        found = _any_card(UNSEEN)
    elif target is not None and target.gpu is not None:
        found = card(target.gpu) or _any_card(target.gpu or UNSEEN)
    elif likely_device(wanted) == "cuda":
        found = this_gpu()
    else:
        return this_cpu(threads)
    if target is not None and target.vram_bytes is not None:
        return replace(found, memory_bytes=target.vram_bytes)
    return found


def this_gpu(folder: Path = _NAMES_OF_THE_DRIVER) -> Device:
    """The first GPU that the driver names in /proc, from the table; one that is not there has no known memory."""
    for facts in sorted(folder.glob("*/information")):
        model = re.search(r"^Model:\s*(.+?)\s*$", facts.read_text(errors="replace"), re.MULTILINE)
        if model is None:
            continue
        return card(model[1]) or _any_card(model[1])
    return _any_card("cuda")


def card(name: str) -> Device | None:
    """The card of the table that a driver or torch calls `name`; None for one that is not there, and for another make of one that is."""
    words = _words(name)
    fits = [device for device in TABLE.values() if _words(device.name) <= words and not words & _VARIANTS]
    return max(fits, key=lambda device: len(_words(device.name)), default=None)


def guessed_tokens_per_s(device: Device, dtype: str, flops_per_token: float) -> tuple[float, str]:
    """Tokens a second that `device` may reach, and where the guess comes from."""
    if device.is_cpu:
        return device.rate(dtype) / flops_per_token, device.source
    share = f"{_SHARE_OF_PEAK:.0%} of {device.rate(dtype) / 1e12:,.0f} TFLOP/s {dtype}"
    text = f"{share}, {device.source}" if device.name in {d.name for d in TABLE.values()} else f"{share}, a guess"
    return _SHARE_OF_PEAK * device.rate(dtype) / flops_per_token, text


def _words(name: str) -> set[str]:
    return set(re.split(r"[\s-]+", name.lower()))


def _any_card(name: str) -> Device:
    return Device(name, None, _UNKNOWN_GPU, _UNKNOWN_GPU, 0.0, "a guess")


def _physical_memory() -> int | None:
    try:
        found = re.search(r"^MemTotal:\s*([0-9]+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) * 1024 if found else None
