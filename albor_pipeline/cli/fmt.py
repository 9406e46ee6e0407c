"""`fmt`: order and indent manifests; no value and no comment changes. A file that cannot be read as YAML stays untouched."""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from pathlib import Path

from albor_pipeline.cli import common
from albor_pipeline.errors import EXIT_OK, ManifestError
from albor_pipeline.manifest.files import read_source
from albor_pipeline.manifest.layout import formatted


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """MANIFEST..., --check."""
    parser.add_argument("manifest", nargs="*", help="manifests/albor.yaml, else the only one in manifests/")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when something would change")


def run(args: argparse.Namespace) -> int:
    """Write each file anew where that changes it; nothing at all when one of them cannot be read."""
    paths = [Path(name) for name in args.manifest] or [common.find_manifest(None)]
    sources = [read_source(path) for path in paths]
    texts = [formatted(source) for source in sources]
    changed = [(path, text) for path, source, text in zip(paths, sources, texts, strict=True) if source.text != text]
    for path, text in changed:
        if not args.check:
            _write(path, text)
        common.out([f"{path}: {'not in order' if args.check else 'put in order'}"])
    if not changed:
        common.out([f"{len(paths)} files are in order." if len(paths) > 1 else f"{paths[0]}: in order"])
    return ManifestError.exit_code if args.check and changed else EXIT_OK


def _write(path: Path, text: str) -> None:
    """Replace a file in one step, so that no reader and no crash sees half of it; a link stays a link."""
    target = path.resolve()
    try:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        shutil.copymode(target, name)
        Path(name).replace(target)
    except OSError as error:
        raise ManifestError.of("unwritable", f"{path}: {(error.strerror or 'cannot be written').lower()}") from None
