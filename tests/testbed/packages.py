"""Packages that are made for a test, and a package source of its own on a machine of the test bed."""

from __future__ import annotations

import base64
import hashlib
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from testbed.machine import Machine


@dataclass(frozen=True)
class Package:
    """A package of a few programs; `more` are further lines of its control file."""

    name: str
    version: str
    programs: Mapping[str, str] = field(default_factory=dict)
    more: Sequence[str] = ()


def _built(package: Package, folder: Path) -> Path:
    tree = folder / f"{package.name}_{package.version}"
    control = [f"Package: {package.name}", f"Version: {package.version}", "Architecture: all", "Maintainer: a test <test@localhost>"]
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN/control").write_text("\n".join([*control, *package.more, "Description: made for a test", ""]))
    for path, text in package.programs.items():
        program = tree / path.lstrip("/")
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(text)
        program.chmod(0o755)
    made = folder / f"{package.name}_{package.version.replace(':', '%3a')}.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "-Znone", "-b", str(tree), str(made)], check=True, capture_output=True)
    return made


@contextmanager
def source(box: Machine, name: str, packages: Sequence[Package]) -> Iterator[None]:
    """A package source of these packages, the only one of the machine meanwhile: others are out of its reach, and apt would wait for them.

    It is taken away afterwards, with what was installed of it.
    """
    listed = f"/etc/apt/sources.list.d/{name}.list"
    with tempfile.TemporaryDirectory() as folder:
        index = []
        script = [f"mkdir -p /srv/{name} /srv/aside && cd /srv/{name}"]
        for package in packages:
            made = _built(package, Path(folder))
            data = made.read_bytes()
            control = subprocess.run(["dpkg-deb", "-f", str(made)], check=True, capture_output=True, text=True).stdout.strip()
            index.append(f"{control}\nFilename: ./{made.name}\nSize: {len(data)}\nSHA256: {hashlib.sha256(data).hexdigest()}\n")
            script.append(f"base64 -d > {made.name} <<'E'\n{base64.b64encode(data).decode()}\nE")
        script.append("cat > Packages <<'E'\n" + "\n".join(index) + "\nE")
    script.append("mv /etc/apt/sources.list* /srv/aside/")
    script.append(f"mkdir -p /etc/apt/sources.list.d; echo 'deb [trusted=yes] file:/srv/{name} ./' > {listed}")
    for part in script:
        box.do(f"{script[0]}; {part}")
    try:
        yield
    finally:
        names = " ".join(sorted({package.name for package in packages}))
        update = "apt-get -q update -o Dir::Etc::SourceList=/dev/null -o Dir::Etc::SourceParts=/dev/null"
        back = "rm -rf /etc/apt/sources.list.d; mv /srv/aside/* /etc/apt/"
        box.do(f"rm -rf /srv/{name}; {back}; dpkg --purge --force-all {names} 2>/dev/null || true; {update} || true")
