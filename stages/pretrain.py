"""Pretrain: a small LLaMA from nothing on packed rows, exact after any crash; knows no engine."""

from __future__ import annotations

import math
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from stages.lib import pretrain_plan
from stages.lib.device import choose
from stages.lib.devices import Target
from stages.lib.files import digest_bytes, digest_path, output_folder
from stages.lib.loader import Packed, manifest_of, read_packed
from stages.lib.settings import PretrainConfig, Rivals
from stages.lib.stage import Plan, Report, Run, StageError

if TYPE_CHECKING:
    from stages.lib.checkpoint import TrainState, Writer
    from stages.lib.row_log import RowLog
    from stages.lib.trainer import Step, Trainer

_DECIDES_NO_NUMBER = {"checkpoint_interval", "log_interval", "keep", "threads", "device", "row_log"}
# Options are told only where they are on: a checkpoint from before an option existed is one where it was off.
_OFF = {"model.qk_norm": "False", "model.rope_scaling": "None", "training.document_mask": "False"}


Config = PretrainConfig


def plan(config: Config, target: Target | None = None) -> Plan:
    """Proves what can be known without torch and without training; `target` says for which device, if not this machine's."""
    return pretrain_plan.plan(config, target)


def apply(config: Config, run: Run) -> Report:
    """Trains to max_steps, going on from the newest good checkpoint of the work folder, and writes the model.

    On the CPU the result is the same bytes however often it was interrupted. SIGTERM and SIGINT save a checkpoint and exit 143 and 130.
    """
    session = _open(config, run)
    with closing(session):
        with _signals() as asked:
            _train(session, asked)
        with output_folder(Path(config.out)) as folder:
            session.write_model(folder)
        return session.report()


def _train(session: _Session, asked: _Asked) -> None:
    """Every step from the one after the state's to the last, and the checkpoint of that one on the disk."""
    training = session.config.training
    step = session.state.step
    try:
        session.validate_if_due(step, asked)
        for step in range(session.state.step + 1, training.max_steps + 1):
            done = session.train(step)
            last = step == training.max_steps
            session.validate_if_due(step, asked)
            if last or step % training.log_interval == 0:
                session.show(step, done)
            if last or step % training.checkpoint_interval == 0:
                session.save(step)
            if not last:
                asked.check()
    except _StoppedError:
        session.leave(step, asked.name)
        raise SystemExit(128 + asked.number) from None
    session.writer.wait()


@dataclass
class _Session:
    """What one process of a run holds: the trainer, the last saved state, and how far it has come since."""

    config: Config
    run: Run
    trainer: Trainer
    val: Packed
    val_rows: Any
    state: TrainState
    made_with: dict[str, str]
    history: list[Any]
    writer: Writer
    row_log: RowLog | None
    saved: int = 0
    last: Step | None = None
    tokens: int = 0
    stepping_s: float = 0.0
    started: float = field(default_factory=time.monotonic)

    @property
    def trained_s(self) -> float:
        """Seconds of training up to now, those before a crash included, those lost by it not."""
        return self.state.trained_s + time.monotonic() - self.started

    def train(self, step: int) -> Step:
        """Makes one step; the rate counts only steps this process made."""
        begin = time.monotonic()
        done = self.trainer.step(step)
        self.stepping_s += time.monotonic() - begin
        self.tokens += done.tokens
        self.last = done
        if self.row_log is not None:
            self.row_log.write(step, self.trainer.loader.place(step), self.trainer.loader.rows_of(step))
        self.run.beat()
        return done

    def validate_if_due(self, step: int, asked: _Asked) -> None:
        """Adds the validation after `step` to the history, where one belongs and none was made: a stop may have left it out."""
        training = self.config.training
        due = step == training.max_steps or step % training.eval_interval == 0
        if due and not (self.history and self.history[-1].step == step):
            self.validate(step, asked)

    def validate(self, step: int, asked: _Asked) -> None:
        """Adds the validation after `step` to the history; _StoppedError when a signal comes while it is made."""
        from stages.lib.checkpoint import Evaluation
        from stages.lib.loader import batches

        loss = self.trainer.validate(self._watched(batches(self.val_rows, 16, self.val.pad_id), asked))
        if not math.isfinite(loss):
            raise StageError(f"the validation loss after step {step} is {loss}; nothing is saved")
        bits = loss / math.log(2) * self.val.tokens_per_byte
        self.history.append(Evaluation(step=step, loss=loss, bits_per_byte=bits, minutes=self.trained_s / 60))
        self.run.progress(step, self.config.training.max_steps, val=loss, bits_per_byte=bits,
                          best_val=min(e.loss for e in self.history))

    def show(self, step: int, done: Step) -> None:
        """One line of progress."""
        steps_left, rate = self.config.training.max_steps - step, self.tokens / self.stepping_s
        self.run.progress(
            step, self.config.training.max_steps, loss=done.loss, lr=done.lr, grad_norm=done.grad_norm,
            best_val=min(e.loss for e in self.history), tokens_per_s=rate, eta_s=steps_left * done.tokens / rate,
        )

    def save(self, step: int) -> None:
        """A checkpoint after `step`, copied here and written while training goes on."""
        from stages.lib import checkpoint

        epoch, rows = self.trainer.loader.position(step)
        state = checkpoint.TrainState(
            step=step, epoch=epoch, rows_into_epoch=rows, trained_s=self.trained_s,
            history=tuple(self.history), made_with=self.made_with,
        )
        if self.row_log is not None:
            self.row_log.sync()
        self.writer.save(state, self.trainer.tensors())
        self.saved = step

    def leave(self, step: int, name: str) -> None:
        """Saves what is done, waits until it is on the disk, and says that the run is interrupted."""
        if step not in (0, self.saved):
            self.save(step)
        self.writer.wait()
        figures = {"loss": self.last.loss, "lr": self.last.lr, "grad_norm": self.last.grad_norm} if self.last else {}
        self.run.progress(step, self.config.training.max_steps, **figures, status="interrupted", signal=name)
        kept = "its checkpoint is saved" if step else "there is nothing to save yet"
        print(f"stopped by {name} after step {step}; {kept}", file=sys.stderr)

    def close(self) -> None:
        """Ends the threads; a save that is under way is let end."""
        self.trainer.loader.close()
        self.writer.close()
        if self.row_log is not None:
            self.row_log.close()

    def _watched(self, batches: Iterable[Any], asked: _Asked) -> Iterator[Any]:
        for batch in batches:
            asked.check()
            self.run.beat()
            yield batch

    def write_model(self, folder: Path) -> None:
        """The Hugging Face folder, with training.json: where the weights come from, no time and no host in it."""
        from stages.lib import hf

        told = {
            "version": 1, "seed": self.config.training.seed, "steps": self.config.training.max_steps,
            "made_with": self.made_with,
            "validation": [e.model_dump(exclude={"minutes"}) for e in self.history],
        }
        tokenizer = Path(self.config.data.tokenizer)
        hf.write(folder, self.trainer.model, self.config.model, tokenizer, {"training.json": told})

    def report(self) -> Report:
        """Figures and lines of the whole run."""
        import numpy
        import torch

        first, last, minutes = self.history[0], self.history[-1], self.trained_s / 60
        rate = self.tokens / self.stepping_s if self.stepping_s else 0.0
        line = (f"validation {last.bits_per_byte:.3f} bits per byte (before training {first.bits_per_byte:.2f}) after "
                f"{last.step:,} steps, {minutes:.1f} min, {rate:,.0f} tokens/s on {self.trainer.compute.text}")
        metrics: dict[str, float | int | str] = {
            "parameters": self.config.model.parameters(), "steps": last.step, "resumed_from": self.state.step,
            "val_loss": last.loss, "val_bits_per_byte": last.bits_per_byte,
            "before_bits_per_byte": first.bits_per_byte, "best_val_loss": min(e.loss for e in self.history),
            "minutes": minutes, "tokens_per_s": rate, "device": self.trainer.compute.text,
        }
        if self.last is not None:
            metrics["train_loss"] = self.last.loss
        lines = [line]
        if self.config.rivals is not None:
            text, found = _race(self.config.rivals, self.history, minutes)
            lines.append(text)
            metrics |= found
        return Report(metrics, tuple(lines), {self.config.out: digest_path(Path(self.config.out))},
                      {"torch": torch.__version__, "numpy": numpy.__version__}, self.config.training.seed)


def _open(config: Config, run: Run) -> _Session:
    """Data, model and optimizer, and the state to go on from."""
    training = config.training
    compute = choose(training.device, training.dtype, training.threads)

    from stages.lib import checkpoint, hf, random_state
    from stages.lib.loader import Loader, read_rows
    from stages.lib.model import Llama
    from stages.lib.prefetch import Prefetch
    from stages.lib.row_log import RowLog
    from stages.lib.trainer import Trainer

    random_state.seed(training.seed)
    train, val = read_packed(Path(config.data.train)), read_packed(Path(config.data.val))
    rows = Loader(read_rows(train), training.rows_per_step, training.seed, train.pad_id)
    loader = Prefetch(rows, pinned=compute.device.type == "cuda")
    model = Llama(config.model, training.seed)
    if config.init_from is not None:
        hf.fill(model, Path(config.init_from))
    eos_id = train.eos_id if training.document_mask else None
    trainer = Trainer(model, loader, config.optimizer, training, compute, eos_id)
    made_with = _made_with(config)
    found = checkpoint.newest(_checkpoints(run), lambda text: print(f"warning: {text}", file=sys.stderr))
    state = checkpoint.TrainState(step=0, epoch=0, rows_into_epoch=0, trained_s=0, history=(), made_with=made_with)
    if found is not None:
        _refuse_other_settings(found.state.made_with, made_with, run)
        trainer.restore(found.tensors)
        state = found.state
        print(f"going on from {found.name}", file=sys.stderr)
    writer = checkpoint.Writer(_checkpoints(run), training.keep, resumed_from=state.step or None, beat=run.beat)
    row_log = RowLog(run.work / "rows.jsonl", state.step) if training.row_log else None
    return _Session(config, run, trainer, val, read_rows(val), state, made_with, list(state.history), writer, row_log)


def _checkpoints(run: Run) -> Path:
    return run.work / "checkpoints"


def _made_with(config: Config) -> dict[str, str]:
    """Every setting that decides a number of the result, by dotted name; data and tokenizer by digest."""
    parts = {
        "model": config.model.model_dump(), "optimizer": config.optimizer.model_dump(),
        "training": config.training.model_dump(exclude=_DECIDES_NO_NUMBER), "data": {"seq_len": config.data.seq_len},
    }
    told = {f"{part}.{key}": str(value) for part, values in parts.items() for key, value in values.items()}
    told = {key: value for key, value in told.items() if _OFF.get(key) != value}
    packed = {"data.train": config.data.train, "data.val": config.data.val}
    told |= {key: digest_bytes(manifest_of(Path(p)).read_bytes() + Path(p).name.encode()) for key, p in packed.items()}
    told["data.tokenizer"] = digest_path(Path(config.data.tokenizer) / "tokenizer.json")
    told["init_from"] = digest_path(Path(config.init_from) / "model.safetensors") if config.init_from else "drawn"
    return dict(sorted(told.items()))


def _refuse_other_settings(then: dict[str, str], now: dict[str, str], run: Run) -> None:
    keys = sorted({*then, *now})
    changed = [f"{key} {then.get(key)} -> {now.get(key)}" for key in keys if then.get(key) != now.get(key)]
    if changed:
        raise StageError(f"the checkpoints in {_checkpoints(run)} were made with other settings ({'; '.join(changed)}); "
                         "give this run a work folder of its own")


class _StoppedError(Exception):
    """A signal asked the run to end; what is done is whole."""


class _Asked:
    """Which signal asked the run to end; 0 is none. A second SIGINT is not waited for."""

    number = 0

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        if number == self.number == signal.SIGINT:
            raise KeyboardInterrupt
        self.number = self.number or number

    @property
    def name(self) -> str:
        return signal.Signals(self.number).name

    def check(self) -> None:
        """_StoppedError once a signal has come."""
        if self.number:
            raise _StoppedError


@contextmanager
def _signals() -> Iterator[_Asked]:
    """SIGTERM and SIGINT end the step at hand first; one that this process was started to ignore stays ignored."""
    asked = _Asked()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    heard = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}
    for number in heard:
        signal.signal(number, asked)
    try:
        yield asked
    finally:
        for number, handler in heard.items():
            signal.signal(number, handler)


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
