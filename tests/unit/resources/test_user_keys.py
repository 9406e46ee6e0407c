"""The keys of an account in a file that others write too, by the real scripts over a home folder of the test."""

from __future__ import annotations

import getpass
import json
import pwd
import subprocess
from pathlib import Path

import pytest

from albor_pipeline.manifest.load import load
from albor_pipeline.model.observed import Observation
from albor_pipeline.resources.base import Instance
from albor_pipeline.resources.registry import convergent
from albor_pipeline.resources.user import MARK

KIND = convergent("user")
OLD, NEW, FOREIGN = (f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA{letter * 43} {letter}@laptop" for letter in "abc")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The home folder that the accounts' list names here."""
    folder = tmp_path / "home"
    (folder / ".ssh").mkdir(parents=True)
    program = tmp_path / "getent"
    program.write_text(f"#!/bin/sh\necho it:x:1:1::{folder}:/bin/sh\n")
    program.chmod(0o755)
    return folder


def account(home: Path, *keys: str, of: str = "", **fields: object) -> Instance:
    words = "".join(f", {name}: {value}" for name, value in fields.items())
    declared = f"{{type: user, name: {of or getpass.getuser()}, ssh_authorized_keys: {json.dumps(keys)}{words}}}"
    (home.parent / "m.yaml").write_text(f"version: '1.0'\nname: t\nresources: {{it: {declared}}}\n")
    manifest = load(home.parent / "m.yaml")
    return Instance(manifest.resources["it"], manifest.machines["localhost"], home.parent)


def does(home: Path, script: str) -> str:
    text = script.replace("$(id -u)", "0")
    path = f"{home.parent}:/usr/bin:/bin"
    return subprocess.run(["/bin/sh", "-euc", text], check=True, env={"PATH": path}, text=True, capture_output=True).stdout


def applied(home: Path, *keys: str) -> str:
    """What the file holds once these keys are declared."""
    one = account(home, *keys)
    absent = Observation(True, {"state": "present", "ssh_authorized_keys": "others"})
    does(home, KIND.converge(one, absent)[0]["script"])
    return (home / ".ssh/authorized_keys").read_text()


def told(home: Path) -> list[str]:
    """Our keys as the probe tells them."""
    lines = does(home, KIND.probes(account(home))[0]["script"]).splitlines()
    return [line.removeprefix("key ") for line in lines if line.startswith("key ")]


def test_keys_are_written_replaced_and_taken_out_and_those_of_others_stay(home: Path) -> None:
    (home / ".ssh/authorized_keys").write_text(f"{FOREIGN}\n")
    hostile = f'command="echo \\"a b\\" $(x) %s" {OLD}'
    before = applied(home, hostile, NEW)
    assert before.splitlines()[0] == FOREIGN and told(home) == [hostile, NEW]
    assert applied(home, hostile, NEW) == before
    assert [line for line in applied(home, NEW).splitlines() if line[0] != "#"] == [FOREIGN, NEW]
    assert applied(home) == f"{FOREIGN}\n"


@pytest.mark.parametrize("keys", [(), (NEW,)])
def test_a_mark_whose_key_is_gone_claims_no_key_of_others(home: Path, keys: tuple[str, ...]) -> None:
    file = home / ".ssh/authorized_keys"
    file.write_text(f"{applied(home, OLD).splitlines()[0]}\n{FOREIGN}\n{MARK}\n{FOREIGN}\n")
    assert told(home) == []
    assert [line for line in applied(home, *keys).splitlines() if line[0] != "#"] == [FOREIGN, FOREIGN, *keys]


def test_what_goes_through_all_files_of_a_home_has_an_hour(home: Path) -> None:
    one = account(home, uid=4000)
    assert [KIND.converge(one, Observation(True, {"state": "present", "uid": "3000"}))[0]["timeout_s"]] == [3600.0]


STANDS_IN = """#!/bin/sh
# Stands in for setpriv: what it runs has the account's rights, and the account has swapped its folder just before.
[ "$1 $2 $3 $5" = "--reuid $ACCOUNT --regid --init-groups" ] || exit 9
shift 5
[ "$1" = true ] || { echo "$1" >>ran; [ ! -d swap ] || { mv home/.ssh home/.ssh.kept; ln -s ../swap home/.ssh; }; }
exec "$@"
"""


@pytest.mark.parametrize("swapped", [False, True])
def test_keys_are_written_with_the_rights_of_the_account_and_through_no_link(home: Path, swapped: bool) -> None:
    """The known defect: root wrote into a folder that is the account's to swap for a link."""
    for name, text in {"setpriv": STANDS_IN, "chown": "#!/bin/sh\necho \"$*\" >> chowned\n"}.items():
        (home.parent / name).write_text(text.replace("$ACCOUNT", "nobody"))
        (home.parent / name).chmod(0o755)
    if swapped:
        (home.parent / "swap").mkdir()
    script = KIND.converge(account(home, NEW, of="nobody"), Observation(True, {"state": "present", "ssh_authorized_keys": "others"}))[0]
    text = f"cd {home.parent}\n" + script["script"].replace("$(id -u)", "0").replace("$(id -un)", "root")
    path = f"{home.parent}:/usr/bin:/bin"
    done = subprocess.run(["/bin/sh", "-euc", text], env={"PATH": path}, text=True, capture_output=True, check=False)
    assert (home.parent / "ran").read_text() == "/bin/sh\n", done
    assert (home.parent / "chowned").read_text() == f"-h nobody:{_group()} -- {home}/.ssh\n", "the folder alone, no link followed"
    if swapped:
        assert done.returncode != 0 and ".ssh is a link: keys are not written through it" in done.stderr, done
        assert not list((home.parent / "swap").iterdir()) and not list((home / ".ssh.kept").iterdir())
    else:
        assert NEW in (home / ".ssh/authorized_keys").read_text() and (home / ".ssh").stat().st_mode & 0o777 == 0o700
        assert [path.name for path in (home / ".ssh").iterdir()] == ["authorized_keys"]
        assert (home / ".ssh/authorized_keys").stat().st_mode & 0o777 == 0o600


def _group() -> int:
    return pwd.getpwnam("nobody").pw_gid
