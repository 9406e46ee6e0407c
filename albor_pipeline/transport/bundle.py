"""The agent program as one file: a zipapp of albor_pipeline/agent in the user's cache folder. Starts nothing and knows no machine.

Its name is the digest of its sources and of this interpreter's bytecode version, its bytes are the same for the same
sources, and its last bytes are a digest of the rest, so that a torn or altered file is made again and never run.
"""

from __future__ import annotations

import importlib.util
import io
import os
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

from albor_pipeline.agent.facts import cache_folder
from albor_pipeline.agent.hashing import digest_bytes

STAMP = (1980, 1, 1, 0, 0, 0)
MAIN = b"from albor_pipeline.agent.__main__ import entry\nentry()\n"


def sources() -> dict[str, bytes]:
    """The agent's files by their path in the archive."""
    folder = Path(__file__).resolve().parent.parent
    found = {"albor_pipeline/__init__.py": b"", "__main__.py": MAIN}
    for path in sorted((folder / "agent").glob("*.py")):
        found[f"albor_pipeline/agent/{path.name}"] = path.read_bytes()
    return found


def bundle_name(files: Mapping[str, bytes]) -> str:
    """`agent-<16 hex>.pyz`."""
    lines = [f"{sys.implementation.cache_tag} {importlib.util.MAGIC_NUMBER.hex()}"]
    lines += [f"{name} {digest_bytes(data)}" for name, data in sorted(files.items())]
    return f"agent-{digest_bytes(chr(10).join(lines).encode())[:16]}.pyz"


def build(files: Mapping[str, bytes]) -> bytes:
    """The archive: each source and its bytecode, stored; the digest of everything before it as the last 64 bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in sorted(files.items()):
            _add(archive, name, data)
            _add(archive, name + "c", _bytecode(name, data))
        archive.comment = b"0" * 64
    data = buffer.getvalue()[:-64]
    return data + digest_bytes(data).encode("ascii")


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    info = zipfile.ZipInfo(name, STAMP)
    info.external_attr = 0o644 << 16
    archive.writestr(info, data)


def _bytecode(name: str, data: bytes) -> bytes:
    import marshal

    code = compile(data, f"<agent>/{name}", "exec", dont_inherit=True)
    unchecked = (0b01).to_bytes(4, "little")
    return importlib.util.MAGIC_NUMBER + unchecked + importlib.util.source_hash(data) + marshal.dumps(code)


def _whole(path: Path) -> bool:
    try:
        data = path.read_bytes()
    except OSError:
        return False
    return len(data) > 64 and digest_bytes(data[:-64]).encode("ascii") == data[-64:]


def ensure_bundle() -> Path:
    """The path of the agent program of this version, built when it is not there whole. Raises OSError."""
    files = sources()
    path = Path(cache_folder()) / bundle_name(files)
    if _whole(path):
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.urandom(6).hex()}")
    try:
        temporary.write_bytes(build(files))
        if not _whole(temporary):
            raise OSError(5, "the agent program could not be written whole", str(temporary))
        temporary.rename(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path
