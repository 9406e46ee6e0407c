"""A source of Debian packages on a machine of the test bed, made there: no network is needed. Knows nothing of the project."""

from __future__ import annotations

import shlex

from testbed.machine import Machine

FOLDER = "/srv/debs"
LIST = "/etc/apt/sources.list.d/bed.list"
ASIDE = "/etc/apt/aside"


class Debs:
    """The only package source of a machine while it is used as a context; `forget` empties what apt knows of it."""

    def __init__(self, box: Machine) -> None:
        self._box = box

    def __enter__(self) -> Debs:
        self._box.do(
            f"mkdir -p {FOLDER} {ASIDE} && cd /etc/apt && mv sources.list sources.list.d/* {ASIDE} 2>/dev/null; "
            f"echo 'deb [trusted=yes] copy:{FOLDER} ./' > {LIST}; touch {FOLDER}/Packages; rm -rf /var/lib/apt/lists/*"
        )
        return self

    def __exit__(self, *_error: object) -> None:
        self._box.do(
            "dpkg-query -W -f='${Package}\\n' 'bed-*' 2>/dev/null | xargs -r dpkg --purge --force-all >/dev/null 2>&1; "
            f"rm -rf {LIST} {FOLDER} /var/lib/apt/lists/*; cd {ASIDE} && "
            "{ mv sources.list /etc/apt/ 2>/dev/null; mv * /etc/apt/sources.list.d/ 2>/dev/null; true; }; cd / && rmdir " + ASIDE
        )

    def offer(self, name: str, version: str, *control: str, postinst: str = "") -> None:
        """One more package, or one more version of it; `control` are further lines of its description."""
        lines = [f"Package: {name}", f"Version: {version}", "Architecture: all", "Maintainer: bed <bed@example.org>", *control]
        text = "\n".join([*lines, "Description: of the test bed", ""])
        script = f"#!/bin/sh\n{postinst}\n"
        self._box.do(
            f"cd $(mktemp -d) && mkdir -p p/DEBIAN p/usr/share/{name} && echo {version} > p/usr/share/{name}/version && "
            f"printf %s {shlex.quote(text)} > p/DEBIAN/control && printf %s {shlex.quote(script)} > p/DEBIAN/postinst && "
            f"chmod 755 p/DEBIAN/postinst && deb={name}_{version}.deb && dpkg-deb -b p {FOLDER}/$deb >/dev/null && cd {FOLDER} && "
            "{ dpkg-deb -f $deb; echo Filename: ./$deb; echo Size: $(stat -c %s $deb); echo SHA256: $(sha256sum $deb | cut -d' ' -f1); "
            "echo; } >> Packages && rm -rf $OLDPWD"
        )

    def installed(self, name: str) -> str:
        """Its state and version as dpkg has them, empty when it knows nothing of it."""
        return self._box.do("dpkg-query -W -f='${db:Status-Abbrev}${Version}' " + f"{name} 2>/dev/null || true").strip()

    def upgrade(self, name: str, version: str) -> None:
        """What somebody does by hand: another version, past apt."""
        self._box.do(f"dpkg -i {FOLDER}/{name}_{version}.deb >/dev/null 2>&1")
