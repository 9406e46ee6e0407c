"""Split: every document on exactly one side, decided by its content alone."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support_data import apply_of, column, plan_of, text_table, tree

from stages.lib.problems import BadConfig
from stages.lib.stage import StageError
from stages.split import side_of

TEXTS = [f"def f{n}():\n    return {n}\n" for n in range(300)]


def split(tmp_path: Path, texts: list[str], **values: object):
    text_table(tmp_path / "raw", texts)
    given = {"input": str(tmp_path / "raw"), "out": str(tmp_path / "split"), **values}
    return apply_of("split", tmp_path / "attempt", **given)


def sides(tmp_path: Path) -> tuple[list[str], list[str]]:
    return column(tmp_path / "split" / "train", "text"), column(tmp_path / "split" / "val", "text")


def test_every_document_is_on_exactly_one_side_in_its_order(tmp_path: Path) -> None:
    report = split(tmp_path, TEXTS)
    train, val = sides(tmp_path)
    assert not set(train) & set(val)
    assert sorted(train + val) == sorted(TEXTS)
    assert train == [t for t in TEXTS if t in set(train)]
    assert (report.metrics["train_documents"], report.metrics["val_documents"]) == (len(train), len(val))
    assert report.metrics["val_bytes"] == sum(len(t.encode()) for t in val)


def test_equal_texts_are_never_on_both_sides(tmp_path: Path) -> None:
    """U-6: what is held out is not also trained on, under another file name."""
    split(tmp_path, TEXTS * 2, val_permille=300)
    train, val = sides(tmp_path)
    assert not set(train) & set(val)
    assert len(train) + len(val) == 2 * len(TEXTS)


@given(st.lists(st.sampled_from(TEXTS), min_size=2, unique=True), st.integers(1, 999))
def test_a_document_keeps_its_side_whatever_lies_beside_it(texts: list[str], permille: int) -> None:
    assert [side_of(t, permille) for t in texts] == [side_of(t, permille) for t in reversed(texts)][::-1]
    assert all(side_of(t, 999) == "val" or side_of(t, permille) == "train" for t in texts)


def test_the_share_held_out_is_near_what_was_asked_for() -> None:
    """U-7: the measured effect, not the flag."""
    held_out = sum(side_of(f"document {n}", 50) == "val" for n in range(20_000))
    assert 900 < held_out < 1100


def test_known_documents_stay_on_the_side_they_were_on() -> None:
    assert [n for n, text in enumerate(TEXTS[:60]) if side_of(text, 50) == "val"] == [17, 27, 37, 39, 45]


def test_equal_inputs_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        split(tmp_path / name, TEXTS, rows_per_shard=100)
    assert tree(tmp_path / "one" / "split") == tree(tmp_path / "two" / "split")
    assert "train/part-00002.parquet" in tree(tmp_path / "one" / "split")


def test_a_side_without_a_document_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"no document .* on the val side; change val_permille"):
        split(tmp_path, [t for t in TEXTS if side_of(t, 50) == "train"])


def test_a_folder_without_a_table_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    found = plan_of("split", input=str(tmp_path), out=str(tmp_path / "split"))
    assert {c.name: c.level for c in found.checks}["input"] == "error" and not found.ok
    assert f"{tmp_path} holds no *.parquet file" in [c.text for c in found.checks]


@pytest.mark.parametrize("permille", [0, 1000, "5%", -1])
def test_a_share_that_leaves_one_side_empty_is_refused_by_the_schema(tmp_path: Path, permille: object) -> None:
    with pytest.raises(BadConfig):
        plan_of("split", input="raw", out="split", val_permille=permille)


def test_a_table_without_text_is_named_with_its_columns(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    file = tmp_path / "raw" / "x.parquet"
    for table, word in (({"content": ["a"]}, "has no column `text`; it has content"), ({"text": [1]}, "holds int64"),
                        ({"text": ["a", None]}, "row 1 has no text")):
        pq.write_table(pa.table(table), file)
        with pytest.raises(StageError, match=f"x.parquet.*{word}"):
            apply_of("split", tmp_path / "a", input=str(tmp_path / "raw"), out=str(tmp_path / "o"), val_permille=1)
