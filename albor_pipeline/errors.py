"""What can be wrong, as values: spans, diagnostics, and the errors that end a command. Knows no text layout and no YAML.

AlborError                 a fault of the user or of the world; `exit_code` says which
+- ManifestError       1   the manifest or the plan cannot be used; every problem is in `diagnostics`
+- StateError          1   the recorded state cannot be trusted or belongs to something else
+- StalePlan           1   what was planned is no longer what is there
+- LockedError         5   another controller holds the state, or a machine
+- UnreachableError    6   a machine does not answer
+- UsageError         64   wrong command line
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

EXIT_OK = 0
EXIT_CHANGES = 2
EXIT_FAILED = 3
EXIT_DRIFT = 4
EXIT_BUG = 70
EXIT_INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Source:
    """A file that was read: the name to show and its text, so that an error can quote the line."""

    name: str
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Span:
    """Where a value stands: line and column count from 1, `length` is in characters on that line."""

    source: Source
    line: int
    column: int
    length: int = 1

    def __str__(self) -> str:
        return f"{self.source.name}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One problem: `code` is stable, `message` is one sentence, `label` stands at the caret, `notes` say what is allowed."""

    level: str
    code: str
    message: str
    span: Span | None = None
    label: str = ""
    notes: tuple[str, ...] = ()


class Problems:
    """Collects diagnostics, so that all of them are reported together."""

    def __init__(self) -> None:
        self._items: list[Diagnostic] = []
        self._errors = 0

    def error(
        self, code: str, message: str, span: Span | None = None, label: str = "", notes: Iterable[str] = ()
    ) -> None:
        self._errors += 1
        self._items.append(Diagnostic("error", code, message, span, label, tuple(notes)))

    def warning(
        self, code: str, message: str, span: Span | None = None, label: str = "", notes: Iterable[str] = ()
    ) -> None:
        self._items.append(Diagnostic("warning", code, message, span, label, tuple(notes)))

    def extend(self, diagnostics: Iterable[Diagnostic]) -> None:
        added = tuple(diagnostics)
        self._errors += sum(item.level == "error" for item in added)
        self._items.extend(added)

    @property
    def error_count(self) -> int:
        return self._errors

    def __iter__(self) -> Iterator[Diagnostic]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    @property
    def errors(self) -> tuple[Diagnostic, ...]:
        return tuple(item for item in self._items if item.level == "error")

    @property
    def warnings(self) -> tuple[Diagnostic, ...]:
        return tuple(item for item in self._items if item.level == "warning")

    def raise_if_errors(self) -> None:
        """Raise ManifestError with everything collected when at least one item is an error."""
        if self.errors:
            raise ManifestError(tuple(self._items))


class AlborError(Exception):
    """A fault that is not ours: it is shown as its diagnostics, without a traceback."""

    exit_code = 1

    def __init__(self, diagnostics: Iterable[Diagnostic] | Diagnostic) -> None:
        self.diagnostics = (diagnostics,) if isinstance(diagnostics, Diagnostic) else tuple(diagnostics)
        super().__init__("; ".join(item.message for item in self.diagnostics))

    @classmethod
    def of(cls, code: str, message: str, *notes: str, span: Span | None = None) -> AlborError:
        """The error with one diagnostic; `notes` name the way out."""
        return cls(Diagnostic("error", code, message, span, notes=notes))


class ManifestError(AlborError):
    """The manifest, or the plan made from it, cannot be used."""


class StateError(AlborError):
    """The recorded state cannot be trusted, or belongs to another pipeline."""


class StalePlan(AlborError):
    """What was planned is no longer what is there."""


class DriftError(AlborError):
    """Something changed behind our back, and the manifest wants nothing done then."""

    exit_code = EXIT_DRIFT


class LockedError(AlborError):
    """Another controller holds the state folder or a machine."""

    exit_code = 5


class UnreachableError(AlborError):
    """A machine does not answer."""

    exit_code = 6


class UsageError(AlborError):
    """The command line is wrong."""

    exit_code = 64
