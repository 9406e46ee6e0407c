"""Environments and models on a real machine: made, left alone, changed by hand, healed, and taken away."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path

import fakehub
import pytest
from wheels import wheel

from testbed.conftest import Make
from testbed.machine import Machine

pytestmark = pytest.mark.root


@pytest.fixture
def hub(box: Machine) -> Iterator[str]:
    """A hub on the machine's own loopback, which everybody who logs in is told of."""
    (Path(f"/proc/{box.init}/root/srv/fakehub.py")).write_text(Path(fakehub.__file__).read_text())
    box.do("cd /srv && { setsid python3 fakehub.py hub.url >/dev/null 2>&1 & echo $! > hub.pid; }")
    box.do("until [ -s /srv/hub.url ]; do sleep 0.1; done")
    url = box.do("cat /srv/hub.url").strip()
    box.do(f"cp /etc/environment /srv/kept 2>/dev/null || : > /srv/kept; echo HF_ENDPOINT={shlex.quote(url)} >> /etc/environment")
    yield url
    box.do("cat /srv/kept > /etc/environment; kill $(cat /srv/hub.pid); rm -rf /srv/hub.* /srv/kept /srv/fakehub.py /srv/models")


@pytest.mark.soak
def test_an_environment_and_a_model_are_made_left_alone_healed_and_destroyed(make: Make, box: Machine, hub: str) -> None:
    project = make()
    for version in ("1.0", "1.1"):
        wheel(project.root / "wheels", "tiny", version)
    env = "type: python_env, machine: lambda, python: '3.11', wheels: wheels, requirements: [tiny==1.0], imports: [tiny]"
    model = "type: model, machine: lambda, name: tiny, source: ann/tiny, format: gguf, quantization: q4_k_m, owner: daemon"
    file = "type: model, machine: lambda, name: other, path: /srv/models/other.gguf, source: /srv/models/tiny.gguf, depends_on: [tiny]"
    project.tasks(f"env: {{{env}}}\ntiny: {{{model}, path: /srv/models/tiny.gguf}}\nother: {{{file}}}\n")
    project.tasks(f"env: {{{env.replace('tiny==1.0', 'tiny==3, absent')}}}\ntiny: {{{model}, path: /srv/models/tiny.gguf}}\n")
    said = project.run("provision", "plan")
    told = ("is version 3 of `tiny`: there is 1.0, 1.1\n", "is `absent`\n")
    assert said.exit == 1 and [text for text in told if f"`env` on lambda: no file in `wheels` {text}" not in said.err] == [], said
    project.tasks(f"env: {{{env}}}\ntiny: {{{model}, path: /srv/models/tiny.gguf}}\nother: {{{file}}}\n")
    said = project.run("apply", "--yes")
    assert said.exit == 0, said
    assert box.do("stat -c %U /srv/models/tiny.gguf; cmp /srv/models/tiny.gguf /srv/models/other.gguf").strip() == "daemon"
    python = project.there(box, ".albor/env/env/bin/python")
    assert box.do(f"~/runs/{project.name}/.albor/env/env/bin/python -c 'import tiny, sys; print(*sys.version_info[:2])'") == "3 11\n"
    assert python.is_symlink() and project.run("apply").out == "Nothing to do: 3 unchanged.\n"
    box.do(f"rm -r ~/runs/{project.name}/.albor/env/env/lib/python3.11/site-packages/tiny-1.0.dist-info")
    box.do("echo more >> /srv/models/tiny.gguf; chown root /srv/models/tiny.gguf; rm /srv/models/other.gguf")
    said = project.run("drift", "--json")
    assert said.exit == 4, said
    details = " ".join(finding["detail"] for finding in json.loads(said.out)["findings"])
    for text in ("recorded as locked, found tiny 1.0 -> absent", "files: recorded as fetched, found changed: tiny.gguf",
                 "owner: recorded daemon, found root", "state: recorded present, found absent"):  # fmt: skip
        assert text in details, details
    said = project.run("apply", "--yes")
    assert said.exit == 0, said
    assert project.run("apply").out == "Nothing to do: 3 unchanged.\n"
    said = project.run("destroy", "--yes")
    assert said.exit == 0, said
    assert box.do("ls /srv/models") == "" and not python.is_symlink()
