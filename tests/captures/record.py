"""Records what real tools answer to the probes of resources: `python tests/captures/record.py` writes one file for each tool that is here.

What is recorded carries the tool's version. A container is made for it, and none is started; nothing of this stays on the machine.
What needs a machine of its own, such as accounts and firewalls, is recorded by tests/testbed/test_tools.py in the same form.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from albor_pipeline.resources.cards import PROBE
from albor_pipeline.resources.engines import LOOK
from albor_pipeline.resources.package_apt import Apt
from albor_pipeline.resources.package_manager import Wish

HERE = Path(__file__).parent
NAME, IMAGE = "albor-capture", "localhost/albor-capture:1"
PORTS = ("-p", "8080:80", "-p", "127.0.0.1:9000:90/udp")
MADE = ("-e", "A=x y", "-v", "/tmp:/data:ro", "-v", f"{NAME}:/v", "--restart", "on-failure:3", *PORTS)
WISHES = ("cowsay", "openssl")
TOOLS = {"nvidia-smi": "--version", "nvcc": "--version", "rocm-smi": "--version"}


def ask(program: str, *words: str, path: str | None = None) -> dict[str, Any]:
    """What the agent would answer: exit code and texts of a probe's program."""
    env = {**os.environ, "LC_ALL": "C.UTF-8"} | ({"PATH": path} if path else {})
    done = subprocess.run(["/bin/sh", "-c", program, *words], capture_output=True, text=True, env=env, check=False)
    return {"exit": done.returncode, "stdout": done.stdout, "stderr": done.stderr}


def version(tool: str, *words: str) -> str:
    """The version that a tool tells, `none` when it is not here."""
    try:
        said = subprocess.run([tool, *words], capture_output=True, text=True, check=False).stdout
    except OSError:
        return "none"
    found = re.search(r"release \S+ V(\d\S+)|(\d+\.\d+(?:\.\d+)*)", said)
    return str(found[1] or found[2]) if found else "unknown"


def system() -> str:
    """The name of this system."""
    named = re.search(r'^PRETTY_NAME="(.*)"', Path("/etc/os-release").read_text(), re.MULTILINE)
    return named[1] if named else "unknown"


def cards() -> dict[str, Any]:
    """The answer to the look at graphics cards: there always is one."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        tools = {tool: version(tool, word) for tool, word in TOOLS.items()}
        return {"kind": "gpu", "tools": tools, "system": system(), "probe": ask(PROBE, "gpu")}


def engines() -> Iterator[dict[str, Any]]:
    """The answers of the container engines that work here, each to a look at a container and at none."""
    for tool in ("docker", "podman"):
        path = shutil.which(tool)
        if path is None or subprocess.run([path, "ps", "-q"], capture_output=True, check=False).returncode != 0:
            continue
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "docker").symlink_to(path)
            here = f"{folder}:{os.environ['PATH']}"
            empty = subprocess.run(["tar", "-c", "--files-from", "/dev/null"], capture_output=True, check=True).stdout
            run = [path, "import", "--change", "CMD [\"sleep\",\"1000\"]", "-", IMAGE]
            subprocess.run(run, input=empty, capture_output=True, check=True)
            try:
                subprocess.run([path, "create", "--name", NAME, *MADE, IMAGE, "sleep", "500"], capture_output=True, check=True)
                made, none = (ask(LOOK, "docker", name, IMAGE, path=here) for name in (NAME, f"{NAME}-none"))
            finally:
                for words in (["rm", "-f", "-v", NAME], ["volume", "rm", NAME], ["rmi", IMAGE]):
                    subprocess.run([path, *words], capture_output=True, check=False)
        tools = {tool: version(path, "version", "--format", "{{.Server.Version}}")}
        yield {"kind": "docker", "tools": tools, "system": system(), "probe": made, "probe_of_none": none}


def apt() -> Iterator[dict[str, Any]]:
    """The answer to the rehearsal of an install, and apt-get's own words about it, where there are lists of packages."""
    (rehearsal,) = Apt().weighs([Wish(name) for name in WISHES])
    seen = ask(rehearsal["script"])
    if seen["exit"] == 0:
        said = ask('apt-get -q --assume-no install "$@"', "apt-get", *WISHES)["stdout"]
        yield {"kind": "apt", "tools": {"apt": version("apt-get", "--version")}, "system": system(), "probe": seen, "said": said}


def record(folder: Path) -> list[Path]:
    """Write what can be recorded here, a file for each."""
    written = []
    for found in [cards(), *engines(), *apt()]:
        versions = [f"{tool}-{told}" for tool, told in found["tools"].items() if told != "none"]
        path = folder / f"{'-'.join([found['kind'], *versions])}.yaml"
        path.write_text(yaml.safe_dump(found, sort_keys=False, allow_unicode=True))
        written.append(path)
    return written


if __name__ == "__main__":
    sys.stdout.write("".join(f"{path}\n" for path in record(HERE)))
