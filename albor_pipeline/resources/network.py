"""Network: a firewall rule for one port, in ufw where that is installed and else in nftables. Makes operations; touches no firewall itself.

No firewall is switched on by it. While ufw is inactive a rule that allows is stored for the day it is not, and one that denies is an
error, since nothing would be denied. In nftables a rule that allows lets pass what no other table drops.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from albor_pipeline.model.observed import Observation
from albor_pipeline.resources import firewall, marks, needs
from albor_pipeline.resources.base import Convergent, Instance, Item, look, sh
from albor_pipeline.resources.fields import CONTENT, DOC, Fields, Text, wrong
from albor_pipeline.resources.firewall import Firewall, Rule
from albor_pipeline.resources.formats import NetworkAddress, Port, matching
from albor_pipeline.resources.shell import Script, fixed

NONE = "none"
EVERYBODY = ("0.0.0.0/0", "::/0")
UFW, NFT = Script("if command -v ufw >/dev/null; then"), Script("elif command -v nft >/dev/null; then")
NEITHER, END = Script("else"), Script("fi")
Comment = Annotated[
    Text, matching(r"[^'\"\x00-\x1f\x7f]{1,80}", "a comment of at most 80 characters on one line without quotes, as firewalls take it")
]


def _everybody(value: Any) -> Any:
    """0.0.0.0/0 as it is meant: a rule about IPv4 alone would let IPv6 do what it forbids. Other networks of all are mistakes."""
    if isinstance(value, str) and value.endswith("/0") and value not in EVERYBODY:
        raise wrong("an address or a part of all; for everybody leave it out, or write `any`")
    return firewall.ANY if value in EVERYBODY else value


def _one_port(value: Any) -> Any:
    """Port 0 is how some mean all ports: that is the default of a firewall, which is no rule, and could lock everybody out."""
    if isinstance(value, str) and value == "0":
        raise wrong("a port from 1 to 65535 (what becomes of all others is set by a command, such as `ufw default deny incoming`)")
    return value


class Network(Fields):
    """A firewall rule for one port; without `from` it is about everybody."""

    port: Annotated[Port, BeforeValidator(_one_port), CONTENT, Field(description="the port that it is about")]
    state: Annotated[Literal["present", "absent"], CONTENT, Field(description="whether the rule is there")] = "present"
    protocol: Annotated[Literal["tcp", "udp"], CONTENT, Field(description="the protocol")] = "tcp"
    action: Annotated[
        Literal["allow", "deny", "reject"], CONTENT, Field(description="what becomes of a connection")
    ] = "allow"
    from_: Annotated[
        NetworkAddress | None,
        BeforeValidator(_everybody),
        CONTENT,
        Field(alias="from", description="the address or the network it is about; 0.0.0.0/0 is everybody, as `any`"),
    ] = None
    name: Annotated[Comment | None, CONTENT, Field(description="a comment at the rule")] = None
    description: Annotated[str, DOC, Field(description="a sentence for readers")] = ""


class NetworkKind(Convergent):
    """The kind `network`: the rule that carries the resource's name, or else the one about the same port and addresses."""

    name: ClassVar[str] = "network"
    model: ClassVar[type[Fields]] = Network
    exclusive: ClassVar[str] = "firewall"

    def probes(self, one: Instance) -> list[Item]:
        """All rules of the machine's firewall, asked once for all resources."""
        return [look(needs.SBIN, fixed(firewall.LOOK))]

    def observe(self, one: Instance, results: Sequence[Mapping[str, Any]]) -> Observation:
        """The rule as it is; after a change of its port the one before."""
        seen = results[0] if results else {}
        if seen.get("exit") != 0:
            return Observation(False, error=needs.unseen(seen))
        fields: Network = one.fields
        wall = firewall.told(str(seen.get("stdout", "")))
        declared = _rule(one)
        same = [rule for rule in wall.rules if rule.about == declared.about]
        marked = [rule for rule in wall.rules if (marks.parse(rule.comment) or ("", ""))[0] == one.resource.id]
        if fields.state == "absent":
            there = bool(marked) or any(rule.action == fields.action for rule in same)
            return Observation(there, {"state": "present" if there else "absent"})
        found = marked or same
        if not found:
            return Observation(False, {"state": "absent"})
        values = {
            "state": _state(wall, found),
            "port": _all(rule.port for rule in found),
            "protocol": _all(rule.protocol for rule in found),
            "action": _all(rule.action for rule in found),
            "from": _all(rule.source for rule in found),
        }
        if fields.name is not None:
            values["name"] = _all((marks.parse(rule.comment) or ("", rule.comment))[1] or NONE for rule in found)
        return Observation(True, values)

    def wanted(self, one: Instance) -> Mapping[str, str]:
        """Every field of the rule; its name when there is one."""
        fields: Network = one.fields
        if fields.state == "absent":
            return {"state": "absent"}
        rule = _rule(one)
        values = {"state": "present", "port": rule.port, "protocol": rule.protocol, "action": rule.action, "from": rule.source}
        return values if fields.name is None else {**values, "name": fields.name}

    def converge(self, one: Instance, observed: Observation) -> list[Item]:
        """The rule is added, or changed in its place; what it was before a change of its port goes."""
        if one.fields.state == "absent":
            return self.remove(one)
        wanted = self.wanted(one)
        if all(observed.values.get(name) == value for name, value in wanted.items()):
            return []
        moved = observed.exists and any(observed.values.get(name) != wanted[name] for name in ("port", "protocol", "from"))
        rule = _rule(one)
        ufw = [fixed(firewall.UFW_DROP, marks.mark(one, ""))] if moved else []
        ufw.append(fixed(firewall.UFW_ADD, rule.action, rule.protocol, rule.source, rule.port, rule.comment))
        verb = "add" if rule.source == firewall.ANY else "insert"
        return [sh(needs.root(one), UFW, *ufw, NFT, _nft(one, verb), NEITHER, fixed(_NO_FIREWALL, one.machine.name), END)]

    def again(self, one: Instance, observed: Observation) -> list[Item]:
        """What differs: a rule has no other effect."""
        return self.converge(one, observed)

    def remove(self, one: Instance) -> list[Item]:
        """The rule, by its mark and by what it says."""
        rule = _rule(one)
        drop = fixed(firewall.UFW_DROP, marks.mark(one, ""))
        delete = fixed(firewall.UFW_DELETE, rule.action, rule.protocol, rule.source, rule.port)
        return [sh(needs.root(one), UFW, drop, delete, NFT, _nft(one, ""), END)]


_NO_FIREWALL = """
echo "neither ufw nor nft is installed on $1: add a package resource for one of them (ufw, nftables)" >&2
exit 1
"""


def _rule(one: Instance) -> Rule:
    fields: Network = one.fields
    return Rule(str(fields.port), fields.protocol, fields.action, _source(fields.from_), marks.mark(one, fields.name or ""))


def _source(address: str | None) -> str:
    """An address in the one spelling that firewalls list."""
    if address in (None, firewall.ANY):
        return firewall.ANY
    network = ipaddress.ip_network(str(address), strict=False)
    return str(network.network_address if network.prefixlen == network.max_prefixlen else network)


def _state(wall: Firewall, found: Sequence[Rule]) -> str:
    if not wall.is_active and any(rule.action != "allow" for rule in found):
        return f"present, and {wall.name} is not active"
    return "present" if all(rule in wall.kept for rule in found) else "present until the next start"


def _all(texts: Any) -> str:
    return ", ".join(dict.fromkeys(texts))


def _nft(one: Instance, verb: str) -> Script:
    rule = _rule(one)
    return fixed(firewall.NFT, marks.mark(one, ""), firewall.match(rule), firewall.VERDICTS[rule.action], rule.comment, verb)
