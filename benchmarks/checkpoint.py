"""What a checkpoint costs beside torch.save and torch.load of the same state: the stall of training, the whole save, the load.

The state is weights and two moments in fp32 of as many parameters as asked for, in tensors of a 350M model's shapes. Rounds are
interleaved, medians counted. torch.save is timed as it is, and made to survive a power cut, as ours does: fsynced under another
name, renamed over the one before. A load ends with every value copied into the tensors of training; ours has proven each byte by
then. Limits: stall 0.10, save 1.2 of the durable torch.save, load 1.2 of torch.load.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.common import row
from stages.lib import checkpoint
from stages.lib.device import choose

WIDE, FFN, VOCABULARY = 1024, 4096, 32_768
LIMITS = {"stall": 0.10, "save": 1.2, "load": 1.2}


def state_of(parameters: int) -> dict[str, dict[str, torch.Tensor]]:
    """Weights and moments of a model with an embedding and as many layers as it takes."""
    weights = {"embed": torch.randn(VOCABULARY, WIDE)}
    layer = {"q": (WIDE, WIDE), "k": (WIDE // 4, WIDE), "v": (WIDE // 4, WIDE), "o": (WIDE, WIDE), "gate": (FFN, WIDE), "up": (FFN, WIDE),
             "down": (WIDE, FFN), "norm_a": (WIDE,), "norm_b": (WIDE,)}
    while sum(weight.numel() for weight in weights.values()) < parameters:
        number = len(weights)
        weights |= {f"layer.{number}.{name}": torch.randn(shape) for name, shape in layer.items()}
    moments = {f"{name}/{entry}": torch.randn_like(weight) for name, weight in weights.items() for entry in ("exp_avg", "exp_avg_sq")}
    return {"weights": weights, "moments": moments}


def train_state(step: int) -> checkpoint.TrainState:
    """A state without a history."""
    return checkpoint.TrainState(step=step, epoch=0, rows_into_epoch=0, trained_s=0, history=(), made_with={})


def seconds_of(what: Callable[[], object]) -> float:
    """Wall seconds of one call."""
    began = time.perf_counter()
    what()
    return time.perf_counter() - began


def durable(partial: Path, path: Path) -> None:
    """Puts a file on the disk in the place of the one before."""
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(path)


def copied(into: dict[str, dict[str, torch.Tensor]], found: dict[str, dict[str, torch.Tensor]]) -> None:
    """What a restore does: every value into the tensor that training holds."""
    for stem, group in into.items():
        for name, tensor in group.items():
            tensor.copy_(found[stem][name])


def one_round(number: int, where: Path, writer: checkpoint.Writer, state: dict[str, dict[str, torch.Tensor]]) -> dict[str, float]:
    """Seconds of every part, each beside its peer."""
    partial, peer = where / "peer.partial", where / "peer.pt"
    plain = seconds_of(lambda: torch.save(state, partial))
    whole = plain + seconds_of(lambda: durable(partial, peer))
    stall = seconds_of(lambda: writer.save(train_state(number), state))
    save = stall + seconds_of(writer.wait)
    peer_load = seconds_of(lambda: copied(state, torch.load(peer)))
    load = seconds_of(lambda: copied(state, dict(checkpoint.load(writer.folder / f"step-{number:08d}").tensors)))
    return {"torch.save": plain, "torch.save, durable": whole, "stall": stall, "save": save, "torch.load": peer_load, "load": load}


def main() -> None:
    """Prints the three ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parameters", type=int, default=100_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="a folder on the disk to measure, instead of the one for temporary files")
    asked = parser.parse_args()
    choose("cpu", "fp32", None)
    where = Path(tempfile.mkdtemp(dir=asked.folder))
    try:
        state = state_of(asked.parameters)
        size = sum(tensor.numel() * 4 for group in state.values() for tensor in group.values())
        writer = checkpoint.Writer(where / "checkpoints", keep=1)
        writer.prepare(state)
        writer.wait()
        first = seconds_of(lambda: writer.save(train_state(1), state))
        writer.wait()
        rounds = [one_round(2 + number, where, writer, state) for number in range(asked.rounds)]
    finally:
        shutil.rmtree(where, ignore_errors=True)
    times = {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}
    print(f"{size / 1e9:.2f} GB, {asked.rounds} rounds, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    for name, value in times.items():
        row(name, f"{value:.3f} s", f"{size / value / 1e9:.2f} GB/s")
    row("stall of the first save, its buffers taken before", f"{first:.3f} s")
    for name, over in (("stall", "torch.save"), ("stall", "torch.save, durable"), ("save", "torch.save, durable"), ("load", "torch.load")):
        ratio = statistics.median(one[name] / one[over] for one in rounds)
        row(f"{name} / {over}", f"{ratio:.3f}", f"limit {LIMITS[name]}")


if __name__ == "__main__":
    main()
