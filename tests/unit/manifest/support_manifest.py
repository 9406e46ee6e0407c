"""A folder with a manifest and what lies beside it: loaded, or refused with the whole text that a user sees."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest

from albor_pipeline.errors import ManifestError
from albor_pipeline.manifest.load import load
from albor_pipeline.model.manifest import Manifest
from albor_pipeline.ui.diagnostics import render_all

HEAD = 'version: "1.0"\nname: x\n'


class Folder:
    """`file` writes, `load` gives the manifest, `says` the rendered diagnostics, with the folder's own path left out."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def file(self, path: str, text: str) -> Folder:
        """Write a file."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(textwrap.dedent(text).lstrip("\n"))
        return self

    def manifest(self, text: str) -> Folder:
        """Write the manifest: version and name `x` in its first two lines, then this."""
        (self.root / "m.yaml").write_text(HEAD + textwrap.dedent(text).lstrip("\n"))
        return self

    def load(self, **options: Any) -> Manifest:
        """The manifest."""
        return load(self.root / "m.yaml", **options)

    def says(self, **options: Any) -> str:
        """What a manifest with mistakes makes a user see."""
        with pytest.raises(ManifestError) as caught:
            self.load(**options)
        return self.text(list(caught.value.diagnostics))

    def warns(self, **options: Any) -> str:
        """The warnings of a manifest that can be used."""
        return self.text(list(self.load(**options).warnings))

    def text(self, diagnostics: list[Any]) -> str:
        """Rendered, with relative paths."""
        return render_all(diagnostics).replace(f"{self.root}/", "")


def block(text: str) -> str:
    """A block of a test as it is shown: without the common indent, one newline at the end."""
    return textwrap.dedent(text).lstrip("\n")
