"""Fill in the middle: which documents are cut in three, where, and in which order the parts stand; knows no packing."""

from __future__ import annotations

import math
import struct
from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from pydantic import Field, model_validator

from stages.lib.config import Config, HumanFloat, HumanInt
from stages.lib.plan_text import count
from stages.lib.stage import StageError

if TYPE_CHECKING:
    import numpy as np

SHORTEST_CHARS = 10
_RANGE = 1 << 64
_DRAWS = struct.Struct("<5Q")
# A count of cut documents that is less likely than this is a fault and no chance: e^-20.7 is one in a thousand million.
_SURPRISE_LIMIT = 20.7


class Sentinels(Config):
    """The special tokens that stand before the parts of a document."""

    prefix: str = "<|fim_prefix|>"
    suffix: str = "<|fim_suffix|>"
    middle: str = "<|fim_middle|>"

    @model_validator(mode="after")
    def _three(self) -> Sentinels:
        if len({*self.names, ""}) < 4:
            raise ValueError("prefix, suffix and middle must be three different tokens and not empty")
        return self

    @property
    def names(self) -> tuple[str, str, str]:
        """Prefix, suffix, middle."""
        return self.prefix, self.suffix, self.middle


class FimConfig(Config):
    """`rate` of the documents are cut, `spm_rate` of those stand suffix first; `seed` and its text alone decide on a document."""

    rate: Annotated[HumanFloat, Field(gt=0, le=1)] = 0.5
    spm_rate: Annotated[HumanFloat, Field(ge=0, le=1)] = 0.5
    seed: Annotated[HumanInt, Field(ge=0)] = 42
    tokens: Sentinels = Sentinels()

    def text(self) -> str:
        """One line for a plan."""
        return (f"fim: {self.rate:g} of the training documents cut in three, {self.spm_rate:g} of these suffix first, "
                f"seed {self.seed}; those under {SHORTEST_CHARS} characters stay whole")


class Piece(NamedTuple):
    """Ids that stand before a text, and the text."""

    before: tuple[int, ...]
    text: str


def sentinel_ids(tokenizer: Mapping[str, Any], file: Path, tokens: Sentinels) -> dict[str, int]:
    """The one id of each token in the content of a tokenizer.json; raises StageError with the way out."""
    added, model = tokenizer["added_tokens"], tokenizer.get("model")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    if not isinstance(vocabulary, dict):
        raise StageError(f"{file} has no vocabulary of tokens and ids")
    entries = len({*vocabulary.values(), *(token["id"] for token in added)})
    wrong, found = [], {}
    for name in tokens.names:
        same = [token for token in added if token["content"] == name]
        ids = {token["id"] for token in same} | ({vocabulary[name]} if name in vocabulary else set())
        if not same or not all(token.get("special") for token in same):
            wrong.append(f"{name} is no special token")
        elif len(ids) > 1:
            wrong.append(f"{name} has {len(ids)} ids ({', '.join(map(str, sorted(ids)))})")
        elif not 0 <= (number := ids.pop()) < entries:
            wrong.append(f"{name} has the id {number}, outside the vocabulary of {entries:,}")
        else:
            found[name] = number
    if wrong:
        raise StageError(f"{file} cannot mark a middle to fill: {'; '.join(wrong)}. Name the tokens in `special_tokens` of the "
                         "tokenize stage and learn it again, or name the tokenizer's own under `fim.tokens`")
    return found


class Fim:
    """The cuts of the documents of one side, and a tally of what was done to them."""

    def __init__(self, config: FimConfig, ids: Mapping[str, int]) -> None:
        from blake3 import blake3

        self.config, self.ids = config, dict(ids)
        self.short = self.seen = 0
        self._key = blake3(f"fim {config.seed}".encode()).digest()
        self._long, self._cut, self._suffix_first = array("Q"), array("Q"), array("Q")

    def pieces(self, text: str) -> list[Piece]:
        """The document as it shall be encoded: whole, or in three parts, each behind its token.

        What happens hangs on the seed and the text only, so neither order nor batches of documents change it.
        """
        from blake3 import blake3

        if len(text) < SHORTEST_CHARS:
            self.short += 1
            return [Piece((), text)]
        data = text.encode()
        name, coin, order, *offsets = _DRAWS.unpack(blake3(data, key=self._key).digest(length=_DRAWS.size))
        self._long.append(name)
        if coin >= self.config.rate * _RANGE:
            return [Piece((), text)]
        self._cut.append(name)
        low, high = sorted(_boundary(data, draw * (len(data) + 1) // _RANGE) for draw in offsets)
        before, middle, after = (part.decode() for part in (data[:low], data[low:high], data[high:]))
        prefix_id, suffix_id, middle_id = (self.ids[token] for token in self.config.tokens.names)
        outer = [Piece((prefix_id,), before), Piece((suffix_id,), after)]
        if order < self.config.spm_rate * _RANGE:
            self._suffix_first.append(name)
            outer.reverse()
        return [*outer, Piece((middle_id,), middle)]

    def saw(self, ids: np.ndarray[Any, Any]) -> None:
        """Count the middles among ids that are to be written."""
        self.seen += int((ids == self.ids[self.config.tokens.middle]).sum())

    @property
    def counts(self) -> dict[str, int]:
        """Documents cut, those of them that stand suffix first, and documents too short to be cut."""
        return {"fim_documents": len(self._cut), "fim_spm_documents": len(self._suffix_first), "fim_short_documents": self.short}

    def summary(self) -> str:
        """One line for a report."""
        return (f"fim: {len(self._cut):,} of {count(len(self._long) + self.short, 'document')} cut, "
                f"{len(self._suffix_first):,} of them suffix first")

    def prove(self) -> None:
        """Raises StageError when nothing was cut, when ids seen say otherwise, or for a count that the rates do not explain."""
        rate, spm_rate = self.config.rate, self.config.spm_rate
        if not self._long:
            raise StageError(f"fim cut nothing: no training document has {SHORTEST_CHARS} characters; leave `fim` out")
        if not self._cut:
            raise StageError(f"fim.rate {rate:g} cut none of {count(len(self._long), 'document')}; "
                             "raise it, give another fim.seed, or leave `fim` out")
        if self.seen != len(self._cut):
            raise StageError(f"{len(self._cut):,} documents were cut, but {self.seen:,} {self.config.tokens.middle} are in their ids: "
                             "this tokenizer finds its own tokens in a text; learn it again with the tokenize stage")
        # Equal texts share one throw of the coin, so different texts are what the rates are held against.
        long, cut, suffix_first = map(_different, (self._long, self._cut, self._suffix_first))
        for key, done, of, share in (("rate", cut, long, rate), ("spm_rate", suffix_first, cut, spm_rate)):
            if surprise(done, of, share) > _SURPRISE_LIMIT:
                raise StageError(f"fim.{key} is {share:g}, but it took {done:,} of {count(of, 'different text')}: that is no chance. "
                                 "Pack with another fim.seed; where that helps not either, cutting itself is at fault")


def surprise(done: int, of: int, rate: float) -> float:
    """How unlikely such a count, or one still farther off, is under a binomial law: its chance is at most e^-surprise (Chernoff)."""
    total = 0.0
    for seen, share in ((done, rate), (of - done, 1 - rate)):
        if seen:
            total += seen * math.log(seen / (of * share)) if share else math.inf
    return max(total, 0.0)


def _boundary(data: bytes, offset: int) -> int:
    """The first beginning of a character at `offset` or after it."""
    while offset < len(data) and data[offset] & 0xC0 == 0x80:
        offset += 1
    return offset


def _different(names: array[int]) -> int:
    import numpy as np

    return len(np.unique(np.frombuffer(names, dtype=np.uint64))) if names else 0
