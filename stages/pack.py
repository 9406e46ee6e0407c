"""Pack: documents to token rows of one length, an end-of-text token after every document; knows no model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from stages.lib.checks import apart_check, disk_check, parquet_check, parquet_files, total_bytes
from stages.lib.config import Config as BaseConfig
from stages.lib.config import HumanInt, OutText, PathText
from stages.lib.files import canonical_json, digest_bytes, digest_path, output_folder
from stages.lib.fim import Fim, FimConfig, Piece, sentinel_ids
from stages.lib.plan_text import count, size
from stages.lib.stage import Check, Plan, Report, Run, StageError

if TYPE_CHECKING:
    import numpy as np
    from tokenizers import Tokenizer

_TEXT_PER_PARQUET_BYTE = 4.0
_BYTES_PER_TOKEN = 3.3
_DISK_BYTES_PER_TOKEN = 2.0
_TEXT_BYTES_PER_S = 1.5e6
_BATCH_DOCUMENTS = 64
_SMALL_VOCABULARY = 1 << 16


class Config(BaseConfig):
    """The tokens after the last whole row are dropped, or kept in a row filled up with the pad token.

    `fim` cuts documents of the training side so that a model learns to fill in a middle; without it every document stays whole.
    """

    train: PathText
    val: PathText
    tokenizer: PathText
    out: OutText
    seq_len: HumanInt = Field(256, ge=2)
    rows_per_shard: HumanInt = Field(4096, ge=1)
    remainder: Literal["drop", "pad"] = "drop"
    eos_token: str = "<|endoftext|>"
    pad_token: str = "<|pad|>"
    fim: FimConfig | None = None

    @model_validator(mode="after")
    def _tokens_apart(self) -> Config:
        for token in self.fim.tokens.names if self.fim else ():
            if token in (self.eos_token, self.pad_token):
                raise ValueError(f"{token} ends a document or fills a row, so fim.tokens cannot have it")
        return self


def plan(config: Config) -> Plan:
    """Judges paths, space and that the tokenizer holds the special tokens."""
    stored_bytes = sum(total_bytes(parquet_files(Path(path))) for path in (config.train, config.val))
    text_bytes = stored_bytes * _TEXT_PER_PARQUET_BYTE
    tokens = text_bytes / _BYTES_PER_TOKEN
    disk_bytes = tokens * _DISK_BYTES_PER_TOKEN
    inputs = (config.train, config.val, config.tokenizer)
    rule = f"{config.eos_token} after every document, the remainder: {config.remainder}"
    return Plan(
        "pack",
        (
            ("Input", (f"train {config.train}   val {config.val}   about {size(text_bytes)} of text",
                       f"tokenizer {config.tokenizer}")),
            ("Rows", (f"{config.seq_len:,} tokens each, {rule}",
                      f"about {count(tokens // config.seq_len, 'row')}, {config.rows_per_shard:,} a shard",
                      *([config.fim.text()] if config.fim else []))),
            ("Writes", (f"{config.out}/train, {config.out}/val and manifest.json, about {size(disk_bytes)}",)),
        ),
        (parquet_check("train", config.train), parquet_check("val", config.val), *_tokenizer_checks(config),
         apart_check(config.out, inputs), disk_check(config.out, disk_bytes)),
        reads=inputs, writes=(config.out,),
        estimates={"tokens": tokens, "disk_bytes": disk_bytes, "seconds": 1 + text_bytes / _TEXT_BYTES_PER_S},
    )


def apply(config: Config, run: Run) -> Report:
    """Writes both sides and manifest.json, whose counts an evaluation needs for exact bits per byte."""
    import pyarrow as pa
    import tokenizers

    lineage = _lineage(config)
    _refuse_common_documents(config)
    words = _Words(config)
    fim = Fim(config.fim, words.sentinels) if config.fim else None
    out = Path(config.out)
    with output_folder(out) as folder:
        sides = {"train": _pack_side(config, words, Path(config.train), folder / "train", fim)}
        run.progress(1, 2)
        sides["val"] = _pack_side(config, words, Path(config.val), folder / "val")
        run.progress(2, 2)
        manifest = {
            "version": 1, "seq_len": config.seq_len, "vocab_size": words.size, "eos_token": config.eos_token,
            "eos_id": words.eos_id, "pad_id": words.pad_id, "dtype": words.dtype, "remainder": config.remainder,
            "tokenizer": digest_path(Path(config.tokenizer) / "tokenizer.json"), "lineage": lineage, **sides,
        }
        if config.fim:
            ids = {part: {"token": token, "id": words.sentinels[token]} for part, token in config.fim.tokens}
            manifest["fim"] = {**config.fim.model_dump(exclude={"tokens"}), "tokens": ids, "sides": ["train"]}
        (folder / "manifest.json").write_bytes(canonical_json(manifest))
    metrics = {f"{side}_{key}": value for side, counts in sides.items() for key, value in counts.items()
               if isinstance(value, int)}
    lines = tuple(f"{side}: {count(c['documents'], 'document')}, {c['tokens']:,} tokens in {count(c['rows'], 'row')} "
                  f"of {config.seq_len}, {c['dropped_tokens']} dropped" for side, c in sides.items())
    return Report(metrics, (*lines, *([fim.summary()] if fim else [])), {config.out: digest_path(out)},
                  {"tokenizers": tokenizers.__version__, "pyarrow": pa.__version__}, config.fim.seed if config.fim else None)


class _Words:
    """The tokenizer with what packing asks of it: ids, their type, and the bytes of text behind each id."""

    def __init__(self, config: Config) -> None:
        import numpy as np
        from tokenizers import Tokenizer

        file = Path(config.tokenizer) / "tokenizer.json"
        try:
            text = file.read_text(encoding="utf-8")
            self.tokenizer: Tokenizer = Tokenizer.from_str(text)
        except Exception as fault:  # the library raises nothing more exact
            raise StageError(f"{file} is not a tokenizer file: {fault}") from None
        # A source file that spells `<|endoftext|>` is text like any other: only pack itself ends a document.
        self.tokenizer.encode_special_tokens = True
        self.size = self.tokenizer.get_vocab_size()
        self.dtype = "uint16" if self.size <= _SMALL_VOCABULARY else "uint32"
        self.eos_id = self.tokenizer.token_to_id(config.eos_token)
        self.pad_id = self.tokenizer.token_to_id(config.pad_token)
        self.sentinels = sentinel_ids(json.loads(text), file, config.fim.tokens) if config.fim else {}
        special = {added.content for added in self.tokenizer.get_added_tokens_decoder().values()}
        self.bytes_of = np.zeros(self.size, dtype=np.int64)
        for token, number in self.tokenizer.get_vocab().items():
            self.bytes_of[number] = 0 if token in special else len(token)


def _pack_side(config: Config, words: _Words, path: Path, folder: Path, fim: Fim | None = None) -> dict[str, Any]:
    import numpy as np

    from stages.lib.rows import RowShards

    shards = RowShards(folder, config.seq_len, words.dtype, config.rows_per_shard)
    totals = {"documents": 0, "bytes": 0, "bytes_covered": 0, "tokens": 0, "rows": 0, "dropped_tokens": 0,
              "pad_tokens": 0, "max_id": 0}
    held = np.empty(0, dtype=words.dtype)

    def write(ids: np.ndarray[Any, Any]) -> None:
        shards.write(ids.reshape(-1, config.seq_len))
        totals["rows"] += len(ids) // config.seq_len
        totals["bytes_covered"] += int(words.bytes_of[ids].sum())
        totals["max_id"] = max(totals["max_id"], int(ids.max()))

    for documents, text_bytes, ids in _encoded(words, path, fim):
        totals["documents"] += documents
        totals["bytes"] += text_bytes
        if fim:
            fim.saw(ids)
        held = np.concatenate([held, ids])
        whole = len(held) - len(held) % config.seq_len
        if whole:
            write(held[:whole])
        held = held[whole:]
    if len(held) and config.remainder == "pad":
        totals["pad_tokens"] = config.seq_len - len(held)
        write(np.concatenate([held, np.full(totals["pad_tokens"], words.pad_id, dtype=words.dtype)]))
    elif len(held):
        totals["dropped_tokens"] = len(held)
    shards.close()
    totals["tokens"] = totals["rows"] * config.seq_len - totals["pad_tokens"]
    if not totals["rows"]:
        raise StageError(f"{path} fills no row of {config.seq_len} tokens; lower seq_len, or `remainder: pad`")
    if fim:
        fim.prove()
        totals |= fim.counts
    return {**totals, "shards": [{"name": f"{folder.name}/{name}", "digest": digest_path(folder / name)}
                                 for name in shards.names]}


def _encoded(words: _Words, path: Path, fim: Fim | None) -> Iterator[tuple[int, int, np.ndarray[Any, Any]]]:
    """Documents, bytes of text and ids of a few documents at a time, each document ended by the end-of-text id."""
    import numpy as np

    from stages.lib.tables import documents

    rows = documents(path)
    while batch := [row.text for row in islice(rows, _BATCH_DOCUMENTS)]:
        cut = [fim.pieces(text) if fim else [Piece((), text)] for text in batch]
        texts = [piece.text for pieces in cut for piece in pieces]
        encoded = iter(words.tokenizer.encode_batch_fast(texts, add_special_tokens=False))
        ids: list[int] = []
        for pieces in cut:
            for piece in pieces:
                ids += (*piece.before, *next(encoded).ids)
            ids.append(words.eos_id)
        yield len(batch), sum(len(text.encode()) for text in batch), np.array(ids, dtype=words.dtype)


def _lineage(config: Config) -> str:
    """The split both sides come from; text that names none counts as its own, a mix is refused."""
    from stages.lib.tables import facts_of

    train, val = facts_of(Path(config.train)), facts_of(Path(config.val))
    if train.get("lineage") != val.get("lineage"):
        raise StageError(f"{config.train} and {config.val} do not come from the same split")
    if train.get("side", "train") != "train" or val.get("side", "val") != "val":
        raise StageError(f"{config.train} is {train['side']} text and {config.val} is {val['side']} text")
    return train.get("lineage", "none")


def _refuse_common_documents(config: Config) -> None:
    from stages.lib.tables import documents

    held_out = {digest_bytes(row.text.encode()): row.file for row in documents(Path(config.val))}
    for row in documents(Path(config.train)):
        if row.text and (other := held_out.get(digest_bytes(row.text.encode()))):
            raise StageError(f"{row.file} of {config.train} is also held out, as {other} of {config.val}")


def _tokenizer_checks(config: Config) -> list[Check]:
    file = Path(config.tokenizer) / "tokenizer.json"
    if not file.is_file():
        return [Check("tokenizer", "when-ready", f"{file} is not there yet")]
    try:
        content = json.loads(file.read_bytes())
        known = {token["content"] for token in content["added_tokens"]}
    except (ValueError, KeyError, TypeError):
        return [Check("tokenizer", "error", f"{file} is not a tokenizer file")]
    wanted = [config.eos_token, *([config.pad_token] if config.remainder == "pad" else [])]
    lacking = [token for token in wanted if token not in known]
    checks = [Check("tokenizer", "error", f"{file} has no special token {', '.join(lacking)}") if lacking
              else Check("tokenizer", "ok", f"{file} holds {', '.join(wanted)}")]
    if config.fim:
        try:
            ids = sentinel_ids(content, file, config.fim.tokens)
            checks.append(Check("fim", "ok", ", ".join(f"{token} is {number}" for token, number in ids.items())))
        except StageError as fault:
            checks.append(Check("fim", "error", str(fault)))
        except (KeyError, TypeError):
            checks.append(Check("fim", "error", f"{file} is not a tokenizer file"))
    return checks
