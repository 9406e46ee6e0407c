"""Tokenize: a ByteLevel BPE tokenizer learned from the training text alone; knows no packing and no model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field, model_validator

from stages.lib.checks import apart_check, disk_check, parquet_check, parquet_files, total_bytes
from stages.lib.config import Config as BaseConfig
from stages.lib.config import HumanInt, OutText, PathText
from stages.lib.files import canonical_json, digest_path, output_folder
from stages.lib.plan_text import count, size
from stages.lib.stage import Check, Plan, Report, Run, StageError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SPECIAL_TOKENS = ("<|endoftext|>", "<|pad|>", "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")
_BYTES = 256
_TEXT_PER_PARQUET_BYTE = 4.0
_BYTES_PER_S = 1.5e6
_FILE_BYTES_PER_TOKEN = 45
_CHECKED_DOCUMENTS = 200
HARD_TEXTS = (
    "def f(a):\n    if a:\n        return  a\n\n\n", "\tx = 1\n\t\ty = 2\n", "a\r\nb\rc\n", " \t  \n   ", "  two", "",
    "\ufeff# \u00e9\u4e2d\u6587 \U0001f600\u200d\U0001f4bb e\u0301 \u2028", "a\x00b\x7f", "<|endoftext|> don't",
)


class Config(BaseConfig):
    """`vocab_size` counts the special tokens, whose ids come first in the order given."""

    input: PathText
    out: OutText
    vocab_size: HumanInt = 4096
    min_frequency: HumanInt = Field(2, ge=1)
    special_tokens: tuple[str, ...] = SPECIAL_TOKENS
    eos_token: str = SPECIAL_TOKENS[0]
    pad_token: str = SPECIAL_TOKENS[1]

    @model_validator(mode="after")
    def _room(self) -> Config:
        least = _BYTES + len(self.special_tokens)
        if self.vocab_size < least:
            raise ValueError(f"vocab_size {self.vocab_size} is below {least}: {_BYTES} bytes and the special tokens")
        if len(set(self.special_tokens)) < len(self.special_tokens) or not all(self.special_tokens):
            raise ValueError("special_tokens must be distinct and not empty")
        for token in (self.eos_token, self.pad_token):
            if token not in self.special_tokens:
                raise ValueError(f"{token} is not one of special_tokens ({', '.join(self.special_tokens)})")
        return self


def plan(config: Config) -> Plan:
    """Judges paths, space and room in the vocabulary."""
    text_bytes = total_bytes(parquet_files(Path(config.input))) * _TEXT_PER_PARQUET_BYTE
    merges = config.vocab_size - _BYTES - len(config.special_tokens)
    disk_bytes = config.vocab_size * _FILE_BYTES_PER_TOKEN
    checks = [parquet_check("input", config.input), apart_check(config.out, [config.input]),
              disk_check(config.out, disk_bytes)]
    if merges == 0:
        checks.append(Check("vocabulary", "warning", "there is no room for a merge: every token is one byte"))
    parts = f"{len(config.special_tokens)} special + {_BYTES} bytes + {count(merges, 'merge')}"
    return Plan(
        "tokenize",
        (
            ("Input", (f"{config.input}, about {size(text_bytes)} of text",)),
            ("Vocabulary", (f"{config.vocab_size:,} = {parts}", f"special: {' '.join(config.special_tokens)}")),
            ("Text", ("ByteLevel, no normalisation, no prefix space: every text comes back exactly",)),
            ("Writes", (f"{config.out}/tokenizer.json, tokenizer_config.json, special_tokens_map.json",)),
        ),
        tuple(checks), reads=(config.input,), writes=(config.out,),
        estimates={"vocab_size": config.vocab_size, "text_bytes": text_bytes, "disk_bytes": disk_bytes,
                   "seconds": 1 + text_bytes / _BYTES_PER_S},
    )


def apply(config: Config, run: Run) -> Report:
    """Learns, proves that hard texts and training documents come back exactly, and writes the folder."""
    import tokenizers

    from stages.lib.tables import facts_of

    source, out = Path(config.input), Path(config.out)
    if facts_of(source).get("side") == "val":
        raise StageError(f"{config.input} is validation text; a tokenizer is learned from training text only")
    tokenizer = _learn(config, _texts(source))
    run.progress(1, 2)
    _prove(tokenizer, config)
    text_bytes, tokens = _measure(tokenizer, source)
    with output_folder(out) as folder:
        (folder / "tokenizer.json").write_text(tokenizer.to_str(pretty=True) + "\n", encoding="utf-8")
        (folder / "tokenizer_config.json").write_bytes(canonical_json(_settings(config)))
        (folder / "special_tokens_map.json").write_bytes(canonical_json(_roles(config)))
    run.progress(2, 2)
    return Report(
        {"vocab_size": tokenizer.get_vocab_size(), "bytes_per_token": text_bytes / max(tokens, 1)},
        (f"{tokenizer.get_vocab_size():,} tokens, {text_bytes / max(tokens, 1):.2f} bytes each on training text",),
        {config.out: digest_path(out)}, {"tokenizers": tokenizers.__version__},
    )


def _learn(config: Config, texts: Iterator[str]) -> Tokenizer:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocab_size, min_frequency=config.min_frequency, show_progress=False,
        special_tokens=list(config.special_tokens), initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _prove(tokenizer: Tokenizer, config: Config) -> None:
    """What was asked for is what came out: the size, every byte, no unknown token, and every text comes back."""
    from tokenizers import pre_tokenizers

    vocabulary = tokenizer.get_vocab()
    if len(vocabulary) != config.vocab_size:
        raise StageError(f"{config.input} yields only {len(vocabulary):,} of {config.vocab_size:,} tokens; "
                         "give more text, or lower vocab_size or min_frequency")
    lacking = [symbol for symbol in pre_tokenizers.ByteLevel.alphabet() if symbol not in vocabulary]
    if lacking or "<unk>" in vocabulary:
        raise StageError(f"the vocabulary lacks {len(lacking)} bytes or holds an unknown token")
    if [vocabulary[token] for token in config.special_tokens] != list(range(len(config.special_tokens))):
        raise StageError("the special tokens did not get the first ids")
    for text in HARD_TEXTS:
        _comes_back(tokenizer, text)


def _measure(tokenizer: Tokenizer, source: Path) -> tuple[int, int]:
    """Bytes and tokens of the first training documents, each of which must come back exactly."""
    text_bytes = tokens = 0
    for _, text in zip(range(_CHECKED_DOCUMENTS), _texts(source), strict=False):
        tokens += _comes_back(tokenizer, text)
        text_bytes += len(text.encode())
    return text_bytes, tokens


def _comes_back(tokenizer: Tokenizer, text: str) -> int:
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    if tokenizer.decode(ids, skip_special_tokens=False) != text:
        raise StageError(f"a text does not come back from its tokens: {text[:60]!r}")
    return len(ids)


def _texts(source: Path) -> Iterator[str]:
    from stages.lib.tables import documents

    return (document.text for document in documents(source))


def _roles(config: Config) -> dict[str, object]:
    others = [token for token in config.special_tokens if token not in (config.eos_token, config.pad_token)]
    return {"bos_token": config.eos_token, "eos_token": config.eos_token, "pad_token": config.pad_token,
            "additional_special_tokens": others}


def _settings(config: Config) -> dict[str, object]:
    return {**_roles(config), "tokenizer_class": "PreTrainedTokenizerFast", "add_prefix_space": False,
            "clean_up_tokenization_spaces": False}
