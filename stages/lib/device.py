"""Which device and number format a stage computes with; knows no model. torch is imported only by `choose`."""

from __future__ import annotations

import os
import resource
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import torch

DeviceName = Literal["auto", "cpu", "cuda"]
DTypeName = Literal["auto", "fp32", "bf16", "fp16"]
CPU_INFO, STATUS = Path("/proc/cpuinfo"), Path("/proc/self/status")


def likely_device(wanted: DeviceName) -> str:
    """cpu or cuda as plan sees it: the driver's device file stands for a GPU, torch is not asked."""
    if wanted != "auto":
        return wanted
    return "cuda" if Path("/dev/nvidia0").exists() else "cpu"


def likely_dtype(wanted: DTypeName, device: str) -> str:
    """fp32 or bf16. auto takes bf16 where it is faster: a GPU, or a CPU that multiplies whole tiles of it.

    With AVX-512's bf16 instructions alone a step took 1.7 times as long as in fp32 (a Xeon, docs/performance.md), without any 6 times.
    """
    if wanted != "auto":
        return wanted
    return "bf16" if device == "cuda" or _cpu_has_bf16_tiles() else "fp32"


def cpu_multiplies_by_fp32() -> bool:
    """Whether this CPU makes products in few bits sooner by fp32's instructions: one of x86 with neither tiles nor AMD's AVX-512 bf16.

    Intel's AVX-512 bf16 makes 87 GFLOP/s where fp32 makes 160, and without any bf16 is emulated (docs/performance.md).
    """
    words = _cpu_words()
    return "fpu" in words and "amx_bf16" not in words and not {"AuthenticAMD", "avx512_bf16"} <= words


def thread_count(wanted: int | None) -> int:
    """Threads of the CPU part: as wanted, as OMP_NUM_THREADS says, else one for each core this process may use."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    return wanted or (int(given) if given.isdigit() and int(given) else len(os.sched_getaffinity(0)))


@dataclass(frozen=True)
class Compute:
    """The chosen device; weights are fp32 always, `autocast` says whether products are made in fewer bits, bf16 unless `half`: fp16."""

    device: torch.device
    autocast: bool
    half: bool = False

    @property
    def product_type(self) -> torch.dtype | None:
        """The number format of products; None: that of the weights."""
        import torch

        return (torch.float16 if self.half else torch.bfloat16) if self.autocast else None

    def context(self) -> Any:
        """A context in which the forward pass runs."""
        import torch

        return torch.autocast(self.device.type, self.product_type or torch.bfloat16, enabled=self.autocast)

    @property
    def dtype(self) -> str:
        """The number format of products by its short name."""
        return ("fp16" if self.half else "bf16") if self.autocast else "fp32"

    @property
    def text(self) -> str:
        """`cpu, fp32`."""
        return f"{self.device.type}, {self.dtype}"

    @property
    def peak_bytes(self) -> int:
        """The most memory held up to now: what torch took of the card, or what this process held of the machine's."""
        if self.device.type == "cpu":
            return _peak_of_this_process()
        import torch

        return torch.cuda.max_memory_reserved(self.device)


def _peak_of_this_process() -> int:
    """The kernel's own mark, right to some pages.

    `ru_maxrss`, where there is no /proc, also counts what the process that started this one held.
    """
    try:
        line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return int(line.split()[1]) * 1024


def choose(device: DeviceName, dtype: DTypeName, threads: int | None, deterministic: bool = False) -> Compute:
    """The device itself, threads set; `deterministic` leaves torch only algorithms that give the same bits each time.

    StageError when cuda is asked for and is not there.

    Idle OpenMP threads sleep instead of spinning: on cores shared with others that gave five times the tokens a second.
    It counts only before torch is first imported, so a stage comes here first.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    import torch

    from stages.lib.stage import StageError

    there = torch.cuda.is_available()
    if device == "cuda" and not there:
        raise StageError("device cuda is asked for, but torch sees no CUDA device")
    name = device if device != "auto" else "cuda" if there else "cpu"
    torch.set_num_threads(thread_count(threads))
    torch.use_deterministic_algorithms(deterministic)
    if name == "cuda":
        _keep_to_limit()
    fast_bf16 = torch.cuda.is_bf16_supported(including_emulation=False) if name == "cuda" else _cpu_has_bf16_tiles()
    return Compute(torch.device(name), dtype in ("bf16", "fp16") or (dtype == "auto" and fast_bf16), dtype == "fp16")


def _keep_to_limit() -> None:
    """Give this process no more of the card than its machine lets a task have: more than that is an error of torch's, out of memory."""
    limit = os.environ.get("ALBOR_GPU_MEMORY_LIMIT_MB", "")
    if not limit.isdigit():
        return
    import torch

    total_bytes = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, int(limit) * 2**20 / total_bytes))


def _cpu_has_bf16_tiles() -> bool:
    return "amx_bf16" in _cpu_words()


def _cpu_words() -> set[str]:
    try:
        return set(CPU_INFO.read_text().split())
    except OSError:
        return set()
