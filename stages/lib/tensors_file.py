"""Tensors as safetensors files: from a host buffer or as they lie, written and digested in one pass, mapped and proven in one.

The format is 8 bytes of length, a JSON header, then the bytes of every tensor without a gap; the widest types stand first, so that each
tensor lies at a multiple of its own width.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from itertools import chain
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stages.lib.stage import StageError

_CHUNK_BYTES = 8 << 20
_ALIGNED = 64
_NAMES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64", torch.int32: "I32",
    torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}
_TYPES = {name: dtype for dtype, name in _NAMES.items()}


class Staged:
    """A host copy of a group of tensors in the bytes of its file, reused as long as names, shapes and types stay."""

    def __init__(self, tensors: Mapping[str, Tensor], *, pinned: bool) -> None:
        """Takes the room, and copies nothing yet."""
        self._kinds = _kinds(tensors)
        self.header, places = _header(tensors)
        size = max((end for _, end in places.values()), default=0)
        # Zeros are written, so that the pages are there before the first copy, which stalls training.
        self._bytes = torch.zeros(size, dtype=torch.uint8, pin_memory=pinned and size > 0)
        self._views = {
            name: self._bytes[begin:end].view(tensors[name].dtype).view(tensors[name].shape) for name, (begin, end) in places.items()
        }

    def fits(self, tensors: Mapping[str, Tensor]) -> bool:
        """Whether these have the names, shapes and types that the room was taken for."""
        return self._kinds == _kinds(tensors)

    def copy(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes the values over; from a GPU this is only begun, and the caller waits for the device.

        One thread copies: torch's threads meet after every tensor, which on cores shared with others cost three times as much.
        """
        for name, view in self._views.items():
            tensor = tensors[name].detach()
            if tensor.device.type == "cpu" and tensor.is_contiguous():
                np.copyto(_bytes_of(view), _bytes_of(tensor))
            else:
                view.copy_(tensor, non_blocking=True)

    @property
    def size_bytes(self) -> int:
        """Bytes of the file."""
        return len(self.header) + len(self._bytes)

    def write(self, path: Path) -> str:
        """Writes the file and returns its digest."""
        return _write(path, (self.header, self._bytes.numpy()))


class Live:
    """A group of tensors that do not change until they are written: no copy of all of them is made."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = tensors
        self._header, self._places = _header(tensors)

    @property
    def size_bytes(self) -> int:
        """Bytes of the file."""
        return len(self._header) + max((end for _, end in self._places.values()), default=0)

    def write(self, path: Path) -> str:
        """Writes the file, the same as of a host copy, and returns its digest."""
        bodies = (_bytes_of(self._tensors[name].detach().cpu().contiguous()) for name in self._places)
        return _write(path, chain((self._header,), bodies))


def read(path: Path, digest: str) -> dict[str, Tensor]:
    """The tensors of a file as views of its mapped bytes, which were proven by digest; writing to one changes no file.

    They hold the file's room on the disk until they are gone: copy what is to stay. StageError when the file is not as it was written.
    """
    from blake3 import blake3

    size = path.stat().st_size
    whole = torch.from_file(str(path), shared=False, size=size, dtype=torch.uint8) if size else torch.empty(0, dtype=torch.uint8)
    hasher = blake3(max_threads=blake3.AUTO)
    hasher.update(memoryview(whole.numpy()))
    if f"blake3:{hasher.hexdigest()}" != digest:
        raise StageError(f"{path} is not as it was written (its digest differs)")
    try:
        begin = 8 + int.from_bytes(whole[:8].numpy().tobytes(), "little")
        header: dict[str, Any] = json.loads(whole[8:begin].numpy().tobytes())
        data = whole[begin:]
        return {
            name: data[slice(*facts["data_offsets"])].view(_TYPES[facts["dtype"]]).view(facts["shape"]) for name, facts in header.items()
        }
    except (ValueError, KeyError, TypeError, RuntimeError) as fault:
        raise StageError(f"{path} holds no tensors as they are written here: {type(fault).__name__} {fault}") from None


def _write(path: Path, parts: Iterable[bytes | np.ndarray[Any, Any]]) -> str:
    """Writes these bytes one after the other and returns their digest, made of them as they were handed to the system."""
    from blake3 import blake3

    hasher = blake3()
    with path.open("wb", buffering=0) as file:
        for part in map(memoryview, parts):
            for start in range(0, len(part), _CHUNK_BYTES):
                chunk = part[start : start + _CHUNK_BYTES]
                hasher.update(chunk)
                _write_whole(file.fileno(), chunk)
                # The disk begins with this chunk while the next is digested, so that the fsync at the end waits for little. Pages
                # that are not yet on the disk are not dropped.
                os.posix_fadvise(file.fileno(), file.tell() - len(chunk), len(chunk), os.POSIX_FADV_DONTNEED)
    return f"blake3:{hasher.hexdigest()}"


def _bytes_of(tensor: Tensor) -> np.ndarray[Any, Any]:
    return tensor.reshape(-1).view(torch.uint8).numpy()


def _kinds(tensors: Mapping[str, Tensor]) -> dict[str, tuple[torch.dtype, torch.Size]]:
    return {name: (tensor.dtype, tensor.shape) for name, tensor in tensors.items()}


def _header(tensors: Mapping[str, Tensor]) -> tuple[bytes, dict[str, tuple[int, int]]]:
    """The bytes before the data, and where in the data each tensor lies."""
    names = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))
    facts, places, end = {}, {}, 0
    for name in names:
        dtype, shape = tensors[name].dtype, list(tensors[name].shape)
        begin, end = end, end + dtype.itemsize * prod(shape)
        places[name] = (begin, end)
        facts[name] = {"dtype": _NAMES[dtype], "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(facts, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % _ALIGNED)
    return len(text).to_bytes(8, "little") + text, places


def _write_whole(fd: int, chunk: memoryview) -> None:
    while chunk:
        chunk = chunk[os.write(fd, chunk) :]
