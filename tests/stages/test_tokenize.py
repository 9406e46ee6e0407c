"""Tokenize: every text comes back exactly, the size is what was asked for, equal text gives an equal tokenizer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support_data import apply_of, config_of, plan_of, text_table, tree
from tokenizers import Tokenizer

from stages.lib.problems import BadConfig
from stages.lib.stage import StageError
from stages.tokenize import HARD_TEXTS, SPECIAL_TOKENS

TEXTS = [f"def function_{n}(value):\n    if value > {n}:\n        return value * {n}\n    return None\n" for n in range(50)]
VOCAB = 300


def learn(folder: Path, **values: object) -> Path:
    text_table(folder / "train", TEXTS)
    given = {"input": str(folder / "train"), "out": str(folder / "tok"), "vocab_size": VOCAB, **values}
    apply_of("tokenize", folder / "attempt", **given)
    return folder / "tok"


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return Tokenizer.from_file(str(learn(tmp_path_factory.mktemp("tok")) / "tokenizer.json"))


@pytest.mark.parametrize("text", HARD_TEXTS)
def test_indentation_tabs_line_ends_and_emoji_come_back_exactly(tokenizer: Tokenizer, text: str) -> None:
    """ALB-036."""
    assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == text


@settings(deadline=None)
@given(text=st.text(max_size=60) | st.binary(max_size=60).map(lambda b: b.decode("latin-1")))
def test_any_text_comes_back_exactly(tokenizer: Tokenizer, text: str) -> None:
    """ALB-036: no normalisation, no prefix space."""
    assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == text


@settings(deadline=None)
@given(left=st.sampled_from(TEXTS), right=st.sampled_from(TEXTS))
def test_no_token_is_invented_at_the_start_of_a_text(tokenizer: Tokenizer, left: str, right: str) -> None:
    ids = tokenizer.encode(left + right).ids
    assert tokenizer.decode(ids, skip_special_tokens=False) == left + right
    assert not set(ids) & set(range(len(SPECIAL_TOKENS)))


def test_the_vocabulary_has_the_size_asked_for_with_the_special_tokens_first(tokenizer: Tokenizer) -> None:
    vocabulary = tokenizer.get_vocab()
    assert len(vocabulary) == VOCAB
    assert [vocabulary[token] for token in SPECIAL_TOKENS] == [0, 1, 2, 3, 4]
    assert "<unk>" not in vocabulary
    assert tokenizer.encode("a<|endoftext|>b").ids.count(0) == 1


def test_merges_make_training_text_shorter(tokenizer: Tokenizer) -> None:
    assert len(tokenizer.encode(TEXTS[0]).ids) < len(TEXTS[0].encode()) / 2


def test_equal_text_gives_an_equal_folder(tmp_path: Path) -> None:
    assert tree(learn(tmp_path / "one")) == tree(learn(tmp_path / "two"))


def test_the_folder_says_which_tokens_play_which_part(tmp_path: Path) -> None:
    folder = learn(tmp_path)
    assert sorted(tree(folder)) == ["special_tokens_map.json", "tokenizer.json", "tokenizer_config.json"]
    settings_of = json.loads((folder / "tokenizer_config.json").read_bytes())
    assert (settings_of["eos_token"], settings_of["pad_token"]) == ("<|endoftext|>", "<|pad|>")
    assert settings_of["clean_up_tokenization_spaces"] is False


def test_text_that_cannot_fill_the_vocabulary_is_an_error_with_the_count(tmp_path: Path) -> None:
    """U-7: the measured size is compared with the asked one."""
    with pytest.raises(StageError, match=r"yields only [0-9,]+ of 4,096 tokens"):
        learn(tmp_path, vocab_size=4096)
    assert not (tmp_path / "tok").exists()


def test_validation_text_is_refused(tmp_path: Path) -> None:
    text_table(tmp_path / "val", TEXTS, {"lineage": "x", "side": "val"})
    with pytest.raises(StageError, match="is validation text"):
        apply_of("tokenize", tmp_path / "a", input=str(tmp_path / "val"), out=str(tmp_path / "t"), vocab_size=VOCAB)


@pytest.mark.parametrize(("values", "word"), [
    ({"vocab_size": 260}, "below 261"), ({"eos_token": "</s>"}, "</s> is not one of special_tokens"),
    ({"special_tokens": ["a", "a"]}, "distinct"), ({"vocab_size": "4k"}, "4e3 or 4K"),
])
def test_a_vocabulary_that_cannot_be_is_refused_by_the_schema(values: dict[str, object], word: str) -> None:
    with pytest.raises(BadConfig) as bad:
        config_of("tokenize", {"input": "i", "out": "o", **values})
    assert word in bad.value.problems[0].text


def test_a_vocabulary_without_merges_is_a_warning(tmp_path: Path) -> None:
    plan = plan_of("tokenize", input=str(tmp_path / "i"), out=str(tmp_path / "o"), vocab_size=261)
    assert [c.name for c in plan.checks if c.level == "warning"] == ["vocabulary"]


@pytest.mark.torch
@pytest.mark.slow
def test_transformers_reads_the_folder_and_gives_the_same_ids(tmp_path: Path) -> None:
    """ALB-033: the format is readable across the stage boundary."""
    transformers = pytest.importorskip("transformers")
    folder = learn(tmp_path)
    theirs, ours = transformers.AutoTokenizer.from_pretrained(folder), Tokenizer.from_file(str(folder / "tokenizer.json"))
    for text in (*HARD_TEXTS, *TEXTS[:5]):
        assert theirs(text, add_special_tokens=False)["input_ids"] == ours.encode(text).ids
        assert theirs.decode(ours.encode(text).ids) == text
