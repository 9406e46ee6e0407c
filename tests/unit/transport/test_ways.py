"""Ways to a machine: what of the manifest and of the SSH configuration counts, and which host keys are accepted."""

from __future__ import annotations

import base64
import getpass
import hashlib
import hmac
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from albor_pipeline.model.manifest import Machine
from albor_pipeline.transport import openssh
from albor_pipeline.transport.faults import HostKey, Unusable
from albor_pipeline.transport.knownhosts import check
from albor_pipeline.transport.sshconfig import Hop, route

BOX = Machine("box", "box", "box")
KEY = HostKey("ssh-ed25519", base64.b64encode(b"one").decode(), "SHA256:x")
OTHER = HostKey("ssh-ed25519", base64.b64encode(b"two").decode(), "SHA256:y")
RSA = HostKey("ssh-rsa", base64.b64encode(b"three").decode(), "SHA256:z")


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of the user's configuration; nothing else is read."""
    path = tmp_path / "config"
    path.write_text("")
    monkeypatch.setenv("ALBOR_SSH_CONFIG", str(path))
    return path


def only(machine: Machine, root: Path) -> Hop:
    (hop,) = route(machine, str(root))
    return hop


def test_the_configuration_says_where_a_name_is(config: Path, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("")
    config.write_text(f"Host b*\n HostName 10.0.0.9\n Port 2222\n User ann\n IdentityFile {tmp_path}/key\n IdentityFile {tmp_path}/none\n")
    hop = only(BOX, tmp_path)
    assert (hop.host, hop.port, hop.user, hop.key_name) == ("10.0.0.9", 2222, "ann", "[10.0.0.9]:2222")
    assert hop.keys == (str(tmp_path / "key"),)


def test_the_manifest_comes_before_the_configuration(config: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("")
    config.write_text("Host box\n Port 2222\n User ann\n IdentityFile ~/.ssh/other\n UserKnownHostsFile /nowhere\n")
    hop = only(replace(BOX, port=22, user="eve", ssh_key="mine", known_hosts="hosts"), tmp_path)
    assert (hop.port, hop.user, hop.key_name, hop.keys, hop.only_these_keys) == (22, "eve", "box", (str(tmp_path / "mine"),), True)
    assert hop.known_hosts[0] == str(tmp_path / "hosts")


def test_the_user_is_who_runs_this_when_nobody_says_another(config: Path, tmp_path: Path) -> None:
    assert only(BOX, tmp_path).user == getpass.getuser()


def test_included_files_count_where_they_are_included(config: Path, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "a").write_text("Host box\n User first\n")
    config.write_text("Include more/*\nHost box\n User second\n Port 9\n")
    assert (only(BOX, tmp_path).user, only(BOX, tmp_path).port) == ("first", 9)
    config.write_text(f"Include {config}\nHost box\n User second\n")
    assert only(BOX, tmp_path).user == "second"


def test_jump_hosts_come_in_their_order_and_have_jumps_of_their_own(config: Path, tmp_path: Path) -> None:
    config.write_text("Host box\n ProxyJump one,eve@two:2200\nHost one\n ProxyJump zero\n User ann\n")
    assert [(hop.host, hop.user) for hop in route(BOX, str(tmp_path))][:2] == [("zero", getpass.getuser()), ("one", "ann")]
    assert [hop.where for hop in route(BOX, str(tmp_path))] == ["zero:22", "one:22", "two:2200", "box:22"]
    assert [hop.host for hop in route(replace(BOX, jump="gate"), str(tmp_path))] == ["gate", "box"]
    assert [hop.host for hop in route(replace(BOX, jump="none"), str(tmp_path))] == ["box"]


def test_a_way_in_a_circle_is_named(config: Path, tmp_path: Path) -> None:
    config.write_text("Host box\n ProxyJump one\nHost one\n ProxyJump box\n")
    with pytest.raises(Unusable, match="in a circle: box > one > box"):
        route(BOX, str(tmp_path))


def test_an_alias_for_the_key_a_time_limit_and_a_program_in_between_count(config: Path, tmp_path: Path) -> None:
    config.write_text("Host box\n HostKeyAlias known\n Port 2222\n ConnectTimeout 3\n ConnectionAttempts 7\n ProxyCommand nc %h %p\n")
    hop = only(BOX, tmp_path)
    assert (hop.key_name, hop.connect_s, hop.connects, hop.proxy_command) == ("known", 3.0, 7, "nc box 2222")
    assert only(replace(BOX, connects=2), tmp_path).connects == 2


def test_a_condition_that_is_a_program_counts_and_is_loaded_for_only_where_there_is_one(config: Path) -> None:
    plain, asking = "Host box\\n Port 9\\n", "Match host box exec true\\n Port 8\\n"
    ask = "import sys; from albor_pipeline.transport.sshconfig import route; from albor_pipeline.model.manifest import Machine\n"
    for texts, wanted in (([plain], "9 False"), ([asking], "8 True"), ([plain, asking, plain], "9 False 8 True 9 True")):
        script = ask
        for text in texts:
            script += f"open({str(config)!r}, 'w').write('{text}')\n"
            script += "print(route(Machine('box', 'box', 'box'), '.')[0].port, 'invoke' in sys.modules)\n"
        said = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        assert said.stdout.split() == wanted.split()


def hosts(folder: Path, *lines: str) -> list[str]:
    (folder / "hosts").write_text("".join(f"{line}\n" for line in lines))
    return [str(folder / "hosts")]


def hashed(name: str) -> str:
    salt = b"s" * 20
    digest = hmac.new(salt, name.encode(), hashlib.sha1).digest()
    return f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(digest).decode()}"


@pytest.mark.parametrize("names", ["box", "other,box", "b?x", "*,!c*", hashed("box"), "BOX"])
def test_a_key_that_was_accepted_for_the_host_is_taken(tmp_path: Path, names: str) -> None:
    files = hosts(tmp_path, "# a comment", "torn line", f"{names} {OTHER.kind} {OTHER.base64}", f"{names} {KEY.kind} {KEY.base64} said")
    check("box", files, KEY)


SILENT = ("other {}", "*,!box {}", "[box]:2222 {}", "# box {}", "@cert-authority * {}", hashed("b0x") + " {}", "|1|torn {}")


@pytest.mark.parametrize("line", SILENT)
def test_a_line_that_says_nothing_of_the_host_accepts_nothing(tmp_path: Path, line: str) -> None:
    files = hosts(tmp_path, line.format(f"{KEY.kind} {KEY.base64}"))
    with pytest.raises(Unusable, match="is not known: ssh-ed25519 SHA256:x"):
        check("box", files, KEY)


def test_another_key_than_the_accepted_one_is_refused_also_when_it_is_of_another_kind(tmp_path: Path) -> None:
    for recorded in (OTHER, RSA):
        with pytest.raises(Unusable, match=r"changed: .* is recorded, ssh-ed25519 SHA256:x is shown"):
            check("box", hosts(tmp_path, f"box {recorded.kind} {recorded.base64}"), KEY)


def test_a_revoked_key_is_refused_though_it_is_accepted_elsewhere(tmp_path: Path) -> None:
    files = hosts(tmp_path, f"box {KEY.kind} {KEY.base64}", f"@revoked * {KEY.kind} {KEY.base64}")
    with pytest.raises(Unusable, match="revoked"):
        check("box", files, KEY)


def test_a_port_of_its_own_has_a_key_of_its_own(tmp_path: Path) -> None:
    check("[box]:2222", hosts(tmp_path, f"[box]:2222 {KEY.kind} {KEY.base64}"), KEY)


def understood(words: list[str]) -> dict[str, str]:
    """What the system's `ssh` makes of a command line."""
    ssh = shutil.which("ssh")
    if ssh is None:
        pytest.skip("ssh is not installed: apt-get install openssh-client")
    said = subprocess.run([ssh, "-G", *words[1:]], check=True, capture_output=True, text=True).stdout
    return dict(line.partition(" ")[::2] for line in said.splitlines())


def test_the_second_connection_goes_where_the_first_goes_and_believes_the_same_files(config: Path, tmp_path: Path) -> None:
    """No configuration is read again, not even the user's, and no weaker check than the first one's is made."""
    key, hosts = tmp_path / "a key 100%", tmp_path / "my hosts 5%"
    key.write_text("")
    lines = ["HostName 10.0.0.9", "Port 2222", "User ann", f'IdentityFile "{key}"', "IdentitiesOnly yes", "ConnectTimeout 3"]
    lines += ["ConnectionAttempts 3"]
    config.write_text("\n ".join(["Host box", *lines]) + "\n")
    found = understood(openssh.words("ssh", route(replace(BOX, known_hosts=str(hosts)), str(tmp_path))))
    wanted = {
        "hostname": "10.0.0.9", "port": "2222", "user": "ann", "hostkeyalias": "[10.0.0.9]:2222", "identitiesonly": "yes",
        "userknownhostsfile": f"{hosts} /etc/ssh/ssh_known_hosts", "globalknownhostsfile": "/dev/null", "stricthostkeychecking": "true",
        "batchmode": "yes", "connecttimeout": "3", "controlmaster": "false", "updatehostkeys": "false", "verifyhostkeydns": "false",
        "forwardagent": "no", "clearallforwardings": "yes", "serveraliveinterval": "15", "serveralivecountmax": "2", "requesttty": "false",
        "connectionattempts": "3",
    }  # fmt: skip
    assert {name: found.get(name) for name in wanted} == wanted
    assert found["identityfile"].replace("%%", "%") == str(key)
    assert "cert" not in found["hostkeyalgorithms"] and "proxycommand" not in found


def test_the_second_connection_takes_the_same_hosts_on_the_way_one_inside_the_other(config: Path, tmp_path: Path) -> None:
    config.write_text("Host box\n ProxyJump one,eve@two:2200\nHost one\n HostName 10.0.0.1\n ProxyCommand nc '%h' 50%%\n")
    hops = route(BOX, str(tmp_path))
    outer = understood(openssh.words("ssh", hops))
    assert (outer["hostname"], outer["port"]) == ("box", "22")
    middle = shlex.split(outer["proxycommand"].replace("%%", "%"))
    assert middle[middle.index("-W") + 1] == "[box]:22" and middle[-1] == "two"
    inside = understood(middle)
    assert (inside["user"], inside["port"], inside["hostkeyalias"]) == ("eve", "2200", "[two]:2200")
    inner = shlex.split(inside["proxycommand"].replace("%%", "%"))
    assert inner[inner.index("-W") + 1] == "[two]:2200" and understood(inner)["hostname"] == "10.0.0.1"
    assert understood(inner)["proxycommand"].replace("%%", "%") == hops[0].proxy_command
