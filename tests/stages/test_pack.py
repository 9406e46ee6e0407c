"""Pack: an end-of-text token after every document, nothing lost but the counted remainder, sides of one split."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from support_data import apply_of, plan_of, text_table, tree
from test_tokenize import TEXTS, learn
from tokenizers import Tokenizer

from stages.lib.stage import StageError

VAL = [f"class Held{n}:\n    'caf\u00e9 \U0001f600'\n\tvalue = {n}\r\n" for n in range(9)]
ODD = ["print('<|endoftext|> is text here, <|pad|> too')\n", ""]


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ready")
    learn(folder)
    return folder / "tok"


def pack(folder: Path, ready: Path, train: list[str], val: list[str], **values: Any) -> tuple[dict[str, Any], Path]:
    text_table(folder / "train", train, {"lineage": "x", "side": "train"})
    text_table(folder / "val", val, {"lineage": "x", "side": "val"})
    out = folder / "packed"
    given = {"train": str(folder / "train"), "val": str(folder / "val"), "tokenizer": str(ready), "out": str(out)}
    apply_of("pack", folder / "attempt", **{**given, "seq_len": 32, **values})
    return json.loads((out / "manifest.json").read_bytes()), out


def flat(out: Path, side: str) -> list[int]:
    return [number for file in sorted((out / side).iterdir()) for number in shard(file)["input_ids"].combine_chunks().flatten().to_pylist()]


def shard(file: Path) -> pa.Table:
    """A shard as any reader of Arrow files sees it."""
    with pa.OSFile(str(file)) as source:
        return pa.ipc.open_file(source).read_all()


def test_every_document_ends_with_one_end_of_text_token(tmp_path: Path, ready: Path) -> None:
    """U-3: the count of end-of-text tokens is the count of documents, also where a text spells that token."""
    manifest, out = pack(tmp_path, ready, TEXTS + ODD, VAL, remainder="pad")
    ids = [number for number in flat(out, "train") if number != manifest["pad_id"]]
    assert ids.count(manifest["eos_id"]) == manifest["train"]["documents"] == len(TEXTS + ODD)
    assert ids[-1] == manifest["eos_id"]
    tokenizer = Tokenizer.from_file(str(ready / "tokenizer.json"))
    assert _documents(ids, manifest["eos_id"], tokenizer) == TEXTS + ODD


def _documents(ids: list[int], eos_id: int, tokenizer: Tokenizer) -> list[str]:
    found, held = [], []
    for number in ids:
        if number == eos_id:
            found.append(tokenizer.decode(held, skip_special_tokens=False))
            held = []
        else:
            held.append(number)
    return found


def test_dropped_tokens_are_less_than_a_row_and_counted_and_pad_loses_none(tmp_path: Path, ready: Path) -> None:
    """ALB-112: what is cut off is known."""
    dropped, first = pack(tmp_path / "drop", ready, TEXTS, VAL, seq_len=31)
    padded, second = pack(tmp_path / "pad", ready, TEXTS, VAL, seq_len=31, remainder="pad")
    for side in ("train", "val"):
        a, b = dropped[side], padded[side]
        assert 0 < a["dropped_tokens"] < 31
        assert a["tokens"] + a["dropped_tokens"] == b["tokens"] == b["rows"] * 31 - b["pad_tokens"]
        assert flat(second, side)[: a["tokens"]] == flat(first, side)
        assert (b["dropped_tokens"], b["bytes_covered"]) == (0, b["bytes"])
        assert 0 < a["bytes_covered"] < a["bytes"] == sum(len(t.encode()) for t in (TEXTS if side == "train" else VAL))


def test_covered_bytes_are_those_of_the_text_in_whole_rows(tmp_path: Path, ready: Path) -> None:
    manifest, out = pack(tmp_path, ready, TEXTS, ["x" * 10 + "\u00e9" * 40], seq_len=4)
    tokenizer = Tokenizer.from_file(str(ready / "tokenizer.json"))
    kept = [number for number in flat(out, "val") if number != manifest["eos_id"]]
    symbols = "".join(tokenizer.id_to_token(number) for number in kept)
    assert manifest["val"]["bytes_covered"] == len(symbols)


def test_rows_are_split_into_shards_of_a_known_type(tmp_path: Path, ready: Path) -> None:
    manifest, out = pack(tmp_path, ready, TEXTS, VAL, rows_per_shard=10)
    rows = [shard(file).num_rows for file in sorted((out / "train").iterdir())]
    assert len(rows) > 2
    assert rows[:-1] == [10] * (len(rows) - 1)
    assert sum(rows) == manifest["train"]["rows"]
    schema = shard(out / "train" / "shard-00000.arrow").schema
    assert schema.field("input_ids").type == pa.list_(pa.uint16(), 32)
    assert (manifest["dtype"], manifest["vocab_size"], manifest["seq_len"]) == ("uint16", 300, 32)
    assert [s["name"] for s in manifest["val"]["shards"]] == [f"val/{n}" for n in sorted(tree(out / "val"))]
    assert {side: manifest[side]["max_id"] for side in ("train", "val")} == {side: max(flat(out, side)) for side in ("train", "val")}


def test_equal_inputs_give_equal_bytes(tmp_path: Path, ready: Path) -> None:
    one, two = (pack(tmp_path / name, ready, TEXTS, VAL)[1] for name in ("one", "two"))
    assert tree(one) == tree(two)


def test_sides_of_two_splits_or_changed_places_are_refused(tmp_path: Path, ready: Path) -> None:
    """U-6: validation text from another data set."""
    train = text_table(tmp_path / "train", TEXTS, {"lineage": "x", "side": "train"})
    val = text_table(tmp_path / "val", VAL, {"lineage": "x", "side": "val"})
    other = text_table(tmp_path / "other", VAL, {"lineage": "y", "side": "val"})
    for first, second, word in ((train, other, "do not come from the same split"), (val, train, "is val text")):
        given = {"train": str(first), "val": str(second), "tokenizer": str(ready), "out": str(tmp_path / "o")}
        with pytest.raises(StageError, match=word):
            apply_of("pack", tmp_path / "a", **given, seq_len=32)


def test_a_document_on_both_sides_is_refused_by_name(tmp_path: Path, ready: Path) -> None:
    with pytest.raises(StageError, match=r"f7\.py of .*train is also held out, as f2\.py"):
        pack(tmp_path, ready, TEXTS, [*VAL[:2], TEXTS[7]])
    assert not (tmp_path / "packed").exists()


def test_text_too_short_for_a_row_is_an_error(tmp_path: Path, ready: Path) -> None:
    with pytest.raises(StageError, match="fills no row of 10000 tokens"):
        pack(tmp_path, ready, TEXTS, VAL, seq_len=10000)


def test_plan_finds_a_tokenizer_that_cannot_end_a_document(tmp_path: Path, ready: Path) -> None:
    def levels(tokenizer: Path, **values: Any) -> dict[str, str]:
        given = {"train": "t", "val": "v", "tokenizer": str(tokenizer), "out": str(tmp_path / "o"), **values}
        return {c.name: c.level for c in plan_of("pack", **given).checks}

    assert levels(ready)["tokenizer"] == "ok"
    assert levels(ready, eos_token="</s>")["tokenizer"] == "error"
    assert levels(ready, pad_token="<p>")["tokenizer"] == "ok"
    assert levels(ready, pad_token="<p>", remainder="pad")["tokenizer"] == "error"
    assert levels(tmp_path)["tokenizer"] == "when-ready"
    (tmp_path / "tokenizer.json").write_text("[]")
    assert levels(tmp_path)["tokenizer"] == "error"


def test_a_torn_tokenizer_file_is_an_error_that_names_it(tmp_path: Path, ready: Path) -> None:
    shutil.copytree(ready, tmp_path / "tok")
    text = (ready / "tokenizer.json").read_text()
    (tmp_path / "tok" / "tokenizer.json").write_text(text[: len(text) // 2])
    with pytest.raises(StageError, match=r"tokenizer\.json is not a tokenizer file"):
        pack(tmp_path, tmp_path / "tok", TEXTS, VAL)
