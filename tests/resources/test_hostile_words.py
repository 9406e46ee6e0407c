"""Hostile words in accounts, jobs, mounts, units and rules: a value arrives at the program as that value, or the manifest is refused.

The scripts run in a real shell with programs of our own before those of the machine, which write down each of their words.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_cases import resource_of

from albor_pipeline.errors import ManifestError
from albor_pipeline.model.observed import Observation
from albor_pipeline.resources.marks import cksum
from albor_pipeline.resources.registry import convergent
from albor_pipeline.resources.user import MARK

MEGABYTE = 1 << 20
CORPUS = (
    "plain", "'", '"', "it's", "$(touch pwned)", "`touch pwned`", "${HOME}", "a;touch pwned", "a && touch pwned", "| cat", "> pwned",
    "a  b ", "\\", "\\n", "\\040", "%s %d", "a\tb", "*", "~", "-rf", "--help", "#", "!", "grün", "日本", "\U0001f600", "‮", "a\u2028b",
)  # fmt: skip
REFUSED = ("a\nb", "a\r\nb", "a\0b", "")
NOTE = """#!/bin/sh
{ printf '%s\\0' "${0##*/}" "$@"; printf '\\0'; } >> "$NOTES"
"""
FAKES = {
    "id": "#!/bin/sh\ncase $* in *n*) echo root ;; *) echo 0 ;; esac\n",
    "crontab": '#!/bin/sh\ncase $* in *-l) exec cat "$TAB" ;; *) exec cat > "$TAB" ;; esac\n',
    "getent": '#!/bin/sh\necho "zoe:x:1500:1500::$HOME:/bin/sh"\n',
    "readlink": '#!/bin/sh\ncase $* in *fstab) echo "$FSTAB" ;; *) exec /usr/bin/readlink "$@" ;; esac\n',
    "systemctl": "#!/bin/sh\nexit 0\n",
    "chown": "#!/bin/sh\nexit 0\n",
    "install": '#!/bin/sh\nfor last; do :; done\n/bin/mkdir -p "$last"\n',
    "setpriv": '#!/bin/sh\nshift 5\nexec "$@"\n',
    **dict.fromkeys(("mount", "umount", "useradd", "usermod"), NOTE),
    "mkdir": '#!/bin/sh\ncase $* in *.ssh) exec /bin/mkdir "$@" ;; esac\n',
}
Told = dict[str, Any]


class Machine:
    """A folder with programs that take the place of a machine's."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.notes, self.tab, self.fstab, self.home = (root / name for name in ("notes", "tab", "fstab", "home"))
        (root / "bin").mkdir()
        self.home.mkdir()
        for name in ("xz", "x-a=z"):
            (root / name).touch()
        for name, text in FAKES.items():
            (root / "bin" / name).write_text(text)
            (root / "bin" / name).chmod(0o755)

    def converge(self, kind: str, fields: Told, observed: Observation | None = None, table: str = "# others\n") -> None:
        """Do what the kind wants on a machine with this fstab and crontab; raises ManifestError when the manifest is refused."""
        self.notes.unlink(missing_ok=True)
        self.fstab.write_text(table)
        self.tab.write_text(table)
        one = resource_of({"fields": fields}, kind, self.root)
        told = {"NOTES": self.notes, "TAB": self.tab, "FSTAB": self.fstab, "HOME": self.home}
        env = {"PATH": f"{self.root}/bin:{os.environ['PATH']}", **{name: str(path) for name, path in told.items()}}
        for operation in convergent(kind).converge(one, observed or Observation(False)):
            script = self.root / "script"
            script.write_text(operation["script"])
            done = subprocess.run(["/bin/sh", script], cwd=self.root, env=env, capture_output=True, check=False)
            assert done.returncode == 0, done.stderr[-500:]
        assert not list(self.root.rglob("pwned"))

    def told(self, program: str) -> list[list[str]]:
        """The words of each call of a program."""
        calls = self.notes.read_bytes().decode().split("\0\0")[:-1] if self.notes.exists() else []
        return [call.split("\0")[1:] for call in calls if call.split("\0")[0] == program]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def _command(machine: Machine, word: str) -> None:
    machine.converge("cron", {"name": "job", "schedule": "@daily", "command": f"x{word}"})
    line = machine.tab.read_text().split("\n")[2]
    assert line.replace("\\%", "%") == f"@daily x{word}".rstrip(" ").replace("\\%", "%")


def _job_name(machine: Machine, word: str) -> None:
    machine.converge("cron", {"name": f"x{word}", "schedule": "@daily", "command": "true"})
    assert machine.tab.read_text() == f"# others\n# albor-pipeline it: {f'x{word}'.strip()} [{cksum(b'true')}]\n@daily true\n"


def _key(machine: Machine, word: str) -> None:
    (machine.home / ".ssh" / "authorized_keys").unlink(missing_ok=True)
    here = Observation(True, {"state": "present"})
    machine.converge("user", {"name": "zoe", "ssh_authorized_keys": [f"ssh-rsa {word}"]}, here)
    assert (machine.home / ".ssh" / "authorized_keys").read_text().split("\n", 1)[1] == f"ssh-rsa {word}".strip() + "\n"


def _shell(machine: Machine, word: str) -> None:
    machine.converge("user", {"name": "zoe", "shell": f"/bin/{word}"}, Observation(True, {"state": "present"}))
    assert machine.told("usermod") == [["--shell", f"/bin/{word}", "zoe"]]


def _path(machine: Machine, word: str) -> None:
    machine.converge("mount", {"source": "scratch", "path": f"/mnt/{word}", "fstype": "tmpfs"})
    (call,) = machine.told("mount")
    assert call == ["-t", "tmpfs", "-o", "defaults", "--", "scratch", f"/mnt/{word}".rstrip("/")]
    assert len(machine.fstab.read_text().split("\n")[-2].split(" ")) == 6


def _source(machine: Machine, word: str) -> None:
    machine.converge("mount", {"source": f"x{word}", "path": "/mnt/a", "options": f"x-a={word}"})
    (call,) = machine.told("mount")
    assert call == ["-t", "auto", "-o", f"x-a={word}", "--", f"x{word}".replace("\\040", " "), "/mnt/a"]


PLACES: dict[str, Callable[[Machine, str], None]] = {
    "cron.command": _command, "cron.name": _job_name, "user.ssh_authorized_keys": _key, "user.shell": _shell, "mount.path": _path,
    "mount.source and options": _source,
}  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("word", CORPUS, ids=ascii)
def test_a_hostile_word_arrives_as_it_is_or_is_refused(machine: Machine, place: str, word: str) -> None:
    try:
        PLACES[place](machine, word)
    except ManifestError:
        assert place in ("user.shell", "mount.source and options") and (word != word.strip() or len(word.split()) > 1 or "\t" in word)


@pytest.mark.parametrize("place", PLACES)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(word=st.text(st.characters(min_codepoint=32, exclude_categories=["Cs", "Cc", "Zl", "Zp", "Zs"]), min_size=1, max_size=40))
def test_any_word_arrives_as_it_is(machine: Machine, place: str, word: str) -> None:
    if "{{" in word or (place == "mount.path" and set(word) <= {".", "/"}):  # a template, and the folder itself
        return
    PLACES[place](machine, word.replace(":", "-") if place == "user.shell" else word.replace("//", "/-").replace("/", "-"))


@pytest.mark.parametrize("place", ["cron.command", "user.ssh_authorized_keys"])
def test_a_megabyte_arrives(machine: Machine, place: str) -> None:
    PLACES[place](machine, "x" * MEGABYTE)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("cron", {"name": "a", "schedule": "@daily", "command": "{}"}), ("cron", {"name": "{}", "schedule": "@daily", "command": "a"}),
        ("user", {"name": "{}"}), ("user", {"name": "a", "group": "{}"}), ("user", {"name": "a", "groups": ["{}"]}),
        ("user", {"name": "a", "shell": "/{}"}), ("user", {"name": "a", "home": "/{}"}),
        ("user", {"name": "a", "ssh_authorized_keys": ["{}"]}), ("service", {"name": "{}"}), ("network", {"port": 1, "name": "{}"}),
        ("mount", {"source": "{}", "path": "/a"}), ("mount", {"source": "a", "path": "/a", "options": "{}"}),
    ],
    ids=lambda value: json.dumps(value),
)  # fmt: skip
@pytest.mark.parametrize("word", REFUSED[:3], ids=ascii)
def test_what_no_program_could_take_is_refused_by_the_manifest(tmp_path: Path, kind: str, fields: Told, word: str) -> None:
    filled = json.loads(json.dumps(fields).replace("{}", json.dumps(word)[1:-1]))
    with pytest.raises(ManifestError):
        resource_of({"fields": filled}, kind, tmp_path)


@pytest.mark.parametrize("name", [*CORPUS[1:], *REFUSED, "x" * MEGABYTE], ids=lambda name: ascii(name[:20]))
def test_a_unit_whose_name_no_unit_can_have_is_refused(tmp_path: Path, name: str) -> None:
    if name not in ("\\", "\\n", "\\040", "-rf", "--help"):
        with pytest.raises(ManifestError):
            resource_of({"fields": {"name": name}}, "service", tmp_path)


def test_a_mark_that_lost_its_line_takes_no_line_of_others(machine: Machine) -> None:
    table = "{}\n# theirs\nother /mnt/ab tmpfs  a\\040b 0 0"
    machine.converge("mount", {"source": "x", "path": "/mnt/a", "fstype": "tmpfs"}, table=table.format("# albor-pipeline it"))
    rest = table.partition("\n")[2]
    assert machine.fstab.read_text() == f"{rest}\n# albor-pipeline it: /mnt/a\nx /mnt/a tmpfs defaults 0 0\n"
    machine.converge("cron", {"name": "job", "schedule": "@daily", "command": "x"}, table=table.format("# albor-pipeline it: job"))
    assert machine.tab.read_text() == f"{rest}\n# albor-pipeline it: job [{cksum(b'x')}]\n@daily x\n"
    keys = machine.home / ".ssh" / "authorized_keys"
    keys.parent.mkdir()
    keys.write_text(table.format(MARK))
    machine.converge("user", {"name": "zoe", "ssh_authorized_keys": ["ssh-rsa x"]}, Observation(True, {"state": "present"}))
    assert keys.read_text() == f"{rest}\n{MARK}: ssh-rsa\nssh-rsa x\n"


def test_a_job_that_another_resource_has_too_stays(machine: Machine) -> None:
    table = f"# albor-pipeline other: wipe\n@daily x\n@daily x\n# albor-pipeline it: job [{cksum(b'y')}]\n@hourly y\n"
    machine.converge("cron", {"name": "job", "schedule": "@daily", "command": "x"}, table=table)
    assert machine.tab.read_text() == f"# albor-pipeline other: wipe\n@daily x\n# albor-pipeline it: job [{cksum(b'x')}]\n@daily x\n"
