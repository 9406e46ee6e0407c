"""Real engines for containers that are machines, and images made of the test bed's file system."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from testbed import base

IMAGE, BARE = "localhost/albor-box:1", "localhost/albor-bare:1"
# Without more rights than a test has: no limits above ours, no network, and the runtime that works beside both kinds of control groups.
SETTINGS = """
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
netns = "none"
[engine]
runtime = "runc"
events_logger = "file"
"""
LEFT_OUT = ("etc/machine-id", "usr/share", "usr/sbin/nft", "var", "boot", "usr/lib/modules", "usr/lib/systemd", "usr/lib/udev")
# A package manager that knows one package: it gives the interpreter its name back.
PACKAGES = '#!/bin/sh\n[ "$2" = update ] && exit 0\necho "$*" >>/asked\nfor last; do :; done\nmv /opt/$last /usr/bin/$last\n'


class Engine:
    """An engine by name; called with words it gives what it says to them."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, *words: str, check: bool = True, stdin: bytes | None = None) -> str:
        done = subprocess.run([self.name, *words], input=stdin, capture_output=True, check=False)
        assert done.returncode == 0 or not check, (words, done.stderr)
        return done.stdout.decode().strip()

    def facts(self, name: str) -> dict[str, Any]:
        """What it knows of a container."""
        return dict(json.loads(self("container", "inspect", name))[0])

    def containers(self) -> list[str]:
        """The names of all that are there."""
        return sorted(self("ps", "-a", "--format", "{{.Names}}").split())

    def clear(self) -> None:
        """Take those away that tests make."""
        for name in self.containers():
            if name.startswith(("forjar-", "albor-test-")):
                self("rm", "-f", name, check=False)


@contextmanager
def engine(name: str, folder: Path) -> Iterator[Engine]:
    """An engine with the images; podman has a store of its own, docker is the one that answers. Skips the test where there is none."""
    if reason := base.obstacle():
        pytest.skip(reason)
    lacking = [program for program in ((name, "runc") if name == "podman" else (name,)) if shutil.which(program) is None]
    if lacking:
        pytest.skip(f"containers need {' and '.join(lacking)}: make tools")
    (folder / "containers.conf").write_text(SETTINGS)
    store = f'[storage]\ndriver = "overlay"\ngraphroot = "{folder}/graph"\nrunroot = "{folder}/run"\n'
    (folder / "storage.conf").write_text(store)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONTAINERS_CONF", str(folder / "containers.conf"))
        patch.setenv("CONTAINERS_STORAGE_CONF", str(folder / "storage.conf"))
        said = subprocess.run([name, "ps", "-q"], capture_output=True, text=True, check=False)
        if said.returncode != 0:
            pytest.skip(f"no {name} answers here: {said.stderr.strip()[-200:]}")
        made = Engine(name)
        try:
            _images(made)
            yield made
        finally:
            made.clear()
            made("rmi", "-f", BARE, IMAGE, check=False)


def _images(engine: Engine) -> None:
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as tar:
        tar.add(base.build(), ".", filter=lambda item: None if item.name[2:].startswith(LEFT_OUT) else item)
        baked = tarfile.TarInfo("./etc/machine-id")
        baked.size = 33
        tar.addfile(baked, io.BytesIO(b"0123456789abcdef" * 2 + b"\n"))
    engine("import", "-", IMAGE, stdin=whole.getvalue())
    bare = "mv /usr/bin/python3.11 /opt/python3 && rm /usr/bin/python3 && cat >/usr/bin/apt-get && chmod 755 /usr/bin/apt-get"
    engine("run", "-i", "--name=albor-test-bare", IMAGE, "sh", "-c", bare, stdin=PACKAGES.encode())
    engine("commit", "albor-test-bare", BARE)
    engine("rm", "albor-test-bare")
