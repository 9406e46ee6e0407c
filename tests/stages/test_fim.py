"""Fill in the middle: nothing of a document is lost, its text and the seed alone decide on it, and what was done is counted."""

from __future__ import annotations

import json
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support_data import apply_of, config_of, plan_of, text_table, tree
from test_pack import VAL, flat, pack
from test_tokenize import TEXTS, learn
from tokenizers import Tokenizer

from stages.lib import fim
from stages.lib.model import documents_mask
from stages.lib.problems import BadConfig
from stages.lib.stage import StageError
from stages.tokenize import SPECIAL_TOKENS

EOS, PAD, PREFIX, SUFFIX, MIDDLE = range(5)
MANY = [f"class Kind{n}:\n\t'caf\u00e9 \U0001f600'\n    value = {n}\r\n" for n in range(600)]
SPELLED = "".join(SPECIAL_TOKENS[2:]) + "def f(): return '<|fim_middle|>'\n"
ODD = ["a", "\u00e9", "\U0001f600", "\r\n", "\t", *SPECIAL_TOKENS]
# About one in a thousand million, as a surprise in the unit of fim.surprise.
CHANCE = 20.7


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return learn(tmp_path_factory.mktemp("ready"))


def lines(out: Path, side: str = "train") -> list[list[int]]:
    """The ids of each document of a side that was padded, without its end-of-text and the pad tokens."""
    found: list[list[int]] = [[]]
    for number in flat(out, side):
        if number == EOS:
            found.append([])
        elif number != PAD:
            found[-1].append(number)
    assert found.pop() == []
    return found


def parts(line: Sequence[int]) -> list[tuple[int | None, list[int]]]:
    """A document's parts in their order, each with the sentinel before it."""
    found: list[tuple[int | None, list[int]]] = [(None, [])]
    for number in line:
        if number in (PREFIX, SUFFIX, MIDDLE):
            found.append((number, []))
        else:
            found[-1][1].append(number)
    return found if len(found) == 1 else found[1:]


def document(tokenizer: Tokenizer, line: Sequence[int]) -> str:
    """What the document was before it was cut."""
    texts = {mark: tokenizer.decode(ids, skip_special_tokens=False) for mark, ids in parts(line)}
    return texts[None] if None in texts else texts[PREFIX] + texts[MIDDLE] + texts[SUFFIX]


def tokenizer_in(ready: Path) -> Tokenizer:
    return Tokenizer.from_file(str(ready / "tokenizer.json"))


def fim_pack(folder: Path, ready: Path, train: Sequence[str], **values: Any) -> tuple[dict[str, Any], Path]:
    return pack(folder, ready, list(train), VAL, remainder="pad", fim=values)


def cutter(**values: Any) -> fim.Fim:
    return fim.Fim(fim.FimConfig(**values), dict(zip(SPECIAL_TOKENS[2:], (PREFIX, SUFFIX, MIDDLE), strict=True)))


@settings(deadline=None, max_examples=40)
@given(texts=st.lists(st.text(max_size=40) | st.lists(st.sampled_from(ODD), max_size=30).map("".join), max_size=12))
def test_without_sentinels_every_document_is_what_it_was(ready: Path, texts: list[str]) -> None:
    texts = ["long enough to be cut", *texts]
    with tempfile.TemporaryDirectory() as folder:
        manifest, out = fim_pack(Path(folder), ready, texts, rate=1)
        tokenizer = tokenizer_in(ready)
        assert [document(tokenizer, line) for line in lines(out)] == texts
        assert manifest["train"]["bytes_covered"] == manifest["train"]["bytes"] == sum(len(text.encode()) for text in texts)


def test_the_parts_stand_prefix_suffix_middle_or_suffix_prefix_middle(tmp_path: Path, ready: Path) -> None:
    for spm_rate, order in ((0, [PREFIX, SUFFIX, MIDDLE]), (1, [SUFFIX, PREFIX, MIDDLE])):
        manifest, out = fim_pack(tmp_path / str(spm_rate), ready, TEXTS, rate=1, spm_rate=spm_rate)
        assert [[mark for mark, _ in parts(line)] for line in lines(out)] == [order] * len(TEXTS)
        assert manifest["train"]["fim_spm_documents"] == spm_rate * len(TEXTS)


def test_as_many_are_cut_as_the_rates_say(tmp_path: Path, ready: Path) -> None:
    for rate, spm_rate in ((0.5, 0.5), (0.1, 0.9)):
        manifest, out = fim_pack(tmp_path / str(rate), ready, MANY, rate=rate, spm_rate=spm_rate)
        marks = [tuple(mark for mark, _ in parts(line)) for line in lines(out)]
        cut = len(marks) - marks.count((None,))
        assert fim.surprise(cut, len(MANY), rate) < CHANCE
        assert fim.surprise(marks.count((SUFFIX, PREFIX, MIDDLE)), cut, spm_rate) < CHANCE
        counted = {key: n for key, n in manifest["train"].items() if key.startswith("fim_")}
        assert counted == {"fim_documents": cut, "fim_spm_documents": marks.count((SUFFIX, PREFIX, MIDDLE)), "fim_short_documents": 0}


def test_cuts_change_with_neither_batches_nor_the_order_of_documents(
    tmp_path: Path, ready: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    """U-4: a generator begun anew for each batch gave every batch the same cuts."""
    texts = [*MANY[:150], MANY[3], ""]
    _, out = fim_pack(tmp_path / "plain", ready, texts)
    by_text = dict(zip(texts, lines(out), strict=True))
    for size in (1, 7, 1000):
        monkeypatch.setattr("stages.pack._BATCH_DOCUMENTS", size)
        assert tree(fim_pack(tmp_path / f"batch{size}", ready, texts)[1]) == tree(out)
    random.Random(5).shuffle(texts)
    _, other = fim_pack(tmp_path / "shuffled", ready, texts)
    assert dict(zip(texts, lines(other), strict=True)) == by_text
    cuts = Counter(tuple(map(len, piece)) for piece in map(cutter(rate=1).pieces, MANY[100:200]))
    assert max(cuts.values()) == 100, "every document is in three parts"
    places = {tuple(len(piece.text) for piece in cutter(rate=1).pieces(text)) for text in MANY[100:200]}
    assert len(places) > 50, "documents of one length are cut at places of their own"


def test_every_pair_of_places_is_as_likely_as_another() -> None:
    """Two uniform draws from 0 to the length: each pair of different places has two chances in 121, each place twice one."""
    one, found = cutter(rate=1, spm_rate=0), Counter[tuple[int, int]]()
    for n in range(12_000):
        before, after, _ = one.pieces(f"{n:010d}")
        found[len(before.text), 10 - len(after.text)] += 1
    assert len(found) == 66
    for (low, high), seen in found.items():
        assert fim.surprise(seen, 12_000, (1 if low == high else 2) / 121) < CHANCE


def test_a_place_within_a_character_moves_to_its_end() -> None:
    """Of the 14 offsets 0..13 of nine digits and an emoji of four bytes, four mean the end of the text."""
    one, ends = cutter(rate=1, spm_rate=0), Counter[int]()
    for n in range(4000):
        before, after, middle = one.pieces(f"{n:09d}\U0001f600")
        ends.update((len(before.text), len(before.text + middle.text)))
        assert before.text + middle.text + after.text == f"{n:09d}\U0001f600"
    for place in range(11):
        assert fim.surprise(ends[place], 8000, (4 if place == 10 else 1) / 14) < CHANCE


def test_documents_under_ten_characters_stay_whole(tmp_path: Path, ready: Path) -> None:
    nine, ten = "\U0001f600" * 9, "\U0001f600" * 10
    manifest, out = fim_pack(tmp_path, ready, ["", nine, ten], rate=1)
    assert [[mark for mark, _ in parts(line)] for line in lines(out)][:2] == [[None], [None]]
    assert {mark for mark, _ in parts(lines(out)[2])} == {PREFIX, SUFFIX, MIDDLE}
    assert (manifest["train"]["fim_documents"], manifest["train"]["fim_short_documents"]) == (1, 2)


def test_held_out_documents_are_never_cut_and_the_manifest_says_so(tmp_path: Path, ready: Path) -> None:
    manifest, out = fim_pack(tmp_path / "fim", ready, TEXTS, rate=1)
    plain, untouched = pack(tmp_path / "plain", ready, TEXTS, VAL, remainder="pad")
    assert tree(out / "val") == tree(untouched / "val")
    assert manifest["val"] == plain["val"]
    assert manifest["fim"] == {
        "rate": 1.0, "spm_rate": 0.5, "seed": 42, "sides": ["train"],
        "tokens": {name: {"token": f"<|fim_{name}|>", "id": number} for name, number in
                   (("prefix", PREFIX), ("suffix", SUFFIX), ("middle", MIDDLE))},
    }


def test_a_text_that_spells_sentinels_stays_text(tmp_path: Path, ready: Path) -> None:
    manifest, out = fim_pack(tmp_path, ready, [SPELLED, *TEXTS], rate=1)
    line = lines(out)[0]
    assert [line.count(mark) for mark in (PREFIX, SUFFIX, MIDDLE)] == [1, 1, 1]
    assert document(tokenizer_in(ready), line) == SPELLED
    assert manifest["train"]["bytes_covered"] == manifest["train"]["bytes"]


def test_documents_still_end_where_a_mask_parts_them(tmp_path: Path, ready: Path) -> None:
    """What a token may see is its own document, from the end-of-text that opens it, whatever was cut."""
    manifest, out = fim_pack(tmp_path, ready, TEXTS, rate=1)
    ids = [number for number in flat(out, "train") if number != PAD]
    assert ids.count(EOS) == manifest["train"]["documents"] == len(TEXTS) and ids[-1] == EOS
    head = ids[: sum(len(line) + 1 for line in lines(out)[:3])]
    seen = documents_mask(torch.tensor([head]), EOS, torch.float32)[0, 0] == 0
    opened = [0, *np.flatnonzero(np.array(head) == EOS).tolist()]
    for begin, end in zip(opened, [*opened[1:], len(head)], strict=True):
        assert seen[end - 1, begin:end].all() and not seen[end - 1, :begin].any()
    cut = [sorted(number for number in head[begin:end] if number in (PREFIX, SUFFIX, MIDDLE)) for begin, end in pairwise(opened)]
    assert cut == [[PREFIX, SUFFIX, MIDDLE]] * 3


def test_without_it_the_rows_are_those_of_whole_documents(tmp_path: Path, ready: Path) -> None:
    manifest, out = pack(tmp_path / "none", ready, [*TEXTS, SPELLED], VAL, remainder="pad")
    assert tree(pack(tmp_path / "null", ready, [*TEXTS, SPELLED], VAL, remainder="pad", fim=None)[1]) == tree(out)
    tokenizer = tokenizer_in(ready)
    tokenizer.encode_special_tokens = True
    assert lines(out) == [tokenizer.encode(text).ids for text in [*TEXTS, SPELLED]]
    assert set(manifest) == {"version", "seq_len", "vocab_size", "eos_token", "eos_id", "pad_id", "dtype", "remainder", "tokenizer",
                             "lineage", "train", "val"}
    assert not [key for key in (*manifest["train"], *manifest["val"]) if "fim" in key]


@pytest.mark.parametrize("values", [
    {"rate": 0.8}, {"spm_rate": 0.9}, {"seed": 43},
    {"tokens": {"prefix": "<|fim_suffix|>", "suffix": "<|fim_prefix|>"}},
    {"tokens": {"middle": "<|fim_prefix|>", "prefix": "<|fim_middle|>"}},
], ids=str)
def test_every_key_changes_the_rows(tmp_path: Path, ready: Path, values: dict[str, Any]) -> None:
    rows = [tree(fim_pack(tmp_path / name, ready, TEXTS, **given)[1] / "train") for name, given in (("one", {}), ("two", values))]
    assert rows[0] != rows[1]


def _without(name: str) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        content["added_tokens"] = [token for token in content["added_tokens"] if token["content"] != name]

    return change


def _with(**values: Any) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        content["added_tokens"][SUFFIX].update(values)

    return change


def _outside(content: dict[str, Any]) -> None:
    del content["model"]["vocab"]["<|fim_suffix|>"]
    content["added_tokens"][SUFFIX]["id"] = 300


@pytest.mark.parametrize(("change", "word"), [
    (_without("<|fim_suffix|>"), "<|fim_suffix|> is no special token"), (_with(special=False), "<|fim_suffix|> is no special token"),
    (_with(id=299), "<|fim_suffix|> has 2 ids (3, 299)"), (_outside, "<|fim_suffix|> has the id 300, outside the vocabulary of 300"),
], ids=["lacking", "not special", "two ids", "outside"])
def test_a_plan_refuses_a_tokenizer_without_the_sentinels(
    tmp_path: Path, ready: Path, change: Callable[[dict[str, Any]], None], word: str,
) -> None:
    shutil.copytree(ready, tmp_path / "tok")
    content = json.loads((ready / "tokenizer.json").read_bytes())
    change(content)
    (tmp_path / "tok" / "tokenizer.json").write_text(json.dumps(content))
    given = {"train": "t", "val": "v", "tokenizer": str(tmp_path / "tok"), "out": str(tmp_path / "o")}
    checks = {check.name: check for check in plan_of("pack", **given, fim={}).checks}
    assert (checks["tokenizer"].level, checks["fim"].level) == ("ok", "error")
    assert word in checks["fim"].text and "`special_tokens` of the tokenize stage" in checks["fim"].text
    assert "fim" not in {check.name for check in plan_of("pack", **given).checks}


def test_sentinels_of_another_name_are_learned_found_and_lacked_by_name(tmp_path: Path) -> None:
    named = {"prefix": "<PRE>", "suffix": "<SUF>", "middle": "<MID>"}
    other = learn(tmp_path, special_tokens=["<|endoftext|>", "<|pad|>", *named.values()])
    manifest, out = fim_pack(tmp_path, other, TEXTS, rate=1, tokens=named)
    assert [token["id"] for token in manifest["fim"]["tokens"].values()] == [MIDDLE, PREFIX, SUFFIX], "keys are sorted"
    assert [document(tokenizer_in(other), line) for line in lines(out)] == TEXTS
    with pytest.raises(StageError, match=r"<\|fim_prefix\|> is no special token.*`fim\.tokens`"):
        fim_pack(tmp_path / "lacking", other, TEXTS)


def test_a_plan_says_what_would_be_cut_and_waits_for_a_tokenizer(tmp_path: Path, ready: Path) -> None:
    given = {"train": "t", "val": "v", "out": str(tmp_path / "o"), "fim": {"rate": 0.25}}
    plan = plan_of("pack", **given, tokenizer=str(ready))
    assert "fim: 0.25 of the training documents cut in three, 0.5 of these suffix first, seed 42" in str(plan.blocks)
    assert {c.name: c.text for c in plan.checks}["fim"] == "<|fim_prefix|> is 2, <|fim_suffix|> is 3, <|fim_middle|> is 4"
    waiting = {c.name: c.level for c in plan_of("pack", **given, tokenizer=str(tmp_path)).checks}
    assert waiting["tokenizer"] == "when-ready" and "fim" not in waiting


@pytest.mark.parametrize(("values", "word"), [
    ({"rate": 0}, "greater than 0"), ({"rate": 1.5}, "less than or equal to 1"), ({"spm_rate": -1}, "greater than or equal to 0"),
    ({"tokens": {"prefix": "<|fim_middle|>"}}, "three different tokens"), ({"tokens": {"prefix": ""}}, "not empty"),
    ({"tokens": {"prefix": "<|endoftext|>"}}, "ends a document"), ({"speed": 1}, "no key `speed`"),
], ids=str)
def test_a_bad_value_is_refused(values: dict[str, Any], word: str) -> None:
    with pytest.raises(BadConfig) as fault:
        config_of("pack", {"train": "t", "val": "v", "tokenizer": "k", "out": "o", "fim": values})
    assert word in " ".join(problem.text for problem in fault.value.problems)


def test_a_rate_that_cuts_nothing_is_an_error(tmp_path: Path, ready: Path) -> None:
    """U-7: a step that did nothing does not report success."""
    with pytest.raises(StageError, match=r"rate 1e-06 cut none of 50 documents; raise it, give another fim\.seed, or leave `fim` out"):
        fim_pack(tmp_path / "rare", ready, TEXTS, rate=1e-6)
    with pytest.raises(StageError, match="no training document has 10 characters; leave `fim` out"):
        fim_pack(tmp_path / "short", ready, [f"x = {n}\n" for n in range(50)])
    assert not (tmp_path / "rare" / "packed").exists()


def test_a_count_that_a_rate_does_not_explain_is_an_error() -> None:
    one = cutter(rate=0.5)
    for text in MANY:
        one.pieces(text)
    one.saw(np.full(one.counts["fim_documents"], MIDDLE))
    one.prove()
    one.config = fim.FimConfig(rate=0.05)
    with pytest.raises(StageError, match=r"fim\.rate is 0\.05, but it took \d+ of 600 different texts: that is no chance"):
        one.prove()
    with pytest.raises(StageError, match=r"documents were cut, but \d+ <\|fim_middle\|> are in their ids"):
        one.saw(np.array([MIDDLE]))
        one.prove()


def test_many_equal_documents_share_one_throw_and_are_no_fault(tmp_path: Path, ready: Path) -> None:
    for seed in range(4):
        manifest, _ = fim_pack(tmp_path / str(seed), ready, [TEXTS[0]] * 300 + MANY[:40], seed=seed)
        assert manifest["train"]["fim_documents"] >= 1


def test_the_tally_is_a_metric_and_the_seed_is_reported(tmp_path: Path, ready: Path) -> None:
    text_table(tmp_path / "train", TEXTS)
    text_table(tmp_path / "val", VAL)
    given = {"train": str(tmp_path / "train"), "val": str(tmp_path / "val"), "tokenizer": str(ready), "out": str(tmp_path / "o")}
    report = apply_of("pack", tmp_path / "a", **given, seq_len=32, fim={"rate": 1, "seed": 7})
    assert (report.metrics["train_fim_documents"], report.seed) == (50, 7)
    assert report.headline[-1].startswith("fim: 50 of 50 documents cut")
    assert "val_fim_documents" not in report.metrics


def test_a_surprise_is_never_smaller_than_the_exact_chance_allows() -> None:
    """Chernoff: the chance of k or fewer of n is at most e^-surprise; held against the exact sum."""
    from math import comb, exp, inf

    for of, rate in ((30, 0.5), (40, 0.1)):
        for done in range(int(of * rate) + 1):
            exact = sum(comb(of, k) * rate**k * (1 - rate) ** (of - k) for k in range(done + 1))
            assert exact <= exp(-fim.surprise(done, of, rate)) * 1.0001
    assert fim.surprise(0, 30, 0.5) > CHANCE > fim.surprise(0, 29, 0.5)
    assert (fim.surprise(9, 10, 1), fim.surprise(1, 10, 0), fim.surprise(10, 10, 1)) == (inf, inf, 0)
