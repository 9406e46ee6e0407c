"""Text to token ids and back with a folder's tokenizer.json; knows no model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from stages.lib.stage import StageError


class Words(Protocol):
    """The part of `tokenizers.Tokenizer` that is used here."""

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str: ...


def open_words(folder: Path) -> Words:
    """The tokenizer of `folder`; a text that spells a special token stays text. StageError when there is none."""
    from tokenizers import Tokenizer

    file = folder / "tokenizer.json"
    try:
        words = Tokenizer.from_str(file.read_text(encoding="utf-8"))
    except OSError as fault:
        raise StageError(f"cannot read {file}: {fault.strerror}") from None
    except Exception as fault:  # the library raises nothing more exact
        raise StageError(f"{file} is not a tokenizer file: {fault}") from None
    words.encode_special_tokens = True
    return words


def encode(words: Words, texts: Sequence[str]) -> list[list[int]]:
    """Ids of each text, nothing added."""
    return [piece.ids for piece in words.encode_batch_fast(list(texts), add_special_tokens=False)]
