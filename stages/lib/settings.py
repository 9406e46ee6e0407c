"""The parts of a pretraining configuration and the numbers that follow from them; imports no torch, reads no file."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from stages.lib.config import Config, HumanFloat, HumanInt, OutText, PathText, human_int
from stages.lib.device import DeviceName, DTypeName
from stages.lib.schedule import WSD_DECAY, WSD_WARMUP, DecayShape, Kind, decay_start, lr_at
from stages.lib.shape import Shape
from stages.lib.watch_settings import MonitoringConfig, WatchConfig

Count = Annotated[HumanInt, Field(ge=1)]
Positive = Annotated[HumanFloat, Field(gt=0)]
# Tokens whose logits are made at a time: what a processor's caches hold, and enough to fill a card.
CHUNK_TOKENS = {"cpu": 256, "cuda": 2048}
Share = Annotated[HumanFloat, Field(ge=0, lt=1)]


class PhaseConfig(Config):
    """Packed rows that are read up to a step, that one included."""

    train: PathText
    until_step: Count


class DataConfig(Config):
    """Packed rows and the tokenizer that made them; with a curriculum `train` is what is read after its last phase."""

    train: PathText
    val: PathText
    tokenizer: PathText
    seq_len: Annotated[HumanInt, Field(ge=2)]
    curriculum: tuple[PhaseConfig, ...] = ()

    @property
    def training_sides(self) -> tuple[str, ...]:
        """Every packed side that training reads, in the order it does."""
        return (*dict.fromkeys(phase.train for phase in self.curriculum if phase.train != self.train), self.train)


class OptimizerConfig(Config):
    """AdamW for every weight, or Muon for the matrices between embedding and head, `momentum` its own, and AdamW for the rest."""

    name: Literal["adamw", "muon"] = "adamw"
    lr: Positive
    betas: tuple[Share, Share] = (0.9, 0.95)
    eps: Positive = 1e-8
    weight_decay: Annotated[HumanFloat, Field(ge=0)] = 0.1
    momentum: Share = 0.95


class TrainingConfig(Config):
    """The loop. `epochs` is a limit on how often a row may be read; `grad_clip: null` clips nothing.

    `document_mask`: a token sees only its own document of a packed row, in training and in its validation.
    `z_loss`: weight of log(Z)^2 beside the loss. `ema`: decay of averaged weights, which are then what is validated and written.
    `activation_checkpointing`: layers are computed again on the way back. `compile: auto` compiles where the run is long enough to gain.
    `eval_rows`: held-out rows of a validation, evenly spread; null is all. `full_eval_interval`: every so many checkpoints all are read.
    `row_log`: which rows each step read is written to rows.jsonl in the work folder.
    `deterministic`: only algorithms that give the same bits each time, on a GPU too.
    `schedule: wsd` warms up over a twentieth of the steps unless `warmup_steps` says otherwise, and falls over the last
    `decay_ratio` of them (0.2) as a `decay_shape` (cosine); both are wsd's alone.
    """

    max_steps: Count
    batch_size: Count
    accumulation: Count = 1
    epochs: Count = 1
    warmup_steps: Annotated[HumanInt, Field(ge=0)] = 0
    schedule: Kind = "cosine"
    decay_ratio: Annotated[HumanFloat, Field(gt=0, le=1)] | None = None
    decay_shape: DecayShape | None = None
    min_lr_ratio: Annotated[HumanFloat, Field(ge=0, le=1)] = 0.0
    grad_clip: Positive | None = 1.0
    document_mask: bool = False
    z_loss: Annotated[HumanFloat, Field(ge=0)] = 0.0
    ema: Annotated[HumanFloat, Field(gt=0, lt=1)] | None = None
    activation_checkpointing: bool = False
    compile: Literal["auto"] | bool = "auto"
    deterministic: bool = False
    eval_interval: Count = 100
    eval_rows: Count | None = None
    full_eval_interval: Count | None = None
    checkpoint_interval: Count = 100
    log_interval: Count = 10
    keep: Count = 2
    seed: Annotated[HumanInt, Field(ge=0)] = 0
    dtype: DTypeName = "auto"
    device: DeviceName = "auto"
    threads: Count | None = None
    row_log: bool = False

    @model_validator(mode="before")
    @classmethod
    def _warm_up_of_wsd(cls, values: Any) -> Any:
        if not isinstance(values, dict) or values.get("schedule") != "wsd" or "warmup_steps" in values:
            return values
        try:
            return {**values, "warmup_steps": round(WSD_WARMUP * human_int(values.get("max_steps")))}
        except ValueError:
            return values

    @model_validator(mode="after")
    def _decay_is_of_wsd(self) -> TrainingConfig:
        given = [name for name in ("decay_ratio", "decay_shape") if getattr(self, name) is not None]
        if given and self.schedule != "wsd":
            raise ValueError(f"{' and '.join(given)} mean something only with schedule wsd, not {self.schedule}")
        return self

    @model_validator(mode="after")
    def _full_is_of_few(self) -> TrainingConfig:
        if self.full_eval_interval is not None and self.eval_rows is None:
            raise ValueError("full_eval_interval means something only with eval_rows: without it every validation reads all rows")
        return self

    @property
    def decay_start(self) -> int | None:
        """The last step at the peak, where the schedule is wsd."""
        return decay_start(self.max_steps, self.decay_ratio or WSD_DECAY) if self.schedule == "wsd" else None

    @property
    def rows_per_step(self) -> int:
        """Rows that one optimizer step reads."""
        return self.batch_size * self.accumulation

    def saves_before_the_end(self, step: int = 0) -> bool:
        """Whether a checkpoint is due after `step` and before the last."""
        return step + self.checkpoint_interval - step % self.checkpoint_interval < self.max_steps

    def reachable_steps(self, rows: int) -> int:
        """Steps that `epochs` passes over `rows` rows give, epochs x floor(rows / (batch_size x accumulation)).

        What does not fill a step is left over in each pass.
        """
        return self.epochs * (rows // self.rows_per_step)

    def lr_at(self, step: int, peak: float) -> float:
        """The learning rate of `step` (from 1)."""
        return lr_at(
            step, peak=peak, warmup_steps=self.warmup_steps, max_steps=self.max_steps,
            kind=self.schedule, min_lr_ratio=self.min_lr_ratio,
            decay_ratio=self.decay_ratio or WSD_DECAY, decay_shape=self.decay_shape or "cosine",
        )


class Rivals(Config):
    """Held-out text on which xz is measured beside the model."""

    val_text: PathText


class PretrainConfig(Config):
    """`init_from` is a Hugging Face folder whose weights training begins with, at step 0, instead of drawn ones."""

    model: Shape
    data: DataConfig
    optimizer: OptimizerConfig
    training: TrainingConfig
    watch: WatchConfig = WatchConfig()
    monitoring: MonitoringConfig = MonitoringConfig()
    rivals: Rivals | None = None
    init_from: PathText | None = None
    out: OutText

    @model_validator(mode="after")
    def _phases_follow_one_another(self) -> PretrainConfig:
        ends = [0, *(phase.until_step for phase in self.data.curriculum), self.training.max_steps]
        if any(end <= begin for begin, end in pairwise(ends)):
            raise ValueError(f"data.curriculum: each until_step must be more than the one before and the last less than max_steps "
                             f"{self.training.max_steps}; they are {', '.join(map(str, ends[1:-1]))}")
        return self

    @property
    def batch_tokens(self) -> int:
        """Tokens of one optimizer step: batch_size x accumulation x seq_len."""
        return self.training.rows_per_step * self.data.seq_len

    @property
    def tokens(self) -> int:
        """Tokens of the whole run."""
        return self.training.max_steps * self.batch_tokens

    @property
    def checkpoint_bytes(self) -> int:
        """One checkpoint: weights, averaged ones and moments (Muon's counted as AdamW's two) in fp32."""
        return (12 if self.training.ema is None else 16) * self.model.parameters()

    @property
    def disk_bytes(self) -> int:
        """The newest `keep` checkpoints, the best, the one being written, and the model at the end."""
        return (self.training.keep + 2) * self.checkpoint_bytes + 4 * self.model.parameters()
