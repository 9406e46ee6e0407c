"""Alerts: conditions people write, when they hold, and what is said of those that cannot be read."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.lib.alerts import FIGURES, Alerts, Rule, condition
from stages.lib.config import Config
from stages.lib.load import load_file
from stages.lib.problems import BadConfig
from stages.lib.watch_settings import MonitoringConfig

NONE = dict.fromkeys(FIGURES)


@pytest.mark.parametrize(("text", "values", "holds"), [
    ("loss > 10", {"loss": 10.1}, True), ("loss > 10", {"loss": 10}, False), ("loss > 10", {"loss": math.inf}, True),
    ("loss > 10", {"loss": math.nan}, False), ("gradient_norm>100", {"gradient_norm": 101}, True),
    ("eval_loss > train_loss * 1.5", {"eval_loss": 3.1, "train_loss": 2}, True),
    ("eval_loss > train_loss * 1.5", {"eval_loss": 3.0, "train_loss": 2}, False),
    ("eval_loss > train_loss * 1.5", {"train_loss": 2}, False), ("eval_loss / train_loss > 1", {"eval_loss": 1, "train_loss": 0}, False),
    ("1 + 2 * 3 == 7", {}, True), ("(1 + 2) * 3 == 9", {}, True), ("8 - 4 - 2 == 2", {}, True), ("8 / 4 / 2 == 1", {}, True),
    ("-loss < -1e1", {"loss": 11}, True), ("--loss >= .5", {"loss": 0.5}, True), ("loss != 2", {"loss": 2}, False),
    ("step > 100 and loss > 5", {"step": 101, "loss": 4}, False), ("loss > 5 or mfu < 0.01", {"loss": 6}, True),
    ("1 > 2 and 1 > 2 or 2 > 1", {}, True), ("2 > 1 or 2 > 1 and 1 > 2", {}, True), ("loss <= 4", {"loss": 4}, True),
])
def test_a_condition_holds_as_it_reads(text: str, values: dict[str, float], holds: bool) -> None:
    assert condition(text).holds({**NONE, **values}) is holds


@pytest.mark.parametrize(("text", "said"), [
    ("", "character 1 of ``: a number or a figure is expected, there is the end"),
    ("loss >", "character 7 of `loss >`: a number or a figure is expected, there is the end"),
    ("loss 10", "character 6 of `loss 10`: a comparison (> >= < <= == !=) is expected, there is `10`"),
    ("loss = 10", "character 6 of `loss = 10`: `=` has no place in a condition"),
    ("lost > 10", "character 1 of `lost > 10`: there is no figure `lost`; did you mean `loss`?"),
    ("kd > 1", "there is no figure `kd`; there are: step, loss,"),
    ("1 < loss < 2", "character 10 of `1 < loss < 2`: `and`, `or` or the end is expected, there is `<`"),
    ("(loss > 1", "character 7 of `(loss > 1`: `)` is expected, there is `>`"),
    ("loss > 1 and", "a number or a figure is expected, there is the end"),
    ("loss > and", "a number or a figure is expected, there is `and`"),
    ("loss.__class__ > 1", "character 5 of `loss.__class__ > 1`: `.` has no place"),
    ("__import__('os') > 1", "character 1 of `__import__('os') > 1`: there is no figure `__import__`"),
    ("loss > 10x", "character 10 of `loss > 10x`: `and`, `or` or the end is expected, there is `x`"),
    ("loss > 1e999", "character 8 of `loss > 1e999`: 1e999 is larger than any figure"),
    ("loss > " + "(" * 200, "at most 200 characters"),
])
def test_a_condition_that_cannot_be_read_names_the_character_and_what_belongs_there(text: str, said: str) -> None:
    with pytest.raises(ValueError) as refusal:
        condition(text)
    assert said in str(refusal.value)


@given(st.text(alphabet="loss step 0123456789.eE<>=!+-*/()andor\t\n_", max_size=60) | st.text())
def test_no_text_breaks_the_reader_of_conditions(text: str) -> None:
    try:
        read = condition(text)
    except ValueError as refusal:
        assert str(refusal)
    else:
        assert read.holds({**NONE, "loss": 1.0, "step": 1.0}) in (True, False)


def test_an_alert_is_told_with_its_figures_when_it_begins_to_hold_and_again_after_it_ended() -> None:
    alerts = Alerts([Rule(condition("loss > 5 or eval_loss > 6"), "warn", "look at the data")])
    told = [alerts.see({**NONE, "loss": loss}) for loss in (4, 6, 7, 4, 8)]
    assert [[one.text for one in each] for each in told] == [
        [], ["loss > 5 or eval_loss > 6 (loss 6, eval_loss not measured): look at the data"], [], [],
        ["loss > 5 or eval_loss > 6 (loss 8, eval_loss not measured): look at the data"]]


def test_one_that_stops_is_told_whenever_it_holds() -> None:
    alerts = Alerts([Rule(condition("loss > 5"), "stop")])
    for loss in (6.0, 7.0):
        (fired,) = alerts.see({**NONE, "loss": loss})
        assert (fired.action, fired.text) == ("stop", f"loss > 5 (loss {loss:g})")


def test_a_figure_that_nobody_gives_is_a_fault_of_the_program() -> None:
    with pytest.raises(KeyError):
        Alerts([Rule(condition("mfu < 0.1"), "warn")]).see({"loss": 1.0})


class _Run(Config):
    monitoring: MonitoringConfig = MonitoringConfig()


def test_alerts_of_a_file_are_read_and_a_wrong_one_is_shown_in_its_line(tmp_path: Path) -> None:
    good, wrong = tmp_path / "good.yaml", tmp_path / "wrong.yaml"
    good.write_text("monitoring:\n  alerts:\n  - {condition: loss > 10, action: stop}\n"
                    "  - {condition: eval_loss > train_loss * 1.5, action: warn, message: it learns by heart}\n")
    read = load_file(_Run, "pretrain", good).monitoring.alerts
    assert [(one.condition, one.action, one.message) for one in read] == [
        ("loss > 10", "stop", None), ("eval_loss > train_loss * 1.5", "warn", "it learns by heart")]
    wrong.write_text("monitoring:\n  alerts:\n  - condition: loss > 10 +\n    action: halt\n    when: now\n")
    with pytest.raises(BadConfig) as refusal:
        load_file(_Run, "pretrain", wrong)
    assert [(p.span.line, p.code) for p in refusal.value.problems] == [(3, "bad-value"), (4, "bad-value"), (5, "unknown-key")]
    first = refusal.value.problems[0].text
    assert "`monitoring.alerts.0.condition`: character 12 of `loss > 10 +`: a number or a figure is expected" in first
