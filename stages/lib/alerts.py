"""Conditions on the figures of a run, such as `loss > 10`, read by a parser of their own; runs no code and knows no run."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from stages.lib.problems import did_you_mean

Action = Literal["warn", "stop"]
Values = Mapping[str, float | None]
Sum = Callable[[Values], float]
Test = Callable[[Values], bool]

# What a condition may speak of. Those that were not measured yet, or cannot be, are None.
FIGURES = (
    "step", "loss", "train_loss", "eval_loss", "gradient_norm", "learning_rate", "tokens_per_second", "mfu", "noise_scale",
)
_LONGEST = 200
_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?)"
    r"|(?P<name>[A-Za-z_]\w*)|(?P<sign><=|>=|==|!=|[-+*/()<>]))",
)
_COMPARE: Mapping[str, Callable[[float, float], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq, "!=": operator.ne,
}
_ADD: Mapping[str, Callable[[float, float], float]] = {"+": operator.add, "-": operator.sub}
_MULTIPLY: Mapping[str, Callable[[float, float], float]] = {"*": operator.mul, "/": operator.truediv}


class _NotMeasured(Exception):
    pass


@dataclass(frozen=True)
class Condition:
    """A condition that was read: its text, the figures it speaks of, and whether it holds."""

    text: str
    figures: tuple[str, ...]
    _test: Test

    def holds(self, values: Values) -> bool:
        """Whether it is so; not while a figure it needs is None, or divides by 0. KeyError for a figure that is not given."""
        try:
            return self._test(values)
        except (_NotMeasured, ZeroDivisionError):
            return False


@dataclass(frozen=True)
class Rule:
    """An alert: when, what then, and what to say."""

    condition: Condition
    action: Action
    message: str | None = None


@dataclass(frozen=True)
class Fired:
    """An alert that has just begun to hold, with the figures that made it so."""

    action: Action
    text: str


class Alerts:
    """Rules over a run's figures; each is told when it begins to hold, and again only after it did not.

    One that stops is told whenever it holds: a run that was stopped by it is stopped again when it goes on.
    """

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = tuple(rules)
        self._on: set[str] = set()

    def see(self, values: Values) -> list[Fired]:
        """Judges the figures of one step, those of FIGURES that there are and None for the others."""
        fired = []
        for rule in self.rules:
            text = rule.condition.text
            if not rule.condition.holds(values):
                self._on.discard(text)
            elif text not in self._on or rule.action == "stop":
                self._on.add(text)
                shown = ", ".join(f"{name} {_shown(values[name])}" for name in rule.condition.figures)
                fired.append(Fired(rule.action, f"{text} ({shown})" + (f": {rule.message}" if rule.message else "")))
        return fired

    def state(self) -> dict[str, Any]:
        """What a resumed run needs, as JSON."""
        return {"on": sorted(self._on)}

    def restore(self, saved: dict[str, Any]) -> None:
        """Puts back what `state` gave."""
        self._on = set(saved["on"])


def condition(text: str, figures: Sequence[str] = FIGURES) -> Condition:
    """Reads numbers, figures, + - * / ( ), one comparison, and several joined by and/or (and binds closer).

    ValueError naming the character and what was expected there, or the closest figure.
    """
    if len(text) > _LONGEST:
        raise ValueError(f"a condition has at most {_LONGEST} characters, this one {len(text)}")
    parser = _Parser(text, figures)
    test = parser.any_of()
    parser.end()
    return Condition(text.strip(), tuple(dict.fromkeys(parser.used)), test)


class _Parser:
    """Recursive descent: any_of > all_of > comparison > sum > product > atom."""

    def __init__(self, text: str, figures: Sequence[str]) -> None:
        self.text, self.figures, self.at = text, figures, 0
        self.used: list[str] = []
        self._move()

    def any_of(self) -> Test:
        tests = [self.all_of()]
        while self._take("or"):
            tests.append(self.all_of())
        return lambda values: any(test(values) for test in tests)

    def all_of(self) -> Test:
        tests = [self.comparison()]
        while self._take("and"):
            tests.append(self.comparison())
        return lambda values: all(test(values) for test in tests)

    def comparison(self) -> Test:
        left, sign = self.sum(), self.token
        if sign not in _COMPARE:
            raise self._expected("a comparison (> >= < <= == !=)")
        self._move()
        right, compare = self.sum(), _COMPARE[sign]
        return lambda values: compare(left(values), right(values))

    def sum(self) -> Sum:
        return self._chain(_ADD, self.product)

    def product(self) -> Sum:
        return self._chain(_MULTIPLY, self.atom)

    def _chain(self, signs: Mapping[str, Callable[[float, float], float]], part: Callable[[], Sum]) -> Sum:
        whole = part()
        while self.token in signs:
            apply = signs[self.token]
            self._move()
            whole = _joined(apply, whole, part())
        return whole

    def atom(self) -> Sum:
        if self._take("-"):
            inner = self.atom()
            return lambda values: -inner(values)
        if self._take("("):
            inner = self.sum()
            if not self._take(")"):
                raise self._expected("`)`")
            return inner
        token = self.token
        if self.kind == "number":
            number = float(token)
            if math.isinf(number):
                raise ValueError(f"character {self.start + 1} of `{self.text}`: {token} is larger than any figure")
            self._move()
            return lambda _values: number
        if self.kind != "name" or token in ("and", "or"):
            raise self._expected("a number or a figure")
        if token not in self.figures:
            hint = did_you_mean(token, self.figures) or f"there are: {', '.join(self.figures)}"
            raise ValueError(f"character {self.start + 1} of `{self.text}`: there is no figure `{token}`; {hint}")
        self.used.append(token)
        self._move()
        return lambda values: _measured(values[token])

    def end(self) -> None:
        if self.token:
            raise self._expected("`and`, `or` or the end")

    def _take(self, token: str) -> bool:
        if self.token != token:
            return False
        self._move()
        return True

    def _move(self) -> None:
        """Reads the next token; "" is the end."""
        rest = len(self.text) - len(self.text[self.at :].lstrip())
        self.start = rest
        if rest == len(self.text):
            self.token, self.kind, self.at = "", "", rest
            return
        found = _TOKEN.match(self.text, self.at)
        if found is None:
            raise ValueError(f"character {rest + 1} of `{self.text}`: `{self.text[rest]}` has no place in a condition")
        self.kind = found.lastgroup or ""
        self.token, self.at = found[self.kind], found.end()

    def _expected(self, what: str) -> ValueError:
        there = f"`{self.token}`" if self.token else "the end"
        return ValueError(f"character {self.start + 1} of `{self.text}`: {what} is expected, there is {there}")


def _joined(apply: Callable[[float, float], float], left: Sum, right: Sum) -> Sum:
    return lambda values: apply(left(values), right(values))


def _shown(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.4g}"


def _measured(value: float | None) -> float:
    if value is None:
        raise _NotMeasured
    return value
