"""The files of one manifest: the manifest itself, what it includes, and its recipes. Reads them; knows no key in them."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from albor_pipeline.errors import ManifestError, Problems, Source, Span
from albor_pipeline.manifest.nodes import Node, Scalar, Table, Text, compose

MAX_BYTES = 32 << 20
MAX_FILES = 1000


def read_source(path: Path) -> Source:
    """The text of a manifest file; ManifestError when it cannot be read or is no UTF-8 text."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ManifestError.of("unreadable", f"{path}: {(error.strerror or 'cannot be read').lower()}") from None
    except ValueError:
        raise ManifestError.of("unreadable", f"{str(path)!r} is no path") from None
    if len(data) > MAX_BYTES:
        raise ManifestError.of("too-large", f"{path} is larger than {MAX_BYTES >> 20} MiB, no manifest is")
    try:
        return Source(str(path), data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        where = f"byte {error.start + 1:,} is not UTF-8"
        raise ManifestError.of("not-text", f"{path} is not a text file: {where}", "save it as UTF-8") from None


class Files:
    """The files behind one Text; every further one is laid behind the last. `looked_for` names all, found or not."""

    def __init__(self, text: Text, problems: Problems, path: Path) -> None:
        self._text = text
        self._problems = problems
        self._main = path
        self._paths: dict[str, Path] = {text.source.name: path}
        self._bytes = len(text.source.text)
        self.looked_for: list[str] = [str(path)]

    def folder_of(self, node: Node) -> Path:
        """The folder of the file that a node stands in."""
        source, _ = self._text.at(node.start)
        return self._paths[source.name].parent

    def beside(self, folder: Path, name: str) -> Path | None:
        """The file of that name in a folder, else in the folder of the same name beside the manifest; None when it is nowhere."""
        places = [Path(os.path.normpath(place / name)) for place in (folder, self._main.parent / folder.name)]
        self.looked_for += map(str, places)
        return next((place for place in places if _is(place, Path.exists)), None)

    def names(self, folder: Path, ending: str) -> list[str]:
        """The names in a folder that end so, without the ending."""
        try:
            return sorted(path.name.removesuffix(ending) for path in folder.iterdir() if path.name.endswith(ending))
        except OSError:
            return []

    def shown(self, path: Path) -> str:
        """A path as a reader would type it."""
        return os.path.normpath(path)

    def table(self, path: Path, place: Span, note: str) -> Table | None:
        """The mapping that another file holds; None when it cannot be read or is none, which is noted at `place`."""
        shown = self.shown(path)
        self.looked_for.append(shown)
        try:
            if _is(path, Path.exists) and not _is(path, Path.is_file):
                raise ManifestError.of("unreadable", f"{shown} is no file")
            source = read_source(Path(shown))
        except ManifestError as error:
            self._problems.extend(replace(item, span=place) for item in error.diagnostics)
            return None
        self._bytes += len(source.text)
        if self._bytes > MAX_BYTES or len(self._paths) >= MAX_FILES:
            message = f"with {shown} the manifest is larger than {MAX_BYTES >> 20} MiB or {MAX_FILES:,} files"
            self._problems.error("too-large", message, place)
            return None
        self._paths[source.name] = path
        base, before = self._text.add(source), len(self._problems)
        root = compose(self._text, self._problems, base)
        if isinstance(root, Table):
            return root
        if len(self._problems) == before:
            empty = root is None or (isinstance(root, Scalar) and root.is_null)
            what = "is empty" if root is None or empty else f"is {root.what}"
            self._problems.error("empty", f"{shown} {what}", self._text.span(base, base + 1), "", (note,))
        return None


def _is(path: Path, what: Callable[[Path], bool]) -> bool:
    try:
        return what(path)
    except (OSError, ValueError):
        return False
