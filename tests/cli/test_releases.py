"""Programs of releases from a server of this test, WebAssembly of the project, and the types that are refused with what to use instead."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from cli.builder import Project

OLD, NEW = b"#!/bin/sh\necho old\n", b"#!/bin/sh\necho new\n"
HERE = platform.machine()


def tar(name: str, data: bytes) -> bytes:
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w:gz") as archive:
        for path, text in ((f"tool-1.0/doc/{name}", b"a page"), (f"tool-1.0/{name}", data)):
            item = tarfile.TarInfo(path)
            item.size = len(text)
            archive.addfile(item, io.BytesIO(text))
    return whole.getvalue()


def zipped(name: str, data: bytes) -> bytes:
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        archive.writestr(f"x/{name}", data)
    return whole.getvalue()


class Hub:
    """A server that answers as GitHub's does: releases of one repository, newest first; it counts what it was asked."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.releases: dict[str, list[dict[str, Any]]] = {}
        self.asked: list[str] = []
        hub = self

        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                hub.asked.append(self.path)
                body = hub.answer(self.path)
                self.send_response(404 if body is None else 200)
                self.end_headers()
                self.wfile.write(body or b"{}")

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def answer(self, path: str) -> bytes | None:
        before, _, tag = path.partition("/repos/o/tool/releases/")
        if tag == "latest":
            tag = f"tags/{next(iter(self.releases), '')}"
        if before == "" and tag.removeprefix("tags/") in self.releases:
            name = tag.removeprefix("tags/")
            return json.dumps({"tag_name": name, "assets": self.releases[name]}).encode()
        return self.files.get(path)

    def release(self, tag: str, digest: str | None = None, **files: bytes) -> None:
        """The newest release; its files by name, `__` for a dot."""
        assets = []
        for word, data in files.items():
            name = word.replace("__", ".").replace("ARCH", HERE)
            self.files[f"/{tag}/{name}"] = data
            assets.append({"name": name, "browser_download_url": f"{self.url}/{tag}/{name}", "digest": digest})
        self.releases = {tag: assets, **self.releases}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    made = Hub()
    monkeypatch.setenv("GITHUB_API", made.url)
    yield made
    made.server.shutdown()
    made.server.server_close()


def tool(project: Project, more: str = "") -> Project:
    return project.manifest(f"tool: {{type: github_release, repo: o/tool, binary: tool, install_dir: {project.root}/bin{more}}}")


def applies(project: Project, word: str) -> None:
    said = project.run("apply", "--yes")
    assert (said.exit, word in said.out + said.err) == (0, True), said


def fails(project: Project, *words: str) -> None:
    said = project.run("apply", "--yes")
    assert said.exit == 3 and all(word in said.err for word in words), said


def test_a_plan_of_provision_knows_the_size_of_a_program_and_not_of_one_in_an_archive(project: Project, hub: Hub) -> None:
    hub.release("v1", tool__tar__gz=tar("tool", NEW), tool=NEW)
    for asset in hub.releases["v1"]:
        asset["size"] = 3_000_000
    said = tool(project, ", asset_pattern: tool").run("provision", "plan")
    assert said.exit == 0 and "0 that cannot; 6.0 MB to be brought\n" in said.err, said
    said = tool(project, ", asset_pattern: '*.gz'").run("provision", "plan")
    assert said.exit == 0 and "0 that cannot; 3.0 MB to be brought; size unknown: tool\n" in said.err, said


@pytest.mark.effect("github_release.repo", "github_release.binary", "github_release.tag")
@pytest.mark.effect("github_release.install_dir", "github_release.state")
def test_the_newest_release_comes_stays_heals_changes_and_goes(project: Project, hub: Hub) -> None:
    """`latest` was looked up as the name of a tag, which usually is not there; nothing was verified."""
    hub.release("v1", tool_linux_ARCH__tar__gz=tar("tool", OLD), tool_windows_ARCH__zip=b"")
    path = project.root / "bin/tool"
    applies(tool(project), "created")
    assert (path.read_bytes(), oct(path.stat().st_mode & 0o7777)) == (OLD, "0o755")
    hub.release("v2", tool_linux_ARCH__tar__gz=tar("tool", NEW))
    asked = len(hub.asked)
    applies(project, "Nothing to do")
    assert len(hub.asked) == asked
    path.chmod(0o700)
    assert "mode: recorded 0755, found 0700" in project.run("drift").out
    applies(project, "updated")
    assert len(hub.asked) == asked
    path.write_bytes(b"other")
    assert "content: recorded as installed, found sha256:d9298a10d1b0, not as installed" in project.run("drift").out
    applies(project, "updated")
    assert path.read_bytes() == NEW
    applies(tool(project, ", tag: v1"), "updated")
    assert path.read_bytes() == OLD
    applies(tool(project, ", state: absent"), "")
    assert not path.exists() and not list((project.root / ".albor/releases").iterdir())
    applies(project, "Nothing to do")


@pytest.mark.effect("github_release.asset_pattern")
def test_the_asset_is_the_one_for_the_machine_or_that_of_the_pattern(project: Project, hub: Hub) -> None:
    hub.release("v1", tool_linux_ARCH_gnu__zip=zipped("tool", OLD), tool_linux_ARCH_musl=NEW, tool_linux_ARCH_musl__sha256=b"no digest")
    fails(tool(project), "2 assets fit (tool_linux_", "name one by asset_pattern")
    applies(tool(project, ", asset_pattern: '*_gnu.zip'"), "created")
    assert (project.root / "bin/tool").read_bytes() == OLD
    fails(tool(project, ", asset_pattern: '*_musl'"), "the release says sha256:no")
    hub.files[f"/v1/tool_linux_{HERE}_musl.sha256"] = f"{hashlib.sha256(NEW).hexdigest()}  tool\n".encode()
    applies(project, "updated")
    assert (project.root / "bin/tool").read_bytes() == NEW


@pytest.mark.parametrize(
    ("more", "said"),
    [(", tag: v9", "there is no release with the tag v9"), (", asset_pattern: '*.exe'", "no asset fits *.exe: name one"),
     (", asset_pattern: '$(touch${IFS}pwned)*'", "no asset fits $(touch${IFS}pwned)*"),
     (", tag: \"'../..\\\"`id`\"", "no release with the tag '../..\"`id`")],
)  # fmt: skip
def test_what_is_not_there_is_told(project: Project, hub: Hub, more: str, said: str) -> None:
    hub.release("v1", tool_linux_ARCH__tar__gz=tar("other", OLD))
    fails(tool(project, more), said)
    assert not (project.root / "pwned").exists()
    fails(tool(project), "holds no tool; it holds: tool-1.0/doc/other, tool-1.0/other")


def test_other_bytes_than_the_release_says_are_refused_and_nothing_is_left(project: Project, hub: Hub) -> None:
    hub.release("v1", digest=f"sha256:{'0' * 64}", tool_linux_ARCH=OLD)
    fails(tool(project), "has the digest sha256:", "and the release says sha256:000")
    assert not (project.root / "bin").exists() or list((project.root / "bin").iterdir()) == []


def test_a_program_that_came_only_in_part_is_not_installed(project: Project, hub: Hub) -> None:
    hub.release("v1", tool_linux_ARCH=OLD)
    hub.releases["v1"][0]["size"] = len(OLD) + 5
    fails(tool(project), f"has {len(OLD) + 5} bytes, and {len(OLD)} came: the connection ended early; apply again")
    assert not (project.root / "bin/tool").exists()


def test_a_server_that_does_not_answer_is_an_error_with_its_reason(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_API", "http://127.0.0.1:9")
    fails(tool(project), "o/tool: it cannot be installed", "refused")


@pytest.mark.effect(
    "wasm_bundle.path", "wasm_bundle.source", "wasm_bundle.mode", "wasm_bundle.state", "wasm_bundle.owner", "wasm_bundle.group"
)
def test_webassembly_is_copied_and_anything_else_is_refused(project: Project) -> None:
    """It was copied on the target, with a warning when it was something else."""
    (project.root / "good.wasm").write_bytes(b"\0asm\1\0\0\0")
    owner = Path(project.root).owner()
    fields = f"type: wasm_bundle, path: out/a.wasm, source: good.wasm, mode: '0640', owner: {owner}, group: {Path(project.root).group()}"
    applies(project.manifest(f"a: {{{fields}}}"), "created")
    made = project.root / "out/a.wasm"
    assert (made.read_bytes(), oct(made.stat().st_mode & 0o777), made.owner()) == (b"\0asm\1\0\0\0", "0o640", owner)
    applies(project, "Nothing to do")
    (project.root / "good.wasm").write_bytes(b"<html>")
    said = project.run("plan")
    assert said.exit == 1 and "copies `good.wasm`, no WebAssembly: it begins with 3c 68 74 6d" in said.err, said
    applies(project.manifest("a: {type: wasm_bundle, path: out/a.wasm, state: absent}"), "")
    assert not made.exists()


@pytest.mark.effect("wasm_bundle.content", "wasm_bundle.target", "wasm_bundle.template")
@pytest.mark.parametrize("fields", ["content: x", "state: symlink, target: good.wasm", "template: good.wasm", "state: directory"])
def test_webassembly_comes_from_a_file_of_the_project_and_from_nothing_else(project: Project, fields: str) -> None:
    (project.root / "good.wasm").write_bytes(b"\0asm\1\0\0\0")
    said = project.manifest(f"a: {{type: wasm_bundle, path: out/a.wasm, {fields}}}").run("plan")
    assert (said.exit, "`a` needs `source`, a WebAssembly module of the project" in said.err) == (1, True), said


@pytest.mark.parametrize(
    ("fields", "instead"),
    [
        ("type: pepita, name: x", "use `type: docker` for a place of its own"),
        ("type: image, path: /srv/x, source: x", "use a task that runs `docker build`"),
        ("type: build, build_machine: localhost, command: x, source: a, target: /b", "use a task on the machine that builds"),
    ],
)
def test_a_type_that_is_never_brought_about_says_what_to_use(project: Project, fields: str, instead: str) -> None:
    kind = fields.split()[1].rstrip(",")
    project.manifest(f"a: {{{fields}}}")
    assert project.run("validate").exit == 0
    said = project.run("plan")
    assert (said.exit, f"type `{kind}` is read and never brought about here" in said.err, instead in said.err) == (1, True, True), said
