"""What the numbers of a pretraining run say of it: cost in operations, time and memory; reads no file, imports no torch.

A fault that makes the run impossible or its result not the one asked for is an error; what only makes it worse than it could be is a
warning. Steps that the data cannot give, a warm-up that does not end, rows beyond the context and memory beyond the device are errors.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from stages.lib.devices import UNSEEN, Device
from stages.lib.memory import Memory
from stages.lib.plan_text import size
from stages.lib.settings import PretrainConfig
from stages.lib.shape import Shape
from stages.lib.stage import Check, Level

_SMALL_BATCH_TOKENS, _LARGE_MODEL = 65_536, 100_000_000
_FEW_TOKENS, _CHINCHILLA = 10, 20
_LONG_S = 14 * 86_400
_HIGH_END = 0.1
_TIGHT = 0.9
_HAS_MUON = (2, 9)
# Compiling takes about a minute and saves about a fifth: operations of some ten minutes on two threads, and on a card.
_PAYS_ON_CPU, _PAYS_ON_GPU = 4e13, 5e16


def flops_per_token(shape: Shape, seq_len: int) -> float:
    """Operations of one token of training: 6P + 12 L d T (Chowdhery et al. 2022, PaLM, appendix B), T the row's length."""
    return 6.0 * shape.parameters() + 12.0 * shape.num_hidden_layers * shape.hidden_size * seq_len


def compiles(config: PretrainConfig, on_cpu: bool) -> bool:
    """Whether the run is compiled: as asked for, else where it has so much to compute that the time for compiling comes back."""
    if config.training.compile != "auto":
        return config.training.compile
    return config.tokens * flops_per_token(config.model, config.data.seq_len) >= (_PAYS_ON_CPU if on_cpu else _PAYS_ON_GPU)


def number_checks(config: PretrainConfig, seconds: float) -> list[Check]:
    """What can be judged from the configuration alone; `seconds` is the estimated time."""
    shape, training, seq_len = config.model, config.training, config.data.seq_len
    checks = []
    if seq_len > shape.max_position_embeddings:
        checks.append(Check("positions", "error", f"data.seq_len {seq_len} is more than the model's context, "
                            f"max_position_embeddings {shape.max_position_embeddings}"))
    checks += [*_schedule_checks(config), *_token_checks(config)]
    if training.checkpoint_interval % training.eval_interval:
        checks.append(Check("best", "warning", f"checkpoint_interval {training.checkpoint_interval} is not a multiple "
                            f"of eval_interval {training.eval_interval}: the best one kept is the best of those judged"))
    if training.grad_clip is None:
        checks.append(Check("clip", "warning", "grad_clip is null: no gradient is scaled down"))
    if config.optimizer.name == "muon" and (found := _torch_here()) and tuple(map(int, found.split(".")[:2])) < _HAS_MUON:
        checks.append(Check("optimizer", "error", f"muon needs torch {_HAS_MUON[0]}.{_HAS_MUON[1]} or newer, this is {found}: "
                            "install that, or optimizer.name adamw"))
    if seconds > _LONG_S:
        checks.append(Check("time", "warning", f"about {seconds / 86_400:,.0f} days, more than 14; fewer tokens "
                            "(max_steps, accumulation), a smaller model or a faster device"))
    return checks or [Check("numbers", "ok", "positions, warm-up, batch and intervals fit")]


def memory_checks(needed: Memory, device: Device, own: bool) -> list[Check]:
    """Whether the peak fits. `own`: the device is the one that trains, or a GPU that is here; else a processor's memory is a warning."""
    total, there = needed.total_bytes, device.memory_bytes
    if there is None:
        level: Level = "when-ready" if device.name == UNSEEN else "warning"
        return [Check("memory", level, f"{size(total)} at the peak cannot be judged, for the memory of {device.name} is not known; "
                      "plan with --device or --vram says it")]
    largest = max(needed.parts, key=lambda part: needed.parts[part])
    if total > there:
        text = (f"{size(total)} at the peak is more than the {size(there)} of {device.name}; the largest part is "
                f"{largest}, {size(needed.parts[largest])}. Lower batch_size and raise accumulation as much, or lower seq_len")
        return [Check("memory", "error" if own else "warning", text)]
    if total > _TIGHT * there:
        return [Check("memory", "warning", f"{total / there:.0%} of {device.name}'s memory; the estimate is good to a tenth")]
    return [Check("memory", "ok", f"{size(total)} of {size(there)}")]


def _torch_here() -> str | None:
    """None where a plan is made without torch, for a machine that has it."""
    try:
        return version("torch")
    except PackageNotFoundError:
        return None


def _schedule_checks(config: PretrainConfig) -> list[Check]:
    training = config.training
    checks = []
    if training.warmup_steps >= training.max_steps:
        checks.append(Check("warm-up", "error", f"warmup_steps {training.warmup_steps} does not end before "
                            f"max_steps {training.max_steps}"))
        return checks
    if training.decay_start is not None and training.warmup_steps > training.decay_start:
        checks.append(Check("decay", "error", f"the decay of wsd begins after step {training.decay_start}, before warmup_steps "
                            f"{training.warmup_steps} has ended; lower decay_ratio or warmup_steps"))
    if training.warmup_steps > training.max_steps / 10:
        share = training.warmup_steps / training.max_steps
        checks.append(Check("warm-up", "warning", f"warm-up takes {share:.1%} of the steps; 10 % is usual at most"))
    peak = config.optimizer.lr
    end = training.lr_at(training.max_steps, peak)
    if end > _HIGH_END * peak:
        checks.append(Check("lr-end", "warning", f"the rate ends at {end:g}, {end / peak:.0%} of its peak; most of what a falling "
                            "rate gives comes at its end: schedule cosine, linear or wsd with min_lr_ratio 0.1 at most"))
    return checks


def _token_checks(config: PretrainConfig) -> list[Check]:
    numbers, checks = config.model.parameters(), []
    if numbers >= _LARGE_MODEL and config.batch_tokens < _SMALL_BATCH_TOKENS:
        least = -(-_SMALL_BATCH_TOKENS // (config.training.batch_size * config.data.seq_len))
        checks.append(Check("batch", "warning", f"{config.batch_tokens:,} tokens a step is small for "
                            f"{numbers:,} parameters; {_SMALL_BATCH_TOKENS:,} is usual at least: accumulation {least}"))
    each = config.tokens / numbers
    if each < _FEW_TOKENS:
        checks.append(Check("tokens-per-parameter", "warning", f"{each:.1f} tokens a parameter, under {_FEW_TOKENS}: a smaller model "
                            f"would learn as much; {_CHINCHILLA} is compute-optimal (Hoffmann et al. 2022)"))
    elif each < _CHINCHILLA:
        checks.append(Check("tokens-per-parameter", "ok", f"{each:.1f} tokens a parameter; {_CHINCHILLA} is compute-optimal"))
    return checks
