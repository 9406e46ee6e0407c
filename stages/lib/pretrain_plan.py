"""The plan of a pretraining run as blocks of lines and checks; decides what is shown and asks others for every number."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from stages.lib import budget, data_checks
from stages.lib.checks import apart_check, disk_check
from stages.lib.data_checks import Sides
from stages.lib.device import cpu_multiplies_by_fp32, likely_dtype
from stages.lib.devices import Device, Target, chosen, guessed_tokens_per_s
from stages.lib.loader import manifest_of
from stages.lib.memory import VALIDATED_ROWS, Memory, memory
from stages.lib.plan_text import count, size
from stages.lib.settings import PretrainConfig, TrainingConfig
from stages.lib.stage import Check, Plan
from stages.lib.watch import watch_checks


def plan(config: PretrainConfig, target: Target | None) -> Plan:
    """Everything that a run needs and whether it can be made, on the target's device or on this machine's.

    ValueError when the target names a device that is not in the table.
    """
    training, seq_len = config.training, config.data.seq_len
    device = chosen(target, training.device, training.threads)
    dtype = likely_dtype(training.dtype, "cpu" if device.is_cpu else "cuda")
    checks, sides = data_checks.packed_sides(config)
    needed = memory(config.model, training, seq_len, bf16=dtype != "fp32", on_cpu=device.is_cpu, optimizer=config.optimizer,
                    val_rows=sides.val.rows if sides is not None else VALIDATED_ROWS, compiled=budget.compiles(config, device.is_cpu),
                    by_fp32=device.is_cpu and dtype != "fp32" and cpu_multiplies_by_fp32())
    rate, source = _rate(config, target, device, dtype)
    seconds = config.tokens / rate
    if sides is not None:
        checks += data_checks.row_checks(config, sides)
    checks += budget.number_checks(config, seconds)
    checks += watch_checks(config)
    checks += budget.memory_checks(needed, device, target is not None or not device.is_cpu)
    checks += [data_checks.tokenizer_check(config.data.tokenizer, config.model.vocab_size, sides.train if sides else None),
               disk_check(config.out, config.disk_bytes, os.environ.get("ALBOR_WORK"))]
    reads = tuple(_reads(config))
    checks += [apart_check(config.out, reads), *data_checks.path_checks(config)]
    return Plan(
        "pretrain",
        (
            ("Model", (config.model.text(),)),
            ("Memory", _memory_lines(config, needed, device, dtype)),
            ("Data", _data_lines(config, sides, checks)),
            ("Training", (*_training_lines(config, sides), _options(config, device.is_cpu))),
            ("Time", _time_lines(config, target, device, seconds, rate, source)),
            ("Writes", (f"{config.out}   checkpoints in the work folder",)),
        ),
        tuple(checks), reads=reads, writes=(config.out,),
        estimates={"parameters": config.model.parameters(), "tokens": config.tokens, "steps": training.max_steps,
                   "memory_bytes": needed.total_bytes, "staging_bytes": needed.staging_bytes, "disk_bytes": config.disk_bytes,
                   "flops": config.tokens * budget.flops_per_token(config.model, seq_len), "seconds": seconds},
    )


def _rate(config: PretrainConfig, target: Target | None, device: Device, dtype: str) -> tuple[float, str]:
    if target is not None and target.tokens_per_s is not None:
        return target.tokens_per_s, "as measured"
    return guessed_tokens_per_s(device, dtype, budget.flops_per_token(config.model, config.data.seq_len))


def _memory_lines(config: PretrainConfig, needed: Memory, device: Device, dtype: str) -> tuple[str, ...]:
    training, layers = config.training, needed.layers
    one = size(layers[0])
    whole = f"{one} of one layer at a time" if training.activation_checkpointing else f"{len(layers)} layers of {one}"
    notes = {"weights": "fp32", "activations": f"{whole}, micro-batch {training.batch_size} x {config.data.seq_len:,}"}
    shown = [f"{part} {size(value)}" + (f" ({notes[part]})" if part in notes else "") for part, value in needed.parts.items() if value]
    total, there = needed.total_bytes, device.memory_bytes
    fits = f"of {size(there)} ({total / there:.1%}), headroom {size(max(0, there - total))}" if there else "of an unknown memory"
    verdict = "" if there is None else "   ok" if total <= there else "   TOO MUCH"
    staging = f"   staging of a checkpoint: host {size(needed.staging_bytes)}" if needed.staging_bytes else ""
    half = (len(shown) + 1) // 2
    return ("   ".join(shown[:half]), "   ".join(shown[half:]), f"total {size(total)} {fits}, {dtype} on {device.name}{verdict}{staging}")


def _data_lines(config: PretrainConfig, sides: Sides | None, checks: list[Check]) -> tuple[str, ...]:
    data = config.data
    if sides is None:
        return (f"train {data.train}   val {data.val}   rows of {data.seq_len:,}",)
    wrong = {check.name for check in checks if check.level == "error"}
    named = [*(("train", side) for side in sides.training.values()), ("val", sides.val)]
    rows = "   ".join(f"{name} {count(len(side.shards), 'shard')}, {side.rows:,} x {side.seq_len:,}" for name, side in named)
    lineage = "NOT ONE SPLIT" if "lineage" in wrong else "same lineage, disjoint"
    match = "NOT" if wrong & {"vocabulary", "tokenizer"} else "="
    return (f"{rows}, {lineage}   tokenizer {sides.train.vocab_size:,} {match} model",)


def _training_lines(config: PretrainConfig, sides: Sides | None) -> tuple[str, ...]:
    training = config.training
    end = training.lr_at(training.max_steps, config.optimizer.lr)
    reachable = f" of {data_checks.reachable_steps(config, sides):,} reachable" if sides is not None else ""
    kept = f"keep {training.keep} + best, {size(config.disk_bytes)}"
    return (
        (f"{config.batch_tokens:,} tokens a step ({training.batch_size} x {training.accumulation} x {config.data.seq_len:,})   "
         f"{training.max_steps:,} steps{reachable}   {config.tokens:,} tokens "
         f"({config.tokens / config.model.parameters():.1f} a parameter)"),
        (f"warm-up {training.warmup_steps} ({training.warmup_steps / training.max_steps:.1%})   {_schedule(training)} from "
         f"{config.optimizer.lr:g} to {end:g} at {training.max_steps:,}   validation every {training.eval_interval}   "
         f"checkpoint every {training.checkpoint_interval}: {kept}"),
    )


def _options(config: PretrainConfig, on_cpu: bool) -> str:
    """What is chosen beside numbers, the defaults in words too."""
    training, watch = config.training, config.watch
    chosen = [
        {"adamw": "AdamW", "muon": "Muon, AdamW for embedding, head and norms"}[config.optimizer.name],
        "compiled" if budget.compiles(config, on_cpu) else "not compiled",
        f"averaged weights ({training.ema:g})" if training.ema is not None else "",
        f"z-loss {training.z_loss:g}" if training.z_loss else "", "documents masked" if training.document_mask else "",
        "layers computed again on the way back" if training.activation_checkpointing else "",
        "deterministic" if training.deterministic else "",
        *(f"{phase.train} to step {phase.until_step:,}" for phase in config.data.curriculum),
        f"patience {watch.patience}" if watch.patience else "",
        *(name for name in ("spikes", "zclip", "dead", "noise_scale") if getattr(watch, name)),
    ]
    return "   ".join(filter(None, chosen))


def _schedule(training: TrainingConfig) -> str:
    if training.decay_start is None:
        return training.schedule
    return f"wsd (a {training.decay_shape or 'cosine'} from step {training.decay_start:,} on)"


def _time_lines(
    config: PretrainConfig, target: Target | None, device: Device, seconds: float, rate: float, source: str,
) -> tuple[str, ...]:
    work = budget.flops_per_token(config.model, config.data.seq_len)
    price = target.price_per_hour if target is not None else None
    cost = f"   cost {price * seconds / 3600:,.2f} at {price:g} an hour" if price is not None else ""
    return (f"about {_duration(seconds)} on {device.name} ({rate:,.0f} tokens/s: {source}){cost}",
            f"{work / 1e9:,.2f} GFLOP a token, 6P + 12 L d T (PaLM, appendix B)   {work * config.tokens:.3g} FLOP in all")


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86_400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length or unit == "min":
            return f"{seconds / length:,.1f} {unit}"
    raise AssertionError


def _reads(config: PretrainConfig) -> Iterator[str]:
    yield from (*config.data.training_sides, config.data.val)
    yield from dict.fromkeys(str(manifest_of(Path(side))) for side in config.data.training_sides)
    yield config.data.tokenizer
    if config.rivals is not None:
        yield config.rivals.val_text
    if config.init_from is not None:
        yield config.init_from
