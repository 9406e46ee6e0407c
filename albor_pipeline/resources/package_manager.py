"""What every package manager offers the kind `package`: wishes, what is installed, and the operations. Knows no manager in particular."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Protocol

from albor_pipeline.resources.base import Brought, Item

ABSENT, PRESENT, LATEST = "absent", "present", "latest"
NUMBERS = re.compile(r"[0-9]+(?:\.[0-9]+)*")


@dataclass(frozen=True)
class Wish:
    """One package as a resource wants it; `version` may hold `*`, empty for any; `source` is the folder that it is built from."""

    name: str
    version: str = ""
    features: tuple[str, ...] = ()
    source: str = ""

    @property
    def value(self) -> str:
        """The text that is planned, and observed when it is so."""
        features = f" [{', '.join(self.features)}]" if self.features else ""
        return f"{self.version or PRESENT}{features}" + (f" from {self.source}" if self.source else "")

    def seen_as(self, got: Installed | None) -> str:
        """The text for what is installed: the wish's own when it is as wished, else what is different."""
        if got is None:
            return ABSENT
        if got.broken:
            return f"{got.version}, half-installed"
        if self.version and not matches(self.version, got.version):
            return got.version
        lacking = [feature for feature in self.features if feature not in got.features]
        if lacking:
            return f"{got.version} without {', '.join(lacking)}"
        if self.source and not f"/{got.origin}".endswith(f"/{self.source.strip('/')}"):
            return f"{got.version} from {got.origin or 'elsewhere'}"
        return self.value


@dataclass(frozen=True)
class Installed:
    """One package as it is on the machine; `newest` is what could be had instead, where that was asked."""

    version: str
    broken: bool = False
    newest: str = ""
    features: tuple[str, ...] = ()
    origin: str = ""


@dataclass(frozen=True)
class Seen:
    """What is installed of the packages asked for; `error` when it cannot be told."""

    packages: Mapping[str, Installed]
    error: str | None = None


class Manager(Protocol):
    """A package manager: `pattern` is that of an item of `packages`, and `must` continues `X must be`."""

    pattern: str
    must: str

    def wish(self, text: str, version: str, source: str) -> Wish:
        """What an item of `packages` asks for; a version in the item counts before that of the resource."""

    def probes(self, names: Sequence[str], latest: bool) -> list[Item]:
        """The probe items; as far as possible the same for every resource of a machine."""

    def seen(self, names: Sequence[str], results: Sequence[Mapping[str, Any]]) -> Seen:
        """What their results say."""

    def is_newer(self, one: str, two: str) -> bool:
        """Whether the first version comes after the second, as far as the manager can tell."""

    def install(self, wishes: Sequence[Wish], latest: bool, again: bool) -> Item:
        """The operation that brings them about; `again` where they are there and shall be made anew."""

    def remove(self, names: Sequence[str]) -> Item:
        """The operation that takes away those of them that are there."""

    def forecasts(self, wishes: Sequence[Wish]) -> list[Item]:
        """Probe items that say whether they can be installed."""

    def forecast(self, wishes: Sequence[Wish], results: Sequence[Mapping[str, Any]]) -> Sequence[str]:
        """What the results of `forecasts` say against it."""

    def weighs(self, wishes: Sequence[Wish]) -> list[Item]:
        """Probe items that say how much installing them would bring."""

    def brings(self, results: Sequence[Mapping[str, Any]]) -> list[Brought]:
        """What the results of `weighs` say of it."""


class Unweighed:
    """The managers that tell no size before they have fetched and built what they install."""

    def weighs(self, wishes: Sequence[Wish]) -> list[Item]:
        """None: there is nothing to ask."""
        return []

    def brings(self, results: Sequence[Mapping[str, Any]]) -> list[Brought]:
        """Something of unknown size."""
        return [Brought("", None)]


def matches(wanted: str, version: str) -> bool:
    """Whether a version is the wanted one: the same text, a pattern with `*`, or the same numbers (2.0 and 2.0.0)."""
    if fnmatchcase(version, wanted):
        return True
    both = [re.sub(r"(?:\.0+)+$", "", text) for text in (wanted, version) if NUMBERS.fullmatch(text)]
    return len(both) == 2 and both[0] == both[1]


def output(results: Sequence[Mapping[str, Any]], number: int = 0) -> str | None:
    """What the script of a probe wrote, None when it failed, was cut short or gave no answer."""
    result = results[number] if len(results) > number else {}
    whole = result.get("exit") == 0 and not result.get("truncated")
    return str(result.get("stdout", "")) if whole else None


def failure(results: Sequence[Mapping[str, Any]], what: str) -> str:
    """The sentence for a probe that output() has nothing of."""
    result = results[0] if results else {}
    error = result.get("error")
    if isinstance(error, Mapping):
        return str(error.get("message", error))
    said = str(result.get("stderr", "")).strip().splitlines()
    how = "took too long" if result.get("timed_out") else said[-1] if said else "gave no answer"
    return f"{what} {how}"
