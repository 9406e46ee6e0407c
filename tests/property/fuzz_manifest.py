"""Coverage-guided search for a manifest that is answered with anything but a diagnostic: `make fuzz`, bounded in time.

Not collected by pytest: it wants atheris, which `make fuzz` installs. A file that it finds is written beside the corpus and named.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["albor_pipeline.manifest", "albor_pipeline.resources"]):
    from albor_pipeline.errors import ManifestError
    from albor_pipeline.manifest.load import load

LIMIT_S = 2.0
FOLDER = Path(tempfile.mkdtemp(prefix="fuzz-"))


def one_input(data: bytes) -> None:
    """Any bytes load, or are refused with a ManifestError, in time; an include may name the file itself."""
    path = FOLDER / "manifest.yaml"
    path.write_bytes(data)
    began = time.process_time()
    try:
        load(path)
    except ManifestError as error:
        assert error.diagnostics
    spent = time.process_time() - began
    assert spent < LIMIT_S, f"{spent:.1f} s"


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
