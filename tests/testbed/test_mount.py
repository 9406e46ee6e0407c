"""Mounts of a real machine: now and in fstab, remounted when that is enough, and the lines of others as they were."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from testbed.conftest import Make
from testbed.kinds import One
from testbed.machine import Machine

SPACED = "a\\040b"
pytestmark = pytest.mark.root
FSTAB = "# by hand\nproc /mnt/kinds2 proc ro 0 2\n/dev/sdz9  /mnt/kind  ext4  noauto  0  2\n"


@pytest.fixture
def clean(box: Machine) -> Iterator[Machine]:
    """With an fstab of others whose paths begin alike; afterwards nothing is mounted below /mnt."""
    box.do(f"cp -a /etc/fstab /etc/fstab.kept; printf '{FSTAB}' > /etc/fstab; chmod 640 /etc/fstab")
    yield box
    box.do("umount -q /mnt/kinds /mnt/k3 '/mnt/a b'; rmdir /mnt/*; mv /etc/fstab.kept /etc/fstab; systemctl daemon-reload")


def lines(box: Machine) -> str:
    """What of fstab is not by others; which must be as it was."""
    text = box.do("cat /etc/fstab")
    assert text.startswith(FSTAB) and box.do("stat -c %a /etc/fstab") == "640\n"
    return text.removeprefix(FSTAB)


@pytest.mark.soak
@pytest.mark.effect("mount.source", "mount.path", "mount.fstype", "mount.options", "mount.state")
def test_each_field_of_a_mount_is_brought_about_and_kept(make: Make, clean: Machine) -> None:
    """The known defect: a line was missing or deleted by a substring of another's path."""
    mark = "# albor-pipeline it: /mnt/{}\n".format
    one = One(make(), "mount", source="scratch", path="/mnt/kinds", fstype="tmpfs", options="size=1m,noexec").applies().settled()
    assert lines(clean) == f"{mark('kinds')}scratch /mnt/kinds tmpfs size=1m,noexec 0 0\n"
    clean.do("touch /mnt/kinds/kept")
    one.now(options="size=2m,nosuid").applies()
    assert clean.do("findmnt -no OPTIONS /mnt/kinds; ls /mnt/kinds").split()[0].split(",")[:2] == ["rw", "nosuid"]
    assert "size=2048k" in clean.do("findmnt -no OPTIONS /mnt/kinds") and clean.do("ls /mnt/kinds") == "kept\n"

    clean.do("mount -o remount,suid /mnt/kinds; sed -i 's/size=2m/size=3m/' /etc/fstab")
    one.drifts("options: recorded size=2m,nosuid, found size=3m,nosuid")
    clean.do("umount /mnt/kinds")
    one.drifts("state: recorded mounted, found unmounted")

    one.now(path="/mnt/a b/", source="other").applies().settled()
    assert lines(clean) == f"{mark(SPACED)}other /mnt/a\\040b tmpfs size=2m,nosuid 0 0\n"
    assert clean.do("findmnt -rno SOURCE '/mnt/a b'; findmnt /mnt/kinds || :") == "other\n"
    one.now(source="/etc", fstype="none", options="bind,ro").applies().settled()
    assert clean.do("[ '/mnt/a b' -ef /etc ] && touch '/mnt/a b/x' 2>&1 || :").endswith("Read-only file system\n")

    one.now(state="unmounted").applies()
    assert clean.do("findmnt '/mnt/a b' || :") == "" and lines(clean) == f"{mark(SPACED)}/etc /mnt/a\\040b none bind,ro 0 0\n"
    one.now(state="absent").applies().settled()
    assert lines(clean) == ""


def test_what_stands_in_the_way_of_a_mount_is_said_and_fstab_stays(make: Make, clean: Machine) -> None:
    clean.do("mkdir /mnt/kinds && mount -t tmpfs mine /mnt/kinds")
    one = One(make(), "mount", source="scratch", path="/mnt/kinds", fstype="tmpfs")
    one.fails("/mnt/kinds has mine mounted, which is neither scratch nor in fstab")
    one.now(source="nas:/data", fstype="nfs", path="/mnt/k3").fails("mount.nfs is not installed on lambda: add a package resource for it")
    one.now(source="/dev/none", fstype="auto").fails("/dev/none")
    assert lines(clean) == ""
    one.now(source="scratch", fstype="tmpfs").applies()
    clean.do("(cd /mnt/k3 && exec sleep 300) >/dev/null 2>&1 & echo $! > /run/held")
    one.now(state="absent").fails("target is busy")
    assert "scratch /mnt/k3 tmpfs defaults 0 0" in lines(clean)
    clean.do("kill $(cat /run/held)")
    one.applies()
    clean.do("mount -t tmpfs scratch /mnt/k3")
    one.drifts("state: recorded absent, found mounted")
    assert clean.do("findmnt /mnt/k3 || :") == "" and lines(clean) == ""
