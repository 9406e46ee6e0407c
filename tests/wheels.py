"""Small wheels, and an index of them, for tests that install Python packages without a network."""

from __future__ import annotations

import base64
import hashlib
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from zipfile import ZipFile


def wheel(folder: Path, name: str, version: str, code: str = "", files: Mapping[str, str] | None = None) -> Path:
    """A wheel with one module of the same name, or with these files instead."""
    folder.mkdir(parents=True, exist_ok=True)
    info = f"{name}-{version}.dist-info"
    held = {
        **(files if files is not None else {f"{name}.py": code}),
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    rows = [f"{path},sha256={_digest(text)},{len(text)}" for path, text in held.items()]
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with ZipFile(path, "w") as archive:
        for inside, text in {**held, f"{info}/RECORD": "\n".join([*rows, f"{info}/RECORD,,", ""])}.items():
            archive.writestr(inside, text)
    return path


@contextmanager
def index(folder: Path, *packages: Path) -> Iterator[str]:
    """The address of a package index with these wheels."""
    for path in packages:
        page = folder / "simple" / path.name.partition("-")[0].replace("_", "-")
        page.mkdir(parents=True, exist_ok=True)
        (page / path.name).write_bytes(path.read_bytes())
        with (page / "index.html").open("a") as links:
            links.write(f'<a href="{path.name}">{path.name}</a>')

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_words: Any) -> None:
            """Nothing is logged."""

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://someone:secret@127.0.0.1:{server.server_port}/simple"
        server.shutdown()


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
