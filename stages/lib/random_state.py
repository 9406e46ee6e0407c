"""The state of every random generator a run could draw from, as tensors; draws nothing itself."""

from __future__ import annotations

import random
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor


def seed(number: int) -> None:
    """Begins every generator from one number, so that equal runs end with equal states."""
    random.seed(number)
    np.random.seed(number % 2**32)
    torch.manual_seed(number)


def captured(device: torch.device) -> dict[str, Tensor]:
    """States of torch on the CPU and on `device`, of Python's random and of numpy's global generator."""
    version, numbers, gauss = random.getstate()
    _, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    found = {
        "cpu": torch.get_rng_state(),
        "python": torch.tensor([version, *numbers], dtype=torch.int64),
        "python_gauss": torch.tensor([] if gauss is None else [gauss], dtype=torch.float64),
        "numpy": torch.tensor([*keys.tolist(), position, has_gauss], dtype=torch.int64),
        "numpy_gauss": torch.tensor([cached], dtype=torch.float64),
    }
    if device.type == "cuda":
        found["cuda"] = torch.cuda.get_rng_state(device)
    return found


def restore(saved: Mapping[str, Tensor], device: torch.device) -> None:
    """Puts back what `captured` gave; a generator that is not named in it, as in older checkpoints, is left as it is."""
    torch.set_rng_state(saved["cpu"].clone())
    if "python" in saved:
        version, *numbers = saved["python"].tolist()
        gauss = saved["python_gauss"].tolist()
        random.setstate((version, tuple(numbers), gauss[0] if gauss else None))
    if "numpy" in saved:
        *keys, position, has_gauss = saved["numpy"].tolist()
        np.random.set_state(("MT19937", np.array(keys, dtype=np.uint32), position, has_gauss, float(saved["numpy_gauss"])))
    if device.type == "cuda" and "cuda" in saved:
        torch.cuda.set_rng_state(saved["cuda"].clone(), device)
