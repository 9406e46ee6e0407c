"""A real engine for containers that are machines: podman with a store of its own, and an image made of the test bed's file system."""

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


def podman(*words: str, check: bool = True) -> str:
    """What podman says."""
    done = subprocess.run(["podman", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0 or not check, (words, done.stderr)
    return done.stdout.strip()


def facts(name: str) -> dict[str, Any]:
    """What podman knows of a container."""
    return dict(json.loads(podman("container", "inspect", name))[0])


@contextmanager
def engine(folder: Path) -> Iterator[None]:
    """Podman with nothing in it but the images; skips the test with the reason where there can be none."""
    if shutil.which("podman") is None or shutil.which("runc") is None:
        pytest.skip("containers need Debian's podman and runc: make tools")
    if reason := base.obstacle():
        pytest.skip(reason)
    (folder / "containers.conf").write_text(SETTINGS)
    store = f'[storage]\ndriver = "overlay"\ngraphroot = "{folder}/graph"\nrunroot = "{folder}/run"\n'
    (folder / "storage.conf").write_text(store)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONTAINERS_CONF", str(folder / "containers.conf"))
        patch.setenv("CONTAINERS_STORAGE_CONF", str(folder / "storage.conf"))
        said = subprocess.run(["podman", "info"], capture_output=True, text=True, check=False)
        if said.returncode != 0:
            pytest.skip(f"podman does not work here: {said.stderr.strip()[-200:]}")
        try:
            _images()
            yield
        finally:
            podman("rm", "-f", "-t", "0", "-a", check=False)
            podman("rmi", "-f", "-a", check=False)


def _images() -> None:
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as tar:
        tar.add(base.build(), ".", filter=lambda item: None if item.name[2:].startswith(LEFT_OUT) else item)
        baked = tarfile.TarInfo("./etc/machine-id")
        baked.size = 33
        tar.addfile(baked, io.BytesIO(b"0123456789abcdef" * 2 + b"\n"))
    subprocess.run(["podman", "import", "-", IMAGE], input=whole.getvalue(), capture_output=True, check=True)
    bare = "mv /usr/bin/python3.11 /opt/python3 && rm /usr/bin/python3 && cat >/usr/bin/apt-get && chmod 755 /usr/bin/apt-get"
    subprocess.run(["podman", "run", "-i", "--name=bare", IMAGE, "sh", "-c", bare], input=PACKAGES.encode(), check=True)
    podman("commit", "bare", BARE)
    podman("rm", "bare")
