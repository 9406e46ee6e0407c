"""A small hub of models on this machine's loopback: listing, commits, tokens, ranges, and the faults of a bad line. Runs alone, too."""

from __future__ import annotations

import hashlib
import json
import struct
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote

FILE_TYPES = {"F16": 1, "Q4_K_M": 15, "Q8_0": 7}


def gguf(quantization: str, size: int = 100_000) -> bytes:
    """A file that begins as a GGUF file of that quantization does."""

    def text(word: str) -> bytes:
        return struct.pack("<Q", len(word)) + word.encode()

    words = text("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, 2) + text("a") + text("b")
    kind = text("general.file_type") + struct.pack("<II", 4, FILE_TYPES[quantization])
    head = b"GGUF" + struct.pack("<IQQ", 3, 0, 3) + text("general.architecture") + struct.pack("<I", 8) + text("llama") + words + kind
    return head + bytes(number * 7919 % 251 for number in range(size))


def safetensors(dtype: str = "BF16", size: int = 100_000) -> bytes:
    """A file as safetensors writes it, with one tensor."""
    head = json.dumps({"__metadata__": {"format": "pt"}, "w": {"dtype": dtype, "shape": [size // 2], "data_offsets": [0, size]}}).encode()
    return struct.pack("<Q", len(head)) + head + bytes(number * 31 % 253 for number in range(size))


class Hub:
    """Repositories of files by commit; `cut_after` ends that many connections early, `ranges` says whether it can go on in the middle."""

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, dict[str, bytes]]] = {}
        self.branches: dict[str, str] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.token = ""
        self.account = ""
        self.ranges = True
        self.etags = True
        self.cut_after: list[int] = []
        self.cut_listings: list[int] = []
        self.lies: dict[str, str] = {}
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_words: Any) -> None:
                """Nothing is logged."""

            def do_GET(self) -> None:
                hub.answer(self)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def offer(self, name: str, commit: str, **files: bytes) -> None:
        """A repository at a commit, which its branch `main` is at from now on; `__` in a name stands for a dot."""
        self.repositories.setdefault(name, {})[commit] = {path.replace("__", "."): data for path, data in files.items()}
        self.branches[name] = commit

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """One request."""
        path, wanted = unquote(handler.path.partition("?")[0]), handler.headers.get("Range")
        self.asked.append((path, wanted))
        if self.token and handler.headers.get("Authorization") != f"Bearer {self.token}":
            return self._say(handler, 401, b"{}")
        if self.account and handler.headers.get("Authorization") != f"Basic {self.account}":
            return self._say(handler, 401, b"")
        words = path.strip("/").split("/")
        if words[0] == "api":
            return self._listing(handler, "/".join(words[2:4]), words[5])
        files = self.repositories.get("/".join(words[:2]), {}).get(words[3] if len(words) > 3 else "", {})
        data = files.get("/".join(words[4:]))
        return self._say(handler, 404, b"") if data is None else self._file(handler, data, wanted)

    def _listing(self, handler: BaseHTTPRequestHandler, name: str, revision: str) -> None:
        commit = self.branches.get(name, "") if revision == "main" else revision
        files = self.repositories.get(name, {}).get(commit)
        if files is None:
            return self._say(handler, 404, b"{}")
        siblings = [
            {"rfilename": path, "size": len(data), "lfs": {"size": len(data), "sha256": self.lies.get(path) or digest}}
            for path, data in files.items()
            for digest in [hashlib.sha256(data).hexdigest()]
        ]
        cut = self.cut_listings.pop(0) if self.cut_listings else None
        return self._say(handler, 200, json.dumps({"id": name, "sha": commit, "siblings": siblings}).encode(), None, cut)

    def _file(self, handler: BaseHTTPRequestHandler, data: bytes, wanted: str | None) -> None:
        tag = '"' + hashlib.sha256(data).hexdigest()[:16] + '"'
        known = handler.headers.get("If-Range") in (None, tag)
        start, status = 0, 200
        head = {"ETag": tag} if self.etags else {}
        if wanted and self.ranges and known:
            first, _dash, last = wanted.removeprefix("bytes=").partition("-")
            start, end = int(first), int(last) + 1 if last else len(data)
            if start >= len(data):
                return self._say(handler, 416, b"", {"Content-Range": f"bytes */{len(data)}"})
            status, head["Content-Range"], part = 206, f"bytes {start}-{end - 1}/{len(data)}", data[start:end]
        else:
            part = data
        cut = self.cut_after.pop(0) if self.cut_after and len(part) > 1 else None
        return self._say(handler, status, part, head, cut)

    def _say(
        self, handler: BaseHTTPRequestHandler, status: int, data: bytes, head: dict[str, str] | None = None, cut: int | None = None
    ) -> None:
        handler.send_response(status)
        for name, value in {**(head or {}), "Content-Length": str(len(data))}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(data if cut is None else data[:cut])
        handler.close_connection = handler.close_connection or cut is not None


def main() -> None:
    """Serve one model on the port that is given, until killed; for machines of the test bed."""
    hub = Hub()
    hub.offer("ann/tiny", "c0ffee", **{"tiny-Q4_K_M__gguf": gguf("Q4_K_M"), "README__md": b"tiny\n"})
    Path(sys.argv[1]).write_text(hub.url)
    with hub:
        threading.Event().wait()


if __name__ == "__main__":
    main()
