"""The parts of a pretraining configuration and the numbers that follow from them; imports no torch, reads no file."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from stages.lib.config import Config, HumanFloat, HumanInt, OutText, PathText
from stages.lib.device import DeviceName, DTypeName
from stages.lib.schedule import Kind, lr_at
from stages.lib.shape import Shape

Count = Annotated[HumanInt, Field(ge=1)]
Positive = Annotated[HumanFloat, Field(gt=0)]
Share = Annotated[HumanFloat, Field(ge=0, lt=1)]


class DataConfig(Config):
    """Packed rows and the tokenizer that made them."""

    train: PathText
    val: PathText
    tokenizer: PathText
    seq_len: Annotated[HumanInt, Field(ge=2)]


class OptimizerConfig(Config):
    """AdamW, the same for every weight."""

    lr: Positive
    betas: tuple[Share, Share] = (0.9, 0.95)
    eps: Positive = 1e-8
    weight_decay: Annotated[HumanFloat, Field(ge=0)] = 0.1


class TrainingConfig(Config):
    """The loop. `epochs` is a limit on how often a row may be read; `grad_clip: null` clips nothing.

    `document_mask`: a token sees only its own document of a packed row, in training and in its validation.
    `row_log`: which rows each step read is written to rows.jsonl in the work folder.
    """

    max_steps: Count
    batch_size: Count
    accumulation: Count = 1
    epochs: Count = 1
    warmup_steps: Annotated[HumanInt, Field(ge=0)] = 0
    schedule: Kind = "cosine"
    min_lr_ratio: Annotated[HumanFloat, Field(ge=0, le=1)] = 0.0
    grad_clip: Positive | None = 1.0
    document_mask: bool = False
    eval_interval: Count = 100
    checkpoint_interval: Count = 100
    log_interval: Count = 10
    keep: Count = 2
    row_log: bool = False
    seed: Annotated[HumanInt, Field(ge=0)] = 0
    dtype: DTypeName = "auto"
    device: DeviceName = "auto"
    threads: Count | None = None

    @property
    def rows_per_step(self) -> int:
        """Rows that one optimizer step reads."""
        return self.batch_size * self.accumulation

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
    rivals: Rivals | None = None
    init_from: PathText | None = None
    out: OutText

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
        """One checkpoint: weights and AdamW's two moments in fp32, 12 bytes a parameter."""
        return 12 * self.model.parameters()

    @property
    def disk_bytes(self) -> int:
        """The newest `keep` checkpoints, the best, the one being written, and the model at the end."""
        return (self.training.keep + 2) * self.checkpoint_bytes + 4 * self.model.parameters()
