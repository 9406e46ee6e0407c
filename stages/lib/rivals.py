"""What xz makes of the held-out text, the honest rivals of a language model; knows no model."""

from __future__ import annotations

import lzma
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from stages.lib.tables import documents

_LEVEL = 9 | lzma.PRESET_EXTREME


def xz_bytes(data: bytes) -> int:
    """The size of what `xz -9e` writes for `data`."""
    return len(lzma.compress(data, preset=_LEVEL))


def texts_of(path: Path) -> list[bytes]:
    """The documents under `path`, in order, as bytes."""
    return [document.text.encode() for document in documents(path)]


def per_file(texts: Sequence[bytes]) -> float:
    """Bits a byte when each document is compressed alone."""
    return 8 * sum(map(xz_bytes, texts)) / sum(map(len, texts))


def one_stream(texts: Sequence[bytes]) -> float:
    """Bits a byte when all documents are compressed as one stream."""
    return 8 * xz_bytes(b"".join(texts)) / sum(map(len, texts))


def primed(texts: Sequence[bytes], before: Sequence[bytes]) -> float:
    """Bits a byte that the documents add to a stream that has seen `before`: size(before + texts) - size(before)."""
    prefix = b"".join(before)
    with ThreadPoolExecutor(2) as pool:  # xz lets go of the interpreter
        alone, both = pool.map(xz_bytes, (prefix, prefix + b"".join(texts)))
    return 8 * (both - alone) / sum(map(len, texts))
