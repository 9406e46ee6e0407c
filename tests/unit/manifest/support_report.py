"""What the tests of the format share: a manifest in a few words, and its report in one line a problem."""

from __future__ import annotations

from pathlib import Path

from albor_pipeline.errors import Diagnostic, ManifestError
from albor_pipeline.manifest.load import load
from albor_pipeline.model.manifest import Manifest

HEAD = 'version: "1.0"\nname: x\n'


def resource(kind: str, fields: str, name: str = "it") -> str:
    """A manifest with one resource, its fields in flow style."""
    return f"{HEAD}resources:\n  {name}: {{type: {kind}{', ' if fields else ''}{fields}}}\n"


def read(folder: Path, text: str) -> Manifest:
    """The manifest of that text; raises ManifestError."""
    path = folder / "m.yaml"
    path.write_text(text)
    return load(path)


def caret(item: Diagnostic) -> str:
    """The text that the caret stands under."""
    if item.span is None:
        return ""
    line = item.span.source.text.splitlines()[item.span.line - 1]
    return line[item.span.column - 1 : item.span.column - 1 + item.span.length]


def told(item: Diagnostic) -> str:
    """A problem in one line: what, where, and the suggestion."""
    return f"{item.message} [{caret(item)}]" + (f" {item.label}" if item.label else "")


def report(folder: Path, text: str) -> list[str]:
    """What the manifest's errors say, else its warnings."""
    try:
        return [told(item) for item in read(folder, text).warnings]
    except ManifestError as error:
        return [told(item) for item in error.diagnostics]
