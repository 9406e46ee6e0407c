"""Files on real machines: owners, root's rights through sudo, values that no shell may read, and a machine that is only looked at once."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from testbed.base import USER
from testbed.conftest import Make
from testbed.machine import Machine

pytestmark = pytest.mark.root
HOSTILE = "it's \"$(touch /tmp/pwned)\" `touch /tmp/pwned` ; \\ é 漢 *.* -rf"

READ = """import json, os, sys
*names, link = json.load(sys.stdin)
print(json.dumps([*(open(name).read() for name in names), os.readlink(link)]))"""


@pytest.fixture
def folder(box: Machine) -> Iterator[str]:
    """A folder of this test's own, which is gone afterwards."""
    yield "/srv/albor-test"
    box.do("rm -rf /srv/albor-test /tmp/pwned /etc/sudoers.d/albor-test")


@pytest.mark.effect("file.owner", "file.group")
def test_owner_and_group_are_set_seen_and_healed(make: Make, box: Machine, folder: str) -> None:
    fields = f"path: {folder}/conf, content: x, owner: daemon, group: adm, mode: '0640'"
    project = make().tasks(f"conf: {{type: file, machine: lambda, {fields}}}")
    assert project.run("apply").exit == 0
    assert box.do(f"stat -c '%U %G %a' {folder}/conf").strip() == "daemon adm 640"
    box.do(f"chown root {folder}/conf; chgrp root {folder}/conf")
    said = project.run("drift")
    assert said.exit == 4 and "owner: recorded daemon, found root" in said.out and "group: recorded adm, found root" in said.out, said
    assert project.run("apply").exit == 0
    assert box.do(f"stat -c '%U %G %a' {folder}/conf").strip() == "daemon adm 640"
    project.edit("owner: daemon", "owner: nobody-here-has-this")
    said = project.run("apply")
    assert said.exit == 3 and "nobody-here-has-this" in said.err, said


@pytest.mark.effect("any.sudo")
def test_what_needs_root_is_done_by_sudo_and_looked_at_by_it(make: Make, box: Machine, folder: str) -> None:
    project = make()
    project.fields["lambda"] = f", user: {USER}"
    fields = f"path: {folder}/conf, content: x, owner: root, mode: '0600', sudo: true"
    project.tasks(f"conf: {{type: file, machine: lambda, {fields}}}")
    said = project.run("apply")
    assert said.exit == 1 and "root's rights were not given (sudo: a password is required)" in said.err, said
    box.do(f"echo '{USER} ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/albor-test; install -d -m 700 {folder}")
    assert project.run("apply").exit == 0
    assert box.do(f"stat -c '%U %a' {folder}/conf").strip() == "root 600"
    assert project.run("apply").out == "Nothing to do: 1 unchanged.\n"
    box.do(f"chmod 644 {folder}/conf")
    assert project.run("drift").exit == 4
    assert project.run("apply").exit == 0
    assert project.run("destroy", "--yes").exit == 0
    assert box.do(f"ls -A {folder}") == ""


def test_what_the_user_of_a_machine_may_not_write_is_named_with_the_way_out(make: Make, folder: str) -> None:
    project = make()
    project.fields["lambda"] = f", user: {USER}"
    conf = "conf: {type: file, machine: lambda, path: /etc/albor-conf, content: x}"
    mine = "mine: {type: file, machine: lambda, path: /tmp/albor-mine, content: x, owner: root}"
    said = project.tasks(f"{conf}\n{mine}").run("apply", "--keep-going")
    assert said.exit == 3, said
    assert "/etc/albor-conf: Permission denied; as root it may be done: `sudo: true`" in said.err, said
    assert "/tmp/albor-mine: Operation not permitted; as root it may be done: `sudo: true`" in said.err, said
    project.edit(f"~/runs/{project.name}, user: {USER}", f"{folder}, user: {USER}")
    said = project.run("plan")
    way = f"make it there once: sudo install -d -o {USER} {folder}, or give the machine a `workdir` that its user may write\n"
    assert said.exit == 6 and f"the working directory cannot be used: {folder}: Permission denied; {way}" in said.err, said


def test_no_value_is_read_by_a_shell(make: Make, box: Machine, folder: str) -> None:
    names = [f"{folder}/{HOSTILE.replace('/', '-')}", f"{folder}/-n", f"{folder}/a\nb", f"{folder}/{'x' * 200}"]
    texts = [HOSTILE, "", "\n\n", "x" * (1 << 20)]
    resources = {
        f"f{number}": {"type": "file", "machine": "lambda", "path": name, "content": text, "owner": "daemon", "mode": "0600"}
        for number, (name, text) in enumerate(zip(names, texts, strict=True))
    }
    link = {"type": "file", "machine": "lambda", "state": "symlink", "path": f"{folder}/link", "target": HOSTILE}
    project = make().tasks("\n".join(f"{name}: {json.dumps(fields)}" for name, fields in {**resources, "link": link}.items()))
    assert project.run("apply").exit == 0
    box.do(f"cat > {folder}/read.py <<'END'\n{READ}\nEND\ncat > {folder}/names <<'END'\n{json.dumps([*names, f'{folder}/link'])}\nEND")
    found = json.loads(box.do(f"python3 {folder}/read.py < {folder}/names"))
    assert found == [*texts, HOSTILE]
    assert project.run("apply").out == "Nothing to do: 5 unchanged.\n"
    box.do(f"find {folder} -type f -exec chmod 644 {{}} +")
    assert project.run("apply").exit == 0
    assert set(box.do(f"find {folder} -user daemon -type f -printf '%m\\n'").split()) == {"600"}
    assert box.do("ls /tmp/pwned 2>/dev/null || true") == ""
