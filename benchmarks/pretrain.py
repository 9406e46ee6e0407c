"""Training through the real stage beside the loops of peers: tokens for each second of processor time, memory, loss, and where time goes.

    python -m benchmarks.pretrain [--steps 150] [--dtype auto] [--litgpt]      speed and memory
    python -m benchmarks.pretrain --quality [--seeds 3]                         loss after the same tokens; Muon beside AdamW

The shape has 8.0 M parameters (6 layers, 256 wide, vocabulary 8,192, rows of 256, 8 a step), the rows are random words of a fixed
distribution, the same for all. Ours is `albor-stage pretrain apply` with loader, log, clipping, checkpoints and compiling on; its tokens
are those of metrics.jsonl. A peer is a plain loop over the same rows: Hugging Face's LlamaForCausalLM with AdamW, and with --litgpt
LitGPT's model, compiled, in an environment of its own (PIP_CONSTRAINT=constraints.txt keeps its torch ours). All run at once and take
turns of some seconds by SIGSTOP, so that a busy neighbour meets each alike; what is counted is the processor time of the whole process
tree from a step past compiling to the last.
`auto` is bf16 where the processor has tiles of it, else fp32: it says which.
Limits, of bf16 on any processor: 1.35 x the Hugging Face loop, 0.95 x LitGPT compiled.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.common import ROOT, folder, peer, row

SHAPE = {"layers": 6, "d_model": 256, "heads": 8, "kv_heads": 4, "ffn": 1024, "vocab_size": 8192, "context": 256}
ROW, BATCH, WARM = 257, 8, 20
TURN_S = 4.0
END = "<|endoftext|>"


@dataclass
class Racer:
    """One process, the file its steps are written to, and processor seconds at the first and last step that count."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    errors: Path
    steps: int
    marks: list[tuple[int, float]] = field(default_factory=list)
    read: int = 0
    peak: int = 0

    def look(self) -> None:
        """Takes the steps since the last look, with the processor time now."""
        if not self.log.exists():
            return
        text = self.log.read_text()
        steps = [json.loads(line)["step"] for line in text[self.read :].splitlines() if '"loss"' in line and line.endswith("}")]
        self.read = text.rfind("\n") + 1
        steps = [step for step in steps if WARM <= step < self.steps]  # before the last one is told, ours validates
        if steps:
            self.marks.append((steps[-1], tree_seconds(self.process.pid)))
        self.peak = max(self.peak, peak_bytes(self.process.pid))

    @property
    def tokens_per_cpu_s(self) -> float:
        """Tokens for each second of processor time, steps that compile left out."""
        (first, begin), (last, end) = self.marks[0], self.marks[-1]
        return (last - first) * BATCH * (ROW - 1) / (end - begin)


def tree_seconds(pid: int) -> float:
    """User and system seconds of a process and all its descendants, those that ended included."""
    total, ticks = 0.0, os.sysconf("SC_CLK_TCK")
    for one in family(pid):
        try:
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += sum(map(int, fields[11:15])) / ticks
    return total


def family(pid: int) -> list[int]:
    """A process and its descendants."""
    found, left = [], [pid]
    while left:
        one = left.pop()
        found.append(one)
        for task in Path(f"/proc/{one}/task").glob("*/children"):
            left += map(int, task.read_text().split())
    return found


def peak_bytes(pid: int) -> int:
    """The most memory that the process held."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)


def race(racers: list[Racer]) -> None:
    """Lets one run at a time, in turns, until all have ended."""
    for one in racers:
        one.process.send_signal(signal.SIGSTOP)
    while running := [one for one in racers if one.process.poll() is None]:
        for one in running:
            signal_all(one.process.pid, signal.SIGCONT)
            end = time.monotonic() + TURN_S
            while time.monotonic() < end and one.process.poll() is None:
                time.sleep(0.05)
                one.look()
            signal_all(one.process.pid, signal.SIGSTOP)
    for one in racers:
        if one.process.returncode != 0:
            raise SystemExit(f"{one.name} failed: {one.errors.read_text()[-800:]}")


def signal_all(pid: int, number: signal.Signals) -> None:
    """To a process and its descendants."""
    for one in family(pid):
        try:
            os.kill(one, number)
        except ProcessLookupError:
            continue


def packed(where: Path, vocabulary: int, train_rows: int) -> Path:
    """Rows of words by Zipf's law in which each word leans on the one before, so that there is something to learn."""
    import numpy as np

    from stages.lib.files import digest_path
    from stages.lib.rows import RowShards

    dice = np.random.Generator(np.random.Philox(key=7))
    leaning = dice.permutation(vocabulary)
    sides = {}
    for side, rows in (("train", train_rows), ("val", 64)):
        drawn = (dice.zipf(1.3, (rows, ROW)) - 1) % vocabulary
        for column in range(1, ROW):
            follows = dice.random(rows) < 0.5
            drawn[follows, column] = leaning[drawn[follows, column - 1]]
        shards = RowShards(where / side, ROW, "uint16", 1024)
        shards.write(drawn.astype(np.uint16))
        np.save(where / f"{side}.npy", drawn)
        shards.close()
        sides[side] = {"rows": rows, "tokens": rows * ROW, "bytes_covered": rows * ROW * 3, "pad_tokens": 0,
                       "shards": [{"name": f"{side}/{name}", "digest": digest_path(where / side / name)} for name in shards.names]}
    tokenizer = where / "tok"
    tokenizer.mkdir()
    words = {END: 0, **{f"w{number}": number for number in range(1, vocabulary)}}
    (tokenizer / "tokenizer.json").write_text(json.dumps({
        "version": "1.0", "added_tokens": [{"id": 0, "content": END, "single_word": False, "lstrip": False, "rstrip": False,
                                            "normalized": False, "special": True}],
        "normalizer": None, "pre_tokenizer": None, "post_processor": None, "decoder": None, "truncation": None, "padding": None,
        "model": {"type": "WordLevel", "vocab": words, "unk_token": END}}))
    manifest = {"version": 1, "seq_len": ROW, "vocab_size": vocabulary, "eos_id": 0, "pad_id": None, "dtype": "uint16",
                "tokenizer": digest_path(tokenizer / "tokenizer.json"), "lineage": "drawn", **sides}
    (where / "manifest.json").write_text(json.dumps(manifest))
    return where


def settings(data: Path, out: Path, steps: int, dtype: str, **changes: Any) -> dict[str, Any]:
    """The stage's configuration; `changes` go into training, those of `optimizer` and `model` into theirs."""
    model, optimizer = changes.pop("model", {}), changes.pop("optimizer", {})
    return {
        "model": {**SHAPE, "context": ROW, **model}, "data": {"train": str(data / "train"), "val": str(data / "val"),
                                                              "tokenizer": str(data / "tok"), "seq_len": ROW},
        "optimizer": {"lr": 1e-3, "betas": [0.9, 0.95], "weight_decay": 0.1, **optimizer},
        "training": {"max_steps": steps, "batch_size": BATCH, "epochs": 1000, "schedule": "constant", "eval_interval": steps,
                     "checkpoint_interval": max(1, steps // 3), "log_interval": 1, "keep": 1, "device": "cpu", "threads": 1,
                     "dtype": dtype, "compile": True, "seed": 1, **changes},
        "out": str(out),
    }


def ours(where: Path, name: str, values: dict[str, Any]) -> Racer:
    """The stage as a user starts it."""
    config, run = where / f"{name}.json", where / name
    config.write_text(json.dumps(values))
    argv = [sys.executable, "-m", "stages.lib.cli", "pretrain", "apply", str(config), "--out", str(run)]
    return Racer(name, started(argv, errors := where / f"{name}.err"), run / "metrics.jsonl", errors, values["training"]["max_steps"])


def theirs(where: Path, name: str, python: Path | str, values: dict[str, Any]) -> Racer:
    """A peer's loop: this file, run by the peer's Python."""
    config, log = where / f"{name}.json", where / f"{name}.jsonl"
    config.write_text(json.dumps(values))
    argv = [str(python), str(Path(__file__).with_name("pretrain_peers.py")), name, str(config), str(log)]
    return Racer(name, started(argv, errors := where / f"{name}.err"), log, errors, values["training"]["max_steps"])


def started(argv: list[str], errors: Path) -> subprocess.Popen[bytes]:
    """With one thread, idle ones asleep, and what it complains of in a file."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "PYTHONWARNINGS": "ignore"}
    with errors.open("wb") as file:
        return subprocess.Popen(argv, env=env, stdout=subprocess.DEVNULL, stderr=file)


def speed(steps: int, dtype: str, litgpt: bool) -> None:
    """Tokens for each second of processor time."""
    python = peer("litgpt").with_name("python") if litgpt else None  # installed before anything runs
    with folder() as where:
        data = packed(where / "data", SHAPE["vocab_size"], 2000)
        values = settings(data, where / "out", steps, dtype)
        racers = [ours(where, "ours", values), theirs(where, "hf", sys.executable, values)]
        if python is not None:
            racers.append(theirs(where, "litgpt", python, values))
        race(racers)
        rates = {one.name: one.tokens_per_cpu_s for one in racers}
        for one in racers:
            beside = "" if one.name == "ours" else f"ours {rates['ours'] / rates[one.name]:.2f} x (limit {LIMITS[one.name]})"
            row(f"{one.name}, {dtype}, tokens per CPU second", f"{one.tokens_per_cpu_s:,.0f}", beside)


def overhead(steps: int, dtype: str) -> None:
    """What the stage adds to the bare loop of loader, forward, backward and optimizer, by its own account once it is compiled.

    It runs alone; two checkpoints are among the steps that count.
    """
    with folder() as where:
        data = packed(where / "data", SHAPE["vocab_size"], 2000)
        one = ours(where, "ours", settings(data, where / "out", steps, dtype))
        one.process.wait()
        lines = [line for line in map(json.loads, one.log.read_text().splitlines()) if "data_s" in line and WARM <= line["step"] < steps]
        spent = {phase: sum(line[f"{phase}_s"] for line in lines[1:]) for phase in PHASES}
        bare, whole = sum(spent.values()), lines[-1]["at"] - lines[0]["at"]
        told = ", ".join(f"{phase} {seconds:.2f} s" for phase, seconds in spent.items())
        row(f"stage beside the bare loop, {dtype}", f"{whole / bare - 1:.2%}", f"limit 3 %; {told}, all {whole:.2f} s")


def memory(steps: int, dtype: str) -> None:
    """The most memory held, with a vocabulary of 32,768."""
    with folder() as where:
        data = packed(where / "data", 32_768, 400)
        values = settings(data, where / "out", steps, dtype, model={"vocab_size": 32_768}, compile=False, checkpoint_interval=steps + 1)
        racers = [ours(where, "ours", values), theirs(where, "hf", sys.executable, values)]
        race(racers)
        held = {one.name: one.peak for one in racers}
        row("peak memory, 32,768 words", f"{held['ours'] / 2**20:,.0f} MiB",
            f"hf {held['hf'] / 2**20:,.0f}: {held['ours'] / held['hf']:.2f} (limit 0.6)")


def quality(steps: int, seeds: int) -> None:
    """The validation loss after the same tokens, and how many steps Muon takes to AdamW's."""
    with folder() as where:
        data = packed(where / "data", SHAPE["vocab_size"], 4000)
        shares, gaps = [], []
        for seed in range(1, seeds + 1):
            common = {"compile": False, "threads": None, "schedule": "cosine", "warmup_steps": steps // 20,
                      "eval_interval": max(1, steps // 20), "seed": seed}
            found = {}
            for name, optimizer, length in (("adamw", {}, steps), ("muon", {"name": "muon"}, steps * 3 // 4)):
                values = settings(data, where / f"{name}-{seed}", length, "fp32", optimizer=optimizer, **common)
                one = ours(where, f"run-{name}-{seed}", values)
                one.process.wait()
                found[name] = json.loads((one.log.parent / "result.json").read_text())["metrics"]["val_loss"]
            peer_loop = theirs(where, "hf", sys.executable, settings(data, where / "out", steps, "fp32", **common))
            peer_loop.process.wait()
            last = json.loads(peer_loop.log.read_text().splitlines()[-1])["val"]
            gaps.append(found["adamw"] - last)
            shares.append(found["muon"] - found["adamw"])
            row(f"seed {seed}: validation loss after {steps} steps", f"{found['adamw']:.4f}",
                f"hf {last:.4f}, Muon after {steps * 3 // 4} steps {found['muon']:.4f}")
        spread = statistics.stdev(gaps) if len(gaps) > 1 else 0.0
        row("ours - hf, mean over seeds", f"{statistics.mean(gaps):+.4f}", f"spread {spread:.4f}")
        row("Muon after 0.75 of the steps - AdamW", f"{statistics.mean(shares):+.4f}", "limit 0")


PHASES = ("data", "forward", "backward", "optimizer")
LIMITS = {"hf": 1.35, "litgpt": 0.95}


def main() -> None:
    """Prints the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--litgpt", action="store_true")
    parser.add_argument("--quality", action="store_true")
    parser.add_argument("--seeds", type=int, default=3)
    asked = parser.parse_args()
    if asked.quality:
        quality(asked.steps, asked.seeds)
        return
    from stages.lib.device import likely_dtype

    dtype = likely_dtype(asked.dtype, "cpu")
    speed(asked.steps, dtype, asked.litgpt)
    overhead(asked.steps, dtype)
    memory(6, dtype)


if __name__ == "__main__":
    main()
