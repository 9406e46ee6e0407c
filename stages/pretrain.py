"""Pretrain: a small LLaMA from nothing on packed rows, exact after any crash; knows no engine."""

from __future__ import annotations

import math
import shutil
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.lib import interrupts, pretrain_plan
from stages.lib.budget import compiles
from stages.lib.device import Compute, choose
from stages.lib.devices import Target, card
from stages.lib.files import digest_bytes, digest_path, output_folder
from stages.lib.loader import Loader, Packed, Phase, manifest_of, read_packed, read_rows
from stages.lib.settings import PretrainConfig, Rivals
from stages.lib.stage import Plan, Report, Run, StageError

if TYPE_CHECKING:
    from stages.lib.session import Session

# Options are told only where they are on: a checkpoint from before an option existed is one where it was off.
_OFF = {
    "model.qk_norm": "False", "model.rope_scaling": "None", "optimizer.name": "adamw", "optimizer.momentum": "0.95",
    **{f"training.{name}": "None" for name in ("decay_ratio", "decay_shape", "ema", "eval_rows", "full_eval_interval")},
    **{f"training.{name}": "False" for name in ("activation_checkpointing", "compile", "deterministic", "document_mask")},
    "training.z_loss": "0.0", "watch.patience": "0", "watch.noise_scale": "False",
    **{f"watch.{name}": "None" for name in ("dead", "spikes", "zclip")},
}
_DECIDES_NO_NUMBER = {"checkpoint_interval", "log_interval", "keep", "threads", "device", "row_log", "compile"}


Config = PretrainConfig


def plan(config: Config, target: Target | None = None) -> Plan:
    """Proves what can be known without torch and without training; `target` says for which device, if not this machine's."""
    return pretrain_plan.plan(config, target)


def apply(config: Config, run: Run) -> Report:
    """Trains to max_steps, going on from the newest good checkpoint of the work folder, and writes the model.

    On the CPU the result is the same bytes however often it was interrupted. SIGTERM and SIGINT save a checkpoint and exit 143 and 130.
    """
    with interrupts.heard() as asked, closing(_open(config, run, asked)) as session:
        _train(session)
        step = session.take_best() if session.out_of_patience else session.history[-1].step
        with output_folder(Path(config.out)) as folder:
            _write_model(session, folder, step)
        return _report(session, step)


def _train(session: Session) -> None:
    """Every step from the one after the state's to the last, and the checkpoint of that one on the disk."""
    training = session.config.training
    step = session.state.step
    try:
        session.validate_if_due(step)
        while step < training.max_steps and not session.out_of_patience:
            step = session.advance(step + 1)
            session.validate_if_due(step)
            session.show_if_due(step)
            last = step == training.max_steps or session.out_of_patience
            if step != session.saved and (last or step % training.checkpoint_interval == 0):
                session.save(step, goes_on=not last)
            if not last:
                session.asked.check()
    except interrupts.InterruptedRunError:
        session.leave(step)
        raise SystemExit(128 + session.asked.number) from None
    session.writer.wait()


def _open(config: Config, run: Run, asked: interrupts.Asked) -> Session:
    """Data, model and optimizers, and the state to go on from."""
    training = config.training
    compute = choose(training.device, training.dtype, training.threads, training.deterministic)

    import torch

    from stages.lib import checkpoint, hf, random_state
    from stages.lib.model import Llama, initialise
    from stages.lib.prefetch import Prefetch
    from stages.lib.rivals import texts_of
    from stages.lib.row_log import RowLog
    from stages.lib.session import Session
    from stages.lib.trainer import Trainer

    hf.end_of_text(Path(config.data.tokenizer))  # without it the model could not be written, in the end
    if config.rivals is not None and not any(texts_of(Path(config.rivals.val_text))):
        raise StageError(f"rivals.val_text: {config.rivals.val_text} holds no text to compare with")
    model = Llama(config.model)
    compiled = _compiled(config, compute)
    random_state.seed(training.seed)
    train, loader = _loader(config)
    ahead = Prefetch(loader, pinned=compute.device.type == "cuda")
    trainer = Trainer(model, ahead, config.optimizer, training, compute, train.eos_id if training.document_mask else None, compiled)

    def begin_anew() -> None:
        initialise(model, training.seed)
        if config.init_from is not None:
            hf.fill(model, Path(config.init_from))
        random_state.seed(training.seed)
        trainer.reset()

    val = read_packed(Path(config.data.val))
    made_with = _made_with(config, compiled, compute.dtype)
    folder = run.work / "checkpoints"
    found = checkpoint.newest(folder, lambda text: print(f"warning: {text}", file=sys.stderr))
    state = checkpoint.TrainState(step=0, epoch=0, rows_into_epoch=0, trained_s=0, history=(), made_with=made_with)
    if found is None:
        begin_anew()
    else:
        _refuse_other_settings(found.state.made_with, made_with, folder)
        state = found.state
        trainer.restore(found.tensors, state.counters)
        print(f"going on from {found.name}", file=sys.stderr)
    writer = checkpoint.Writer(folder, training.keep, resumed_from=state.step or None, beat=run.beat)
    row_log = RowLog(run.work / "rows.jsonl", state.step) if training.row_log else None
    device = card(torch.cuda.get_device_name()) if compute.device.type == "cuda" else None
    return Session(config, run, trainer, ahead, val, read_rows(val), state, writer, device, asked, begin_anew, row_log)


def _loader(config: Config) -> tuple[Packed, Loader]:
    """The rows of `data.train`, and the order in which they and those of the curriculum are read."""
    packed = {side: read_packed(Path(side)) for side in config.data.training_sides}
    rows = {side: read_rows(found) for side, found in packed.items()}
    phases = [Phase(rows[phase.train], phase.until_step) for phase in config.data.curriculum]
    last, training = packed[config.data.train], config.training
    pad_id = next((found.pad_id for found in packed.values() if found.pad_id is not None), None)
    return last, Loader([*phases, Phase(rows[config.data.train])], training.rows_per_step, training.seed, pad_id)


def _compiled(config: Config, compute: Compute) -> bool:
    """Whether to compile; StageError when that is asked for and there is no compiler, which `auto` does without."""
    on_cpu = compute.device.type == "cpu"
    if not compiles(config, on_cpu):
        return False
    if shutil.which("g++" if on_cpu else "gcc") or shutil.which("clang"):
        return True
    if config.training.compile != "auto":
        raise StageError("training.compile needs a C++ compiler: `apt install g++`, or compile: false")
    print("warning: there is no C++ compiler, so the run is not compiled and slower; `apt install g++` mends it", file=sys.stderr)
    return False


def _made_with(config: Config, compiled: bool, dtype: str) -> dict[str, str]:
    """Every setting that decides a number of the result, by dotted name; data and tokenizer by digest."""
    unnumbered = _DECIDES_NO_NUMBER - ({"checkpoint_interval"} if config.watch.spikes else set())
    parts = {
        "model": config.model.model_dump(), "optimizer": config.optimizer.model_dump(),
        "training": config.training.model_dump(exclude=unnumbered), "watch": config.watch.model_dump(),
        "data": {"seq_len": config.data.seq_len},
    }
    told = {f"{part}.{key}": str(value) for part, values in parts.items() for key, value in values.items()}
    packed = {"data.train": config.data.train, "data.val": config.data.val}
    packed |= {f"data.curriculum.{phase.until_step}": phase.train for phase in config.data.curriculum}
    told |= {key: digest_bytes(manifest_of(Path(p)).read_bytes() + Path(p).name.encode()) for key, p in packed.items()}
    told["data.tokenizer"] = digest_path(Path(config.data.tokenizer) / "tokenizer.json")
    told["init_from"] = digest_path(Path(config.init_from) / "model.safetensors") if config.init_from else "drawn"
    told |= {"training.compile": str(compiled), "training.dtype": dtype}
    return {key: value for key, value in sorted(told.items()) if _OFF.get(key) != value}


def _refuse_other_settings(then: dict[str, str], now: dict[str, str], folder: Path) -> None:
    keys = sorted({*then, *now})
    changed = [f"{key} {then.get(key)} -> {now.get(key)}" for key in keys if then.get(key) != now.get(key)]
    if changed:
        raise StageError(f"the checkpoints in {folder} were made with other settings ({'; '.join(changed)}); "
                         "give this run a work folder of its own")


def _write_model(session: Session, folder: Path, step: int) -> None:
    """The Hugging Face folder, with training.json: where the weights come from, no time and no host in it."""
    from stages.lib import hf

    config = session.config
    told = {
        "version": 1, "seed": config.training.seed, "steps": step, "made_with": session.state.made_with,
        "validation": [e.model_dump(exclude={"minutes"}) for e in session.history],
        "full_validation": [e.model_dump(exclude={"minutes"}) for e in session.full],
    }
    with session.trainer.averaged():
        hf.write(folder, session.trainer.model, config.model, Path(config.data.tokenizer), {"training.json": told})


def _report(session: Session, step: int) -> Report:
    """Figures and lines of the whole run."""
    import numpy
    import torch

    config, first, minutes = session.config, session.history[0], session.trained_s / 60
    of_step = [e for e in (*session.history, *session.full) if e.step == step]
    last, rate, text = of_step[-1], session.rate.tokens_per_s, session.trainer.compute.text
    line = (f"validation {last.bits_per_byte:.3f} bits per byte (before training {first.bits_per_byte:.2f}) after "
            f"{last.step:,} steps, {minutes:.1f} min, {rate:,.0f} tokens/s on {text}")
    metrics: dict[str, float | int | str] = {
        "parameters": config.model.parameters(), "steps": last.step, "resumed_from": session.state.step,
        "val_loss": last.loss, "val_bits_per_byte": last.bits_per_byte,
        "before_bits_per_byte": first.bits_per_byte, "best_val_loss": min(e.loss for e in session.history),
        "minutes": minutes, "tokens_per_s": rate, "device": text, "compiled": str(session.trainer.compiled),
        "skipped_steps": session.watch.guard.skipped, "rollbacks": session.watch.guard.rollbacks,
        **{f"seconds_in_{part}": value for part, value in {**session.spent_s, **session.trainer.phases.seconds()}.items()},
        "peak_memory_bytes": session.trainer.compute.peak_bytes,
    }
    if math.isfinite(session.last_loss):
        metrics["train_loss"] = session.last_loss
    lines = [line]
    if session.out_of_patience:
        lines.append(f"ended early, after {session.history[-1].step:,} of {config.training.max_steps:,} steps; "
                     f"the weights are those after step {step:,}")
    if config.rivals is not None:
        said, found = _race(config.rivals, session.history, minutes)
        lines.append(said)
        metrics |= found
    return Report(metrics, tuple(lines), {config.out: digest_path(Path(config.out))},
                  {"torch": torch.__version__, "numpy": numpy.__version__}, config.training.seed)


def _race(rivals: Rivals, history: list[Any], minutes: float) -> tuple[str, dict[str, float | int | str]]:
    """When the model first needed fewer bits than `xz -9e` of the same text as one stream."""
    from stages.lib.rivals import one_stream, texts_of

    stream = one_stream(texts_of(Path(rivals.val_text)))
    beaten = next((e for e in history if e.bits_per_byte < stream), None)
    found: dict[str, float | int | str] = {"xz_one_stream_bits_per_byte": stream}
    if beaten is None:
        return f"xz -9e, one stream, {stream:.3f}: not reached in {minutes:.1f} min", found
    found["minutes_to_beat_one_stream"] = beaten.minutes
    return f"xz -9e, one stream, {stream:.3f}: beaten after {beaten.minutes:.1f} min, at step {beaten.step:,}", found
