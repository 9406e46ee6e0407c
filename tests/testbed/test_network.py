"""Firewall rules of a real machine, in ufw and in nftables: no firewall is switched on, and the rules of others stay."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from testbed.conftest import Make
from testbed.kinds import One
from testbed.machine import Machine

pytestmark = pytest.mark.root
HOSTILE = "$(touch /pwned) `id` \\ % é { } ; # handle 3"
FOREIGN = "ufw allow 2222/tcp comment 'by hand'\nufw limit 23/tcp\n"


@pytest.fixture
def ufw(box: Machine) -> Iterator[Machine]:
    """With rules of others in a ufw that is off; afterwards there are none."""
    box.do("ufw allow 2222/tcp comment 'by hand'; ufw limit 23/tcp")
    yield box
    box.do("ufw --force reset; rm -f /etc/ufw/*.rules.20*")


@pytest.fixture
def nft(box: Machine) -> Iterator[Machine]:
    """Without ufw; afterwards with it, and without a table of ours or of others."""
    box.do("mv /usr/sbin/ufw /usr/sbin/ufw.kept; nft add table inet theirs")
    yield box
    box.do("mv /usr/sbin/ufw.kept /usr/sbin/ufw; nft delete table inet theirs; nft delete table inet albor 2>/dev/null; :")


def added(box: Machine) -> str:
    return box.do("ufw show added").partition("\n")[2]


@pytest.mark.effect("network.port", "network.protocol", "network.action", "network.from", "network.name", "network.state")
def test_each_field_of_a_rule_of_ufw_is_brought_about_and_the_firewall_stays_off(make: Make, ufw: Machine) -> None:
    """The known defect: ufw was switched on as a side effect."""
    one = One(make(), "network", port=8080).applies()
    assert added(ufw) == f"{FOREIGN}ufw allow 8080/tcp comment 'albor-pipeline it'\n"
    one.now(port=8081, protocol="udp", name=HOSTILE, **{"from": "10.1.2.3/8"}).applies().settled()
    assert f"ufw allow from 10.0.0.0/8 to any port 8081 proto udp comment 'albor-pipeline it: {HOSTILE}'\n" in added(ufw)
    assert "8080" not in added(ufw) and ufw.do("ufw status; ls /pwned 2>/dev/null || :") == "Status: inactive\n"
    ufw.do("ufw delete allow from 10.0.0.0/8 to any port 8081 proto udp")
    one.drifts("port: recorded 8081, found nothing", "state: recorded present, found absent")
    one.now(action="deny").fails("ufw is not active, so nothing would be kept away")
    one.now(state="absent", action="allow").applies().settled()
    assert added(ufw) == FOREIGN and ufw.do("ufw status") == "Status: inactive\n"


@pytest.mark.soak
def test_an_active_ufw_denies_what_comes_from_one_address_before_it_allows_all(make: Make, ufw: Machine) -> None:
    ufw.do("ufw allow 22/tcp; ufw --force enable")
    try:
        one = One(make(), "network", port=22, action="deny", **{"from": "10.77.0.9"}).applies().settled()
        assert added(ufw).startswith("ufw deny from 10.77.0.9 to any port 22 proto tcp comment")
        one.now(action="reject").applies()
        assert added(ufw).startswith("ufw reject from 10.77.0.9 to any port 22 proto tcp comment")
        ufw.do("ufw --force disable")
        said = one.project.run("drift")
        assert said.exit == 4 and "state: recorded present, found present, and ufw is not active" in said.out
    finally:
        ufw.do("ufw --force disable")


@pytest.mark.soak
def test_each_field_of_a_rule_of_nftables_is_brought_about_and_there_after_a_restart(make: Make, nft: Machine) -> None:
    one = One(make(), "network", port=8080, action="deny", name=HOSTILE).applies().settled()
    listed = nft.do("nft list table inet albor")
    assert f'tcp dport 8080 drop comment "albor-pipeline it: {HOSTILE}"' in listed and "policy accept" in listed
    one.now(port=8081, protocol="udp", action="reject", **{"from": "10.77.0.9"}).applies()
    assert "ip saddr 10.77.0.9 udp dport 8081 reject" in nft.do("nft list table inet albor; ls /pwned 2>/dev/null || :")
    nft.do("nft flush ruleset; nft add table inet theirs")
    one.drifts("state: recorded present, found absent")
    nft.do("systemctl disable albor-firewall.service")
    one.drifts("state: recorded present, found present until the next start")
    nft.do("nft flush ruleset; nft add table inet theirs; systemctl start albor-firewall.service")
    assert "ip saddr 10.77.0.9 udp dport 8081 reject" in nft.do("nft list table inet albor")
    one.now(state="absent").applies().settled()
    assert nft.do("nft list tables; ls /etc/albor* /etc/systemd/system/albor* 2>/dev/null || :") == "table inet theirs\n"


def test_a_machine_without_a_firewall_is_an_error_and_no_success(make: Make, nft: Machine) -> None:
    """The known defect: without ufw it warned and succeeded."""
    nft.do("mv /usr/sbin/nft /usr/sbin/nft.kept")
    try:
        One(make(), "network", port=22).fails("neither ufw nor nft is installed on lambda: add a package resource for one of them")
    finally:
        nft.do("mv /usr/sbin/nft.kept /usr/sbin/nft")
