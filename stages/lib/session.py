"""One process of a training run: what it holds, each step's fate, validations, checkpoints and going back; decides no number itself."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stages.lib import checkpoint
from stages.lib.checkpoint import Evaluation, TrainState, Writer
from stages.lib.devices import Device
from stages.lib.interrupts import Asked
from stages.lib.judge import due
from stages.lib.loader import Packed, batches
from stages.lib.memory import VALIDATED_ROWS
from stages.lib.mfu import Mfu, mfu
from stages.lib.prefetch import Prefetch
from stages.lib.rate import TokenRate
from stages.lib.row_log import RowLog
from stages.lib.rows import Rows
from stages.lib.settings import PretrainConfig
from stages.lib.spikes import Go, RollBack, Stop
from stages.lib.stage import Run, StageError
from stages.lib.trainer import Gradients, Trainer
from stages.lib.watch import Watch


@dataclass
class Session:
    """The trainer, the state it began with, and how far it has come since. `device` is that of MFU, None where its peak is not known."""

    config: PretrainConfig
    run: Run
    trainer: Trainer
    loader: Prefetch
    val: Packed
    val_rows: Rows
    state: TrainState
    writer: Writer
    device: Device | None
    asked: Asked
    begin_anew: Callable[[], None]
    row_log: RowLog | None = None
    history: list[Evaluation] = field(init=False)
    full: list[Evaluation] = field(init=False)
    spent_s: dict[str, float] = field(default_factory=lambda: {"steps": 0.0, "validation": 0.0, "checkpoints": 0.0})
    rate: TokenRate = field(default_factory=TokenRate)
    saved: int = 0
    last_loss: float = math.nan
    started: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.history, self.full = list(self.state.history), list(self.state.full)
        self.watch = Watch(self.config)
        self.watch.restore(_mapping(self.state.counters.get("watch")))
        self._found: Gradients | None = None
        self._told_mfu = self._told_grace = False
        self._shown_s: dict[str, float] = {}
        self._quick_rows = _spread(self.val_rows, self.config.training.eval_rows)

    @property
    def trained_s(self) -> float:
        """Seconds of training up to now, those before a crash included, those lost by it not."""
        return self.state.trained_s + time.monotonic() - self.started

    @property
    def out_of_patience(self) -> bool:
        """Whether so many validations in a row were no better that the run ends."""
        return self.watch.judge.ended

    def advance(self, step: int) -> int:
        """Makes `step`, or goes back because of it; gives the step after which the weights now stand.

        StageError when it is so broken that there is no going on.
        """
        watch, trainer = self.watch, self.trainer
        position = step + watch.guard.data_offset
        begin, made = time.monotonic(), False
        found = trainer.gradients(position, look=watch.noise is not None)
        decision = Go() if found.overflowed else watch.guard.decide(step, found.loss, found.norm)
        if isinstance(decision, Stop):
            raise StageError(decision.reason)
        if isinstance(decision, RollBack):
            return self._go_back(step, decision)
        if isinstance(decision, Go) and decision.warning is not None:
            self._say(step, decision.warning)
        if isinstance(decision, Go) and not found.overflowed:
            self._learn(step, found)
            made = True
            if not self.rate.steps and self.config.training.saves_before_the_end(step):
                self.writer.prepare(trainer.tensors())
        else:
            trainer.skip()
            watch.guard.skipped += found.overflowed
            self._say(step, "fp16 gradients overflowed; the step is skipped" if isinstance(decision, Go) else decision.reason)
        spent = time.monotonic() - begin
        self.spent_s["steps"] += spent
        self.rate.see(found.tokens, spent, made=made)
        if self.row_log is not None:
            self.row_log.write(step, trainer.loader.place(position), trainer.loader.rows_of(position))
        if made:
            self.last_loss = found.loss
        self._found = found
        self._alert(step, found)
        self.run.beat()
        return step

    def _learn(self, step: int, found: Gradients) -> None:
        watch, trainer, training = self.watch, self.trainer, self.config.training
        limit = training.grad_clip if watch.zclip is None else watch.zclip.limit(found.norm)
        if watch.noise is not None and found.micro_norm is not None:
            watch.noise.see(found.micro_norm**2, found.norm**2)
        looks = watch.dead is not None and self.config.watch.dead is not None and step % self.config.watch.dead.interval == 0
        gradients = trainer.gradient_norms() if looks else {}
        trainer.update(training.lr_at(step, self.config.optimizer.lr), limit)
        if looks and watch.dead is not None:
            for text in watch.dead.see(step, gradients, trainer.weight_norms()):
                self._say(step, text)

    def _go_back(self, step: int, decision: RollBack) -> int:
        """The step gone back to: that of the decision, or the newest before it whose checkpoint is whole."""
        self.writer.wait()
        to = decision.to_step
        there = checkpoint.newest(self.writer.folder, lambda text: self._say(step, text), to) if to else None
        to_step = there.state.step if there is not None else 0
        self._say(step, decision.reason if to_step == to else f"{decision.reason}; that checkpoint is harmed, so it is step {to_step}",
                  rolled_back_to=to_step)
        self.trainer.skip()
        if there is None:
            self.begin_anew()
            counters: dict[str, Any] = {}
            self.history, self.full = self.history[:1], self.full[:0]
        else:
            counters = there.state.counters
            self.trainer.restore(there.tensors, counters)
            self.history, self.full = list(there.state.history), list(there.state.full)
        self.writer.drop_after(to_step)
        self.watch.go_back(_mapping(counters.get("watch")), to_step)
        self.saved, self._found = to_step, None
        if self.row_log is not None:
            self.row_log.cut(to_step)
        return to_step

    def _alert(self, step: int, found: Gradients) -> None:
        """Judges the conditions of `monitoring`; StageError, with a checkpoint of this step, when one says stop."""
        share = self._mfu()
        values = {
            "step": step, "loss": found.loss, "train_loss": found.loss, "gradient_norm": found.norm,
            "eval_loss": self.history[-1].loss if self.history else None, "learning_rate": self._lr(step),
            "tokens_per_second": self.rate.tokens_per_s or None, "mfu": share.share if share is not None else None,
            "noise_scale": self.watch.noise.value if self.watch.noise is not None else None,
        }
        for fired in self.watch.alerts.see(values):
            self._say(step, f"alert: {fired.text}")
            if fired.action == "stop":
                self.save(step, goes_on=False)
                self.writer.wait()
                raise StageError(f"stopped after step {step} by the alert {fired.text}; its checkpoint is saved")

    def show_if_due(self, step: int) -> None:
        """One line of progress of the step just made."""
        found, training = self._found, self.config.training
        if found is None or not (step == training.max_steps or step % training.log_interval == 0):
            return
        self._found = None
        shown: dict[str, float | str] = {
            "loss": found.loss, "lr": self._lr(step), "grad_norm": found.norm, "best_val": min(e.loss for e in self.history),
            "tokens_per_s": self.rate.tokens_per_s, "memory_bytes": self.trainer.compute.peak_bytes, **self._phases(),
        }
        left, share = self.rate.seconds_left(training.max_steps - step), self._mfu()
        if left is not None:
            shown["eta_s"] = left
        if share is not None:
            shown |= {"mfu": share.share, "mfu_of": share.of, "mfu_source": share.source}
            if share.fault is not None and not self._told_mfu:
                self._told_mfu = True
                self._say(step, ": ".join(share.fault))
        if self.watch.noise is not None and self.watch.noise.value is not None:
            shown["noise_scale"] = self.watch.noise.value
        self.run.progress(step, training.max_steps, **shown)

    def _phases(self) -> dict[str, float]:
        """Seconds since the last line, by what they were spent on: `data_s`, `forward_s` and so on."""
        before, self._shown_s = self._shown_s, self.trainer.phases.seconds()
        return {f"{name}_s": round(value - before.get(name, 0.0), 6) for name, value in self._shown_s.items()}

    def _lr(self, step: int) -> float:
        return self.config.training.lr_at(step, self.config.optimizer.lr)

    def _mfu(self) -> Mfu | None:
        if self.device is None or not self.rate.tokens:
            return None
        compute, data = self.trainer.compute, self.config.data
        return mfu(self.rate.tokens_per_s, self.config.model, data.seq_len, self.device, compute.dtype)

    def validate_if_due(self, step: int) -> None:
        """Adds the validation after `step` to the history, where one belongs and none was made: a stop may have left it out.

        InterruptedRunError when a signal comes while it is made; StageError when its loss is no number.
        """
        training = self.config.training
        last = step == training.max_steps
        if (step == 0 or last or due(step, training.eval_interval)) and not (self.history and self.history[-1].step == step):
            self._validate(step)
        if self._full_is_due(step) and not (self.full and self.full[-1].step == step):
            self.full.append(self._evaluated(step, self.val_rows))
            self.run.progress(step, training.max_steps, val_full=self.full[-1].loss, bits_per_byte_full=self.full[-1].bits_per_byte)

    def _full_is_due(self, step: int) -> bool:
        training = self.config.training
        if training.eval_rows is None or step == 0:
            return False
        every = (training.full_eval_interval or 0) * training.checkpoint_interval
        return step == training.max_steps or (every > 0 and due(step, every))

    def _validate(self, step: int) -> None:
        found = self._evaluated(step, self._quick_rows)
        self.history.append(found)
        self.run.progress(step, self.config.training.max_steps, val=found.loss, bits_per_byte=found.bits_per_byte,
                          best_val=min(e.loss for e in self.history))
        if step == 0:
            return
        self.watch.judge.see(step, found.loss)
        warning = self.watch.forecast.see(step * self.config.batch_tokens, found.loss)
        if warning is not None:
            self._say(step, warning)
        if self.out_of_patience:
            judge = self.watch.judge
            self._say(step, f"{judge.misses} validations in a row were not better than that after step {judge.best_step}; training ends")

    def _evaluated(self, step: int, rows: Rows | np.ndarray[Any, Any]) -> Evaluation:
        with self._timed("validation"):
            loss = self.trainer.validate(self._watched(batches(rows, VALIDATED_ROWS, self.val.pad_id)))
        if not math.isfinite(loss):
            raise StageError(f"the validation loss after step {step} is {loss}; nothing is saved")
        bits = loss / math.log(2) * self.val.tokens_per_byte
        return Evaluation(step=step, loss=loss, bits_per_byte=bits, minutes=self.trained_s / 60)

    def _watched(self, given: Iterable[Any]) -> Iterator[Any]:
        for batch in given:
            self.asked.check()
            self.run.beat()
            yield batch

    def save(self, step: int, *, goes_on: bool) -> None:
        """A checkpoint after `step`, written by a thread: of a copy where training `goes_on`, else of the tensors themselves."""
        self._judge_grace(step)
        with self._timed("checkpoints"):
            epoch, rows = self.trainer.loader.position(step + self.watch.guard.data_offset)
            state = TrainState(
                step=step, epoch=epoch, rows_into_epoch=rows, trained_s=self.trained_s, history=tuple(self.history),
                full=tuple(self.full), made_with=self.state.made_with,
                counters={**self.trainer.counters(), "watch": self.watch.state()},
            )
            if self.row_log is not None:
                self.row_log.sync()
            wanted = self.watch.guard.good_step if self.config.watch.spikes is not None else None
            self.writer.save(state, self.trainer.tensors(), wanted=wanted, goes_on=goes_on)
        self.saved = step

    def _judge_grace(self, step: int) -> None:
        """Tells, once, of a grace too short for a stop: it ends the step at hand and the save under way, and saves once more."""
        took, of_step, grace = self.writer.took_s, self.rate.seconds_left(1) or 0.0, self.run.grace_s
        needed = of_step + 2 * took
        if grace is None or self._told_grace or needed <= grace:
            return
        self._told_grace = True
        self._say(step, f"a step takes {of_step:.1f} s and a checkpoint {took:.1f} s to write, but a stop leaves {grace:g} s before it "
                        f"kills: what came after the newest checkpoint would be lost; give this task `grace: {math.ceil(1.5 * needed)}s`")

    def take_best(self) -> int:
        """The weights of the best validated checkpoint that is kept and whole, where they are better than these; gives their step."""
        self.writer.wait()
        last = self.history[-1]
        better = {checkpoint.name_of(e.step): e.loss for e in self.history if e.loss < last.loss}
        for name in sorted(better.keys() & set(checkpoint.names(self.writer.folder)), key=lambda name: (better[name], name)):
            try:
                there = checkpoint.load(self.writer.folder / name)
            except StageError as fault:
                self._say(last.step, f"checkpoint {name} is skipped: {fault}")
                continue
            self.trainer.restore(there.tensors, there.state.counters)
            return there.state.step
        return last.step

    def leave(self, step: int) -> None:
        """Saves what is done, waits until it is on the disk, and says that the run is interrupted."""
        if step not in (0, self.saved):
            self.save(step, goes_on=False)
        self.writer.wait()
        found = self._found
        figures = {"loss": found.loss, "lr": self._lr(step), "grad_norm": found.norm} if found is not None else {}
        self.run.progress(step, self.config.training.max_steps, **figures, status="interrupted", signal=self.asked.name)
        kept = "its checkpoint is saved" if step else "there is nothing to save yet"
        print(f"stopped by {self.asked.name} after step {step}; {kept}", file=sys.stderr)

    def close(self) -> None:
        """Ends the threads; a save that is under way is let end."""
        self.loader.close()
        self.writer.close()
        if self.row_log is not None:
            self.row_log.close()

    def _say(self, step: int, text: str, **facts: float | str) -> None:
        self.run.progress(step, self.config.training.max_steps, warning=text, **facts)
        print(f"warning: {text}", file=sys.stderr)

    @contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        begin = time.monotonic()
        try:
            yield
        finally:
            self.spent_s[what] += time.monotonic() - begin


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _spread(rows: Rows, count: int | None) -> Rows | np.ndarray[Any, Any]:
    """`count` rows evenly spread over all, or all."""
    if count is None or count >= len(rows):
        return rows
    return rows[np.arange(count) * len(rows) // count]
