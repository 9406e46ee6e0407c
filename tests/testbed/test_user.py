"""Accounts on a real machine: made, changed field by field, disturbed by hand, healed and taken away."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from testbed.conftest import Make
from testbed.kinds import One
from testbed.machine import Machine

pytestmark = pytest.mark.root
KEY, OTHER, FOREIGN = (f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA{letter * 43} {letter}@laptop" for letter in "xyz")
HOSTILE = 'command="echo \'$(touch /pwned) `touch /pwned` \\" %s \u00fc" ' + KEY


@pytest.fixture
def clean(box: Machine) -> Iterator[Machine]:
    """Afterwards none of the accounts, groups and folders of this file is there."""
    yield box
    box.do("for it in zoe zed; do userdel $it; done; rm -rf /srv/zoe /home/zoe /home/zed; for it in zoe zg z1 z2; do groupdel $it; done; :")


@pytest.mark.effect("user.name", "user.uid", "user.group", "user.groups", "user.shell", "user.home", "user.state")
@pytest.mark.effect("user.ssh_authorized_keys")
def test_each_field_of_an_account_is_brought_about_and_kept(make: Make, clean: Machine) -> None:
    """The known defect: declared groups replaced those that the account was in."""
    one = One(make(), "user", name="zoe").plans("create").applies()
    assert clean.do("getent passwd zoe").endswith(":/home/zoe:/bin/sh\n") and clean.do("stat -c %U /home/zoe") == "zoe\n"
    clean.do("groupadd z2 && usermod -aG z2 zoe && echo mine > ~zoe/file && chown zoe ~zoe/file")
    one.now(uid=4321, group="zg", groups=["z1", "users"], shell="/bin/bash", home="/srv/zoe", ssh_authorized_keys=[KEY, HOSTILE])
    one.applies().settled()
    number = clean.do("getent group zg").split(":")[2]
    assert clean.do("getent passwd zoe").split(":")[2:] == ["4321", number, "", "/srv/zoe", "/bin/bash\n"]
    assert set(clean.do("id -Gn zoe").split()) == {"zg", "z1", "z2", "users"}
    assert clean.do("stat -c '%U %a' /srv/zoe/file /srv/zoe/.ssh /srv/zoe/.ssh/authorized_keys") == "zoe 644\nzoe 700\nzoe 600\n"
    assert {KEY, HOSTILE} < set(clean.do("cat /srv/zoe/.ssh/authorized_keys").splitlines())

    clean.do(f"cd /srv/zoe/.ssh; echo '{FOREIGN}' >> authorized_keys; chmod 644 authorized_keys; usermod -s /bin/sh zoe; gpasswd -d zoe z1")
    one.drifts("groups: recorded users, z1, found users", "shell: recorded /bin/bash, found /bin/sh", "ssh_file: recorded 0600 zoe")
    one.now(ssh_authorized_keys=[OTHER]).applies()
    kept = [line for line in clean.do("cat /srv/zoe/.ssh/authorized_keys").splitlines() if not line.startswith("#")]
    assert kept == [FOREIGN, OTHER]
    one.now(state="absent").applies().settled()
    assert clean.do("getent passwd zoe || cat /srv/zoe/file; ls /pwned 2>/dev/null || true") == "mine\n"


@pytest.mark.effect("user.system_user")
def test_an_account_of_the_system_has_a_low_number_and_no_home(make: Make, clean: Machine) -> None:
    one = One(make(), "user", name="zed", system_user=True).applies()
    assert int(clean.do("id -u zed")) < 1000 and clean.do("ls -d /home/zed 2>/dev/null || echo none") == "none\n"
    clean.do("usermod -u 4000 zed")
    one.fails("zed is there with the number 4000, as an account of a person")


def test_keys_of_root_lie_in_the_home_of_root_and_lock_nobody_out(make: Make, bed: object, box: Machine) -> None:
    before = box.do("cat ~/.ssh/authorized_keys")
    one = One(make(), "user", name="root", ssh_authorized_keys=[KEY]).applies()
    assert box.do("grep -v '^#' ~/.ssh/authorized_keys") == f"{before}{KEY}\n"
    one.now(ssh_authorized_keys=None).applies()
    assert box.do("cat ~/.ssh/authorized_keys") == before and box.do("ls /home/root 2>/dev/null || echo none") == "none\n"


def test_what_stands_in_the_way_of_an_account_is_said(make: Make, clean: Machine) -> None:
    One(make(), "user", name="zoe", uid=0).fails("useradd: UID 0 is not unique")
    clean.do("useradd -m zoe && mkdir /srv/zoe && ln -s /srv/zoe ~zoe/.ssh")
    One(make(), "user", name="zoe", ssh_authorized_keys=[KEY]).fails(".ssh is a link: keys are not written through it")
    clean.do("mv /usr/sbin/useradd /usr/sbin/usermod.kept")
    try:
        One(make(), "user", name="zed").fails("useradd is not installed on lambda: add a package resource for it (passwd, ")
    finally:
        clean.do("mv /usr/sbin/usermod.kept /usr/sbin/useradd")


def test_an_account_that_swaps_its_folder_for_a_link_leads_root_nowhere(make: Make, clean: Machine) -> None:
    one = One(make(), "user", name="zoe", ssh_authorized_keys=[KEY]).applies()
    clean.do("mkdir -m 0755 /srv/zoe; cp /etc/fstab /srv/zoe/authorized_keys; chmod 600 /srv/zoe/authorized_keys")
    swap = "cd ~zoe; while [ ! -e stop ]; do mv -T .ssh .s; ln -s /srv/zoe .ssh; rm .ssh; mv -T .s .ssh; done 2>/dev/null"
    clean.do(f"{{ setsid runuser -u zoe -- sh -c '{swap}' >/dev/null 2>&1 & }}")
    for key in (OTHER, KEY) * 3:
        one.now(ssh_authorized_keys=[key]).plans()
        one.project.run("apply", "--yes")
    clean.do("runuser -u zoe -- touch ~zoe/stop; sleep 0.3; rm -f ~zoe/stop")
    assert clean.do("stat -c '%U %a' /srv/zoe /srv/zoe/authorized_keys; ls -A /srv/zoe") == "root 755\nroot 600\nauthorized_keys\n"
    clean.do("cmp /etc/fstab /srv/zoe/authorized_keys; [ ! -L ~zoe/.ssh ] || rm ~zoe/.ssh")
    one.now(ssh_authorized_keys=[OTHER, KEY]).applies().settled()
    assert clean.do("stat -c '%U %a' ~zoe/.ssh ~zoe/.ssh/authorized_keys") == "zoe 700\nzoe 600\n"
