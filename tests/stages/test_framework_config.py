"""Reading a configuration: every fault at once, each with file, line, column, caret and the closest name."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import Field

from stages.lib.config import Config, HumanFloat, HumanInt, OutText, either
from stages.lib.load import load_file, load_mapping
from stages.lib.problems import BadConfig


class Model(Config):
    hidden_size: HumanInt = Field(validation_alias=either("hidden_size", "d_model"), gt=0)
    lr: HumanFloat = 1e-3


class Small(Config):
    model: Model
    out: OutText
    name: str | None = None
    sizes: tuple[HumanInt, ...] = ()


def faults(path: Path, *sets: str) -> BadConfig:
    with pytest.raises(BadConfig) as bad:
        load_file(Small, "small", path, sets)
    return bad.value


def test_all_faults_are_shown_together_with_place_caret_and_closest_name(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("c.yaml").write_text("model:\n  d_model: 1M\n  lrr: 3e-4\nout: models/x\nnam: z\n")
    assert faults(Path("c.yaml")).text("Nothing was planned.") == (
        "error[bad-value]: `model.d_model`: `1M` has two readings; write 1e6 or 1024K (x 1024)\n"
        "  --> c.yaml:2:12\n"
        "  |\n"
        "1 | model:\n"
        "2 |   d_model: 1M\n"
        "  |            ^^\n"
        "\n"
        "error[unknown-key]: `model` has no key `lrr`\n"
        "  --> c.yaml:3:3\n"
        "  |\n"
        "2 |   d_model: 1M\n"
        "3 |   lrr: 3e-4\n"
        "  |   ^^^ did you mean `lr`?\n"
        "  = it takes: hidden_size, d_model, lr\n"
        "\n"
        "error[unknown-key]: stage `small` has no key `nam`\n"
        "  --> c.yaml:5:1\n"
        "  |\n"
        "4 | out: models/x\n"
        "5 | nam: z\n"
        "  | ^^^ did you mean `name`?\n"
        "  = it takes: model, out, name, sizes\n"
        "\n"
        "3 errors. Nothing was planned.\n"
    )


@pytest.mark.parametrize(("text", "code", "line", "column"), [
    ("model: {d_model: 1}\nout: a\nout: b\n", "duplicate-key", 3, 1),
    ("model: {d_model: 1, hidden_size: 1}\nout: a\n", "duplicate-key", 1, 9),
    ("model: {d_model: 1}\n", "missing-key", 1, 1),
    ("model: {lr: 1}\nout: a\n", "missing-key", 1, 1),
    ("model: {d_model: 1}\nout: a: b\n", "syntax", 2, 7),
    ("- 1\n", "bad-value", 1, 1),
    ("model: {d_model: 1}\nout: .\n", "bad-value", 2, 6),
    ("model: {d_model: 0}\nout: a\n", "bad-value", 1, 18),
    ("model: {d_model: 1}\nout: a\nsizes: [1, 2, 1M]\n", "bad-value", 3, 15),
    ("model: {d_model: 010}\nout: a\n", "bad-value", 1, 18),
    ("model: {d_model: 1}\nout: a\nname: !!python/name:os.system x\n", "bad-value", 3, 7),
    ("a: &a {model: *a}\n", "syntax", 1, 4),
])
def test_each_fault_is_found_where_it_stands(tmp_path: Path, text: str, code: str, line: int, column: int) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    assert (code, line, column) in [(p.code, p.span.line, p.span.column) for p in faults(path).problems]


def test_anchors_that_multiply_are_stopped(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    layers = "".join(f"k{n}: &k{n} [{', '.join([f'*k{n - 1}'] * 9)}]\n" for n in range(1, 12))
    path.write_text("k0: &k0 [x]\n" + layers)
    assert "more than 100,000 values" in faults(path).problems[0].text


def test_a_set_value_replaces_another_name_of_the_same_field(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("model: {d_model: 64}\nout: a\nsizes: [1, 2]\n")
    config = load_file(Small, "small", path, ["model.hidden_size=1.5K", "sizes.1=7", "name=yes"])
    assert (config.model.hidden_size, config.sizes, config.name) == (1536, (1, 7), "yes")


@pytest.mark.parametrize(("text", "code", "column"), [
    ("model.lr=fast", "bad-value", 10), ("model.lrr=1", "unknown-key", 1), ("model.lr", "bad-set", 1),
    ("sizes.5=1", "bad-set", 1), ("name=[", "syntax", None), ("=1", "bad-set", 1),
])
def test_a_wrong_set_value_points_into_the_argument(tmp_path: Path, text: str, code: str, column: int | None) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("model: {d_model: 64}\nout: a\nsizes: [1, 2]\n")
    [problem] = faults(path, text).problems
    assert (problem.code, problem.file) == (code, "--set")
    assert column is None or problem.span.column == column


def test_json_values_are_read_as_json_and_duplicate_keys_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_text('{"model": {"d_model": 64}, "out": "a\\/\\ud83d\\ude00", "name": "010"}')
    config = load_file(Small, "small", path)
    assert (config.out, config.name) == ("a/\U0001f600", "010")
    path.write_text('{"model": {"d_model": 64}, "out": "a", "out": "b"}')
    assert [(p.code, p.span.column) for p in faults(path).problems] == [("duplicate-key", 40)]
    path.write_text('{"model": ')
    assert faults(path).problems[0].code == "syntax"


def test_values_given_inline_are_judged_by_the_same_rules() -> None:
    assert load_mapping(Small, "small", {"model": {"d_model": "32K"}, "out": "a"}).model.hidden_size == 32768
    with pytest.raises(BadConfig) as bad:
        load_mapping(Small, "small", {"model": {"d_model": 1, "lrr": 2}, "out": "a"})
    assert bad.value.problems[0].text == "`model` has no key `lrr`"


def test_a_file_that_is_missing_or_no_text_is_named(tmp_path: Path) -> None:
    assert faults(tmp_path / "none.yaml").problems[0].code == "no-file"
    (tmp_path / "c.yaml").write_bytes(b"out: \xff")
    assert "not UTF-8 at byte 5" in faults(tmp_path / "c.yaml").problems[0].text


def test_a_configuration_cannot_be_changed_after_it_was_read() -> None:
    config = load_mapping(Small, "small", {"model": {"d_model": 1}, "out": "a"})
    with pytest.raises(ValueError):
        config.out = "b"


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.binary(max_size=80) | st.text(alphabet="model:out {}[],&*!-\n'\"#|>?%@`\\ 01Ke.", max_size=60).map(str.encode),
       suffix=st.sampled_from([".yaml", ".json"]))
@example(data=b"e0", suffix=".yaml").via("an exponent of nothing was read as a number")
@example(data=b"{model: -.e5}", suffix=".yaml").via("as was a point before it")
def test_any_bytes_give_a_configuration_or_faults_and_never_a_traceback(tmp_path: Path, data: bytes, suffix: str) -> None:
    path = tmp_path / f"c{suffix}"
    path.write_bytes(data)
    try:
        load_file(Small, "small", path)
    except BadConfig as bad:
        assert bad.text("Nothing was planned.").startswith("error[")
