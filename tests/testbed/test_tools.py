"""What the tools of a real machine answer about a thing of each type, recorded anew: it reads as it was made, and as what is kept of them.

The thing is then imported by a project that never saw it. `--update-golden` keeps what was recorded.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from captures.verdict import as_made, verdict
from resources.test_cases import resource_of
from rules.project import ROOT

from albor_pipeline.resources.registry import convergent
from testbed.conftest import Make
from testbed.kinds import One
from testbed.machine import LENT, Machine

pytestmark = [pytest.mark.root, pytest.mark.soak]
OF_THE_HOST = re.compile(rf"^\d+ \d+ \d+:\d+ \S+ (/|{LENT}) .*\n", re.MULTILINE)  # mounts that name folders outside the machine
KEPT = ROOT / "tests/captures"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA" + "x" * 43 + " x@laptop"
FILES = "/etc/passwd /etc/group /etc/shadow /etc/fstab /etc/ufw/*.rules /etc/systemd/system /var/lib/dpkg/status /var/spool/cron/crontabs/*"
STAMPS = f"stat -c '%n %i %z' {FILES} 2>/dev/null; findmnt -rn; nft list ruleset; systemctl show cron --property=ActiveEnterTimestamp"


@dataclass(frozen=True)
class Subject:
    """A thing of one type, the package whose tool tells of it, and what is done to the machine before and after."""

    kind: str
    package: str
    fields: dict[str, Any] = field(default_factory=dict)
    before: str = ":"
    after: str = ":"


SUBJECTS = {
    "package": Subject("package", "dpkg", {"provider": "apt", "packages": ["cron", "sudo"]}),
    "service": Subject("service", "systemd", {"name": "cron"}, "systemctl enable --now cron"),
    "user": Subject("user", "passwd", {
        "name": "rec", "uid": 4321, "groups": ["users"], "shell": "/bin/bash", "home": "/srv/rec", "ssh_authorized_keys": [KEY],
    }, after="rm -rf /srv/rec; groupdel rec; :"),
    "mount": Subject("mount", "mount", {"source": "scratch", "path": "/mnt/rec", "fstype": "tmpfs", "options": "size=1m,noexec"},
                     after="rmdir /mnt/rec"),
    "cron": Subject("cron", "cron", {"name": "rec", "schedule": "5 4 * * *", "command": "echo $(date +%F)  > /dev/null"}),
    "ufw": Subject("network", "ufw", {"port": 8080, "from": "10.0.0.0/8"}, after="ufw --force reset; rm -f /etc/ufw/*.rules.20*"),
    "nft": Subject("network", "nftables", {"port": 8080, "protocol": "udp"}, "mv /usr/sbin/ufw /usr/sbin/ufw.kept",
                   "mv /usr/sbin/ufw.kept /usr/sbin/ufw; nft delete table inet albor 2>/dev/null; :"),
}  # fmt: skip


def recorded(box: Machine, subject: Subject, root: Path) -> dict[str, Any]:
    """What root's probes of it are answered, with the versions of the tool and of the system."""
    found: dict[str, Any] = {
        "kind": subject.kind,
        "tools": {subject.package: box.do(f"dpkg-query -W -f='${{Version}}' {subject.package}")},
        "system": box.do(". /etc/os-release; printf %s \"$PRETTY_NAME\""),
        "fields": subject.fields,
        "probe": [],
    }
    for item in convergent(subject.kind).probes(resource_of(found, subject.kind, root)):
        done = subprocess.run(box.words(item["script"]), capture_output=True, text=True, check=False)
        found["probe"].append({"exit": done.returncode, "stdout": OF_THE_HOST.sub("", done.stdout), "stderr": done.stderr})
    return found


@pytest.mark.parametrize("name", SUBJECTS)
def test_what_the_tool_answers_reads_as_it_was_made_and_is_imported(
    make: Make, box: Machine, tmp_path: Path, update_golden: bool, name: str
) -> None:
    subject = SUBJECTS[name]
    box.do(subject.before)
    made = One(make(), subject.kind, **subject.fields)
    try:
        made.applies()
        fresh = recorded(box, subject, tmp_path)
        there = box.do(STAMPS)
        other = One(make(), subject.kind, **subject.fields).plans("adopt")
        said = other.project.run("import", subject.kind, "it")
        assert (said.exit, said.out.splitlines()[:1]) == (0, ["it@lambda: recorded as it is"]), said
        other.settled()
        assert box.do(STAMPS) == there
    finally:
        made.project.run("destroy", "--yes")
        box.do(subject.after)
    told = re.sub(r"[^\w.+~-]", "_", fresh["tools"][subject.package])
    if update_golden:
        (KEPT / f"{name}-{subject.package}-{told}.yaml").write_text(yaml.safe_dump(fresh, sort_keys=False, allow_unicode=True))
    assert verdict(fresh, tmp_path) == as_made(fresh, tmp_path)
    kept = [yaml.safe_load(path.read_text()) for path in KEPT.glob(f"{name}-{subject.package}-*.yaml")]
    assert kept and all(verdict(each, tmp_path) == verdict(fresh, tmp_path) for each in kept)
