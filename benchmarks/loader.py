"""Tokens a second out of 1,000 mapped shards in a global shuffle, and how soon the first batch of a random step is there.

Beside it the same gather from one array in memory, which is the floor, and the same loader through the prefetch thread. A resume is
what a new process does once torch is there and the shards' digests are checked: map all shards, draw the epoch's order, make the
batches of that step. The digest check, which reads every byte, is told apart. Limits: 500,000 tokens/s, which is 50 times what an
8 M model trains on two cores; resume 0.2 s.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import time
from pathlib import Path

import numpy as np

from benchmarks.common import folder, row
from stages.lib.files import digest_path
from stages.lib.loader import Loader
from stages.lib.prefetch import Prefetch
from stages.lib.rows import Rows, RowShards, mapped

SHARDS, ROWS_PER_SHARD, SEQ_LEN, BATCH, ACCUMULATION = 1000, 1024, 513, 16, 4
LIMIT_TOKENS_PER_S, LIMIT_RESUME_S = 500_000, 0.2


def shards(where: Path) -> list[Path]:
    """A packed side of 1,000 shards."""
    writer = RowShards(where, SEQ_LEN, "uint16", ROWS_PER_SHARD)
    dice = np.random.Generator(np.random.Philox(key=1))
    for _ in range(SHARDS):
        writer.write(dice.integers(0, 32_768, (ROWS_PER_SHARD, SEQ_LEN), dtype=np.uint16))
    writer.close()
    return [where / name for name in writer.names]


def loader_of(rows: Rows | np.ndarray) -> Loader:
    """The loader of a run with 64 rows a step."""
    return Loader(rows, BATCH * ACCUMULATION, 1, None)


def rate(loader: Loader | Prefetch, begin: int, steps: int) -> float:
    """Tokens a second over some steps, the epoch's order drawn before."""
    for _ in loader.micro_batches(begin, BATCH):
        pass
    began, tokens = time.perf_counter(), 0
    for step in range(begin + 1, begin + 1 + steps):
        tokens += sum(inputs.numel() for inputs, _ in loader.micro_batches(step, BATCH))
    return tokens / (time.perf_counter() - began)


def resume(files: list[Path], step: int) -> float:
    """Seconds until the batches of a step are there, from nothing but the files."""
    began = time.perf_counter()
    list(loader_of(Rows(mapped(files))).micro_batches(step, BATCH))
    return time.perf_counter() - began


def main() -> None:
    """Prints rates and seconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=2000)
    asked = parser.parse_args()
    with folder() as where:
        files = shards(where)
        began = time.perf_counter()
        for file in files:
            digest_path(file)
        digests = time.perf_counter() - began
        rows = Rows(mapped(files))
        plain = rows[: len(rows)]
        dice = random.Random(1)
        found: dict[str, list[float]] = {"one array in memory": [], "mapped": [], "mapped, prefetch": [], "resume": []}
        for _ in range(asked.rounds):
            begin = dice.randrange(1, len(rows) // 64 - asked.steps)
            found["one array in memory"].append(rate(loader_of(plain), begin, asked.steps))
            found["mapped"].append(rate(loader_of(rows), begin, asked.steps))
            with Prefetch(loader_of(rows)) as ahead:
                found["mapped, prefetch"].append(rate(ahead, begin, asked.steps))
            found["resume"].append(resume(files, dice.randrange(1, 10**6)))
    print(f"{SHARDS:,} shards, {len(rows):,} rows of {SEQ_LEN}, {rows.shape[0] * SEQ_LEN * 2 / 1e9:.2f} GB, load {os.getloadavg()[0]:.1f}")
    for name in ("one array in memory", "mapped", "mapped, prefetch"):
        value = statistics.median(found[name])
        row(f"tokens/s, {name}", f"{value / 1e6:,.0f} M", f"{value / LIMIT_TOKENS_PER_S:,.0f} x the limit")
    resumes = found["resume"]
    row("resume at a random step", f"{statistics.median(resumes):.3f} s", f"worst {max(resumes):.3f}, limit {LIMIT_RESUME_S}")
    row("digest of all shards, before training", f"{digests:.2f} s")


if __name__ == "__main__":
    main()
