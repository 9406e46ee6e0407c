"""Ways to a machine: what of the manifest and of the SSH configuration counts, and which host keys are accepted."""

from __future__ import annotations

import base64
import getpass
import hashlib
import hmac
from dataclasses import replace
from pathlib import Path

import pytest

from albor_pipeline.model.manifest import Machine
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
    config.write_text("Host box\n HostKeyAlias known\n Port 2222\n ConnectTimeout 3\n ProxyCommand nc %h %p\n")
    hop = only(BOX, tmp_path)
    assert (hop.key_name, hop.connect_s, hop.proxy_command) == ("known", 3.0, "nc box 2222")


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
