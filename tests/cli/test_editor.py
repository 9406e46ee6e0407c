"""What an editor shows: the real YAML language server with our schema. `make editor` installs it beside the Python packages."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.builder import Project

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = [Path(sys.prefix) / "editor" / "node_modules" / ".bin", *os.get_exec_path(), Path(sys.prefix) / "bin"]
PATH = os.pathsep.join(map(str, PROGRAMS))
SERVER = shutil.which("yaml-language-server", path=PATH)
SETTINGS = {"yaml": {"validate": True, "completion": True, "hover": True, "schemaStore": {"enable": False}}}
WRONG = """\
# yaml-language-server: $schema=manifest.schema.json
version: "1.0"
name: tale
resources:
  words:
    type: task
    comand: ls
    timeout: 1h30m
  note:
    type: file
    path: /tmp/note
    state: fil
    mode: 0644
  other:
    type: tsk
"""
TYPING = """\
# yaml-language-server: $schema=manifest.schema.json
version: "1.0"
name: tale
resources:
  words:
    type: task
    ti
"""
FLAT = """\
# yaml-language-server: $schema=manifest.schema.json
version: "1.0"
name: tale
resources:
  note:
    type: file
    path: /tmp/note
    content: x
    packages: [curl]
"""
RECIPE = """\
# yaml-language-server: $schema=recipe.schema.json
recipe:
  name: site
  inputs:
    domain: { type: string }
    port: { type: int, defalt: 80 }
resources:
  page: { type: file, path: "/srv/{{inputs.domain}}", content: x }
"""
pytestmark = pytest.mark.skipif(SERVER is None, reason="the YAML language server is not installed: make editor")


class Editor:
    """A language client that opens texts and asks."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._told: dict[str, list[dict[str, Any]]] = {}
        self._count = 0
        env = {**os.environ, "PATH": PATH}
        self.process = subprocess.Popen([str(SERVER), "--stdio"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env)
        self.ask("initialize", {"processId": None, "rootUri": folder.as_uri(), "capabilities": {}})
        self._send("initialized", {})
        self._send("workspace/didChangeConfiguration", {"settings": SETTINGS})

    def open(self, text: str) -> tuple[str, list[tuple[int, str]]]:
        """The address of a text, and what is wrong with it: line and sentence."""
        self._count += 1
        uri = (self._folder / f"{self._count}.yaml").as_uri()
        self._send("textDocument/didOpen", {"textDocument": {"uri": uri, "languageId": "yaml", "version": 1, "text": text}})
        while uri not in self._told:
            self._heard()
        return uri, sorted((item["range"]["start"]["line"] + 1, item["message"]) for item in self._told[uri])

    def ask(self, method: str, params: dict[str, Any]) -> Any:
        """The answer to a request."""
        self._count += 1
        wanted = self._count
        self._send(method, params, wanted)
        while (message := self._heard()).get("id") != wanted or "method" in message:
            pass
        return message["result"]

    def _send(self, method: str, params: Any, number: int | None = None) -> None:
        self._write({"jsonrpc": "2.0", "method": method, "params": params, **({} if number is None else {"id": number})})

    def _write(self, message: dict[str, Any]) -> None:
        body = json.dumps(message).encode()
        assert self.process.stdin is not None
        self.process.stdin.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        self.process.stdin.flush()

    def _heard(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        length = 0
        while line := self.process.stdout.readline().strip():
            name, _, value = line.partition(b": ")
            length = int(value) if name == b"Content-Length" else length
        message: dict[str, Any] = json.loads(self.process.stdout.read(length))
        if message.get("method") == "textDocument/publishDiagnostics":
            self._told[message["params"]["uri"]] = message["params"]["diagnostics"]
        elif "id" in message and "method" in message:
            self._write({"jsonrpc": "2.0", "id": message["id"], "result": [SETTINGS["yaml"]] if "items" in message["params"] else None})
        return message


@pytest.fixture
def editor(project: Project) -> Iterator[Editor]:
    project.file("manifest.schema.json", project.run("schema").out)
    project.file("recipe.schema.json", project.run("schema", "--recipe").out)
    made = Editor(project.root)
    yield made
    made.process.kill()
    made.process.communicate()


def test_mistakes_are_marked_at_their_line(editor: Editor) -> None:
    _, wrong = editor.open(WRONG)
    assert [line for line, _ in wrong] == [7, 12, 15]
    assert wrong[0][1] == "Property comand is not allowed."
    assert wrong[1][1] == 'Value is not accepted. Valid values: "file", "directory", "symlink", "absent".'


def test_keys_are_completed_and_explained(editor: Editor) -> None:
    uri, _ = editor.open(TYPING)
    found = editor.ask("textDocument/completion", {"textDocument": {"uri": uri}, "position": {"line": 6, "character": 6}})
    assert {"timeout", "command", "depends_on"} <= {item["label"] for item in found["items"]}
    uri, _ = editor.open(WRONG)
    shown = editor.ask("textDocument/hover", {"textDocument": {"uri": uri}, "position": {"line": 7, "character": 6}})
    assert "after this time an attempt is ended" in str(shown["contents"])


def test_what_validate_accepts_has_no_mark_even_where_it_warns(editor: Editor, project: Project) -> None:
    for path in sorted((ROOT / "manifests").glob("*.yaml")):
        _, wrong = editor.open(path.read_text().replace("../docs/manifest.schema.json", "manifest.schema.json"))
        assert wrong == [], path
    uri, wrong = editor.open(FLAT)
    assert wrong == []
    shown = editor.ask("textDocument/hover", {"textDocument": {"uri": uri}, "position": {"line": 8, "character": 6}})
    assert "it has no effect on this one" in str(shown["contents"])
    said = project.file("manifests/albor.yaml", FLAT).run("validate")
    assert (said.exit, said.err.count("warning["), said.err.count("albor.yaml:9:")) == (0, 1, 1)


def test_a_recipe_file_is_checked_too(editor: Editor) -> None:
    _, wrong = editor.open(RECIPE)
    assert wrong == [(6, "Property defalt is not allowed.")]
