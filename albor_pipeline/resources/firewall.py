"""The two firewalls that hold rules, ufw and nftables: what they list, and the shell text that changes them. Knows no resource.

Neither is ever switched on or off. Rules of ours carry a comment with the resource's name. Those of nftables are in a table of its own
that lets everything else pass, and a unit of systemd loads them again at the next start.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

VERDICTS = {"allow": "accept", "deny": "drop", "reject": "reject"}
ACTIONS = {verdict: action for action, verdict in VERDICTS.items()}
ANY = "any"
NFT_RULE = re.compile(
    r'(?:ip6? saddr (?P<source>\S+) )?(?P<protocol>tcp|udp) dport (?P<port>\d+) (?P<verdict>accept|drop|reject)[^"]*?'
    r'(?: comment "(?P<comment>[^"]*)")?'
)
LISTED = "rules"
KEPT = "kept"


@dataclass(frozen=True)
class Rule:
    """One rule for one port."""

    port: str
    protocol: str
    action: str
    source: str
    comment: str = ""

    @property
    def about(self) -> tuple[str, str, str]:
        """What no two rules of a firewall have in common."""
        return self.port, self.protocol, self.source


@dataclass(frozen=True)
class Firewall:
    """What a machine's firewall says of itself; `kept` are the rules that are there after the next start too."""

    name: str
    rules: tuple[Rule, ...] = ()
    kept: frozenset[Rule] = frozenset()
    is_active: bool = True


def told(text: str) -> Firewall:
    """The firewall of a machine out of what LOOK said."""
    first, _break, rest = text.partition("\n")
    name, _space, status = first.partition(" ")
    if name == "ufw":
        rules = tuple(_of_ufw(rest))
        return Firewall("ufw", rules, frozenset(rules), status == "Status: active")
    now, _header, kept = rest.partition(f"\n{KEPT}\n")
    return Firewall(name or "none", tuple(_of_nft(now)), frozenset(_of_nft(kept)))


def _of_ufw(text: str) -> Iterator[Rule]:
    """The rules for one port of one protocol that comes in; `ufw show added` lists each as the command that adds it."""
    for line in text.split("\n"):
        try:
            words = shlex.split(line)
        except ValueError:
            continue
        comment = words[-1] if len(words) > 3 and words[-2] == "comment" else ""
        rule = words[:-2] if comment else words
        if len(rule) == 3 and rule[0] == "ufw" and re.fullmatch(r"\d+/(tcp|udp)", rule[2]):
            port, _slash, protocol = rule[2].partition("/")
            yield Rule(port, protocol, rule[1], ANY, comment)
        elif len(rule) == 10 and (*rule[2:3], *rule[4:7], rule[8]) == ("from", "to", "any", "port", "proto"):
            yield Rule(rule[7], rule[9], rule[1], rule[3], comment)


def _of_nft(text: str) -> Iterator[Rule]:
    for line in text.split("\n"):
        found = NFT_RULE.fullmatch(line.strip())
        if found is not None:
            action = ACTIONS[found["verdict"]]
            yield Rule(found["port"], found["protocol"], action, found["source"] or ANY, found["comment"] or "")


def match(rule: Rule) -> str:
    """What a rule of nftables is about, in the words in which it lists it."""
    family = "ip6" if ":" in rule.source else "ip"
    source = "" if rule.source == ANY else f"{family} saddr {rule.source} "
    return f"{source}{rule.protocol} dport {rule.port}"


LOOK = """
if command -v ufw >/dev/null; then
  printf 'ufw %s\\n' "$(ufw status | head -n 1)"
  ufw show added
elif command -v nft >/dev/null; then
  echo nft
  tables=$(nft list tables)
  case $tables in *"table inet albor"*) nft list table inet albor ;; esac
  printf '\\nkept\\n'
  [ "$(systemctl is-enabled albor-firewall.service 2>/dev/null || true)" != enabled ] || cat /etc/albor-firewall.nft
fi
"""
# A rule that is there already is changed in its place; one about single addresses comes before those about everybody.
UFW_ADD = """
action=$1 protocol=$2 from=$3 port=$4 comment=$5
[ "$action" = allow ] || [ "$(ufw status | head -n 1)" = "Status: active" ] || {
  echo "ufw is not active, so nothing would be kept away: switch it on (ufw enable), or uninstall it to use nftables" >&2
  exit 1
}
set -- "$action" proto "$protocol" from "$from" to any port "$port" comment "$comment"
if [ "$from" = any ]; then
  ufw "$@"
else
  said=$(ufw prepend "$@")
  case $said in *Skipping*) ufw "$@" ;; esac
fi
"""
UFW_DROP = """
mark=$1
shown=$(ufw show added)
set -f
printf '%s\\n' "$shown" | while IFS= read -r line; do
  case $line in *" comment '$mark'"|*" comment '$mark: "*) ;; *) continue ;; esac
  rule=${line%" comment '"*}
  ufw delete ${rule#ufw }
done
"""
UFW_DELETE = """
ufw delete "$1" proto "$2" from "$3" to any port "$4"
"""
NFT = """
mark=$1 match=$2 verdict=$3 comment=$4 verb=$5
[ -d /run/systemd/system ] || { echo "without systemd rules of nftables would be gone after the next start: use ufw" >&2; exit 1; }
batch=$(mktemp) rules=/etc/albor-firewall.nft unit=/etc/systemd/system/albor-firewall.service
trap 'rm -f "$batch" "$rules.new" "$unit.new"' EXIT
{
  echo 'add table inet albor'
  echo 'add chain inet albor input { type filter hook input priority filter; policy accept; }'
  { nft -a list chain inet albor input 2>/dev/null || true; } | while read -r rule; do
    case $rule in
      "$match "*|*" comment \\"$mark\\" # handle "*|*" comment \\"$mark: "*)
        printf 'delete rule inet albor input handle %s\\n' "${rule##* handle }" ;;
    esac
  done
  [ -z "$verb" ] || printf '%s rule inet albor input %s %s comment "%s"\\n' "$verb" "$match" "$verdict" "$comment"
} >"$batch"
nft -f "$batch"
case $(nft list chain inet albor input) in
  *" dport "*)
    { printf 'table inet albor\\ndelete table inet albor\\n'; nft -s list table inet albor; } >"$rules.new"
    printf '%s\\n' '[Unit]' 'Description=Firewall rules of albor-pipeline' 'Wants=network-pre.target' 'Before=network-pre.target' \\
      'After=nftables.service' '[Service]' 'Type=oneshot' 'RemainAfterExit=yes' "ExecStart=$(command -v nft) -f $rules" \\
      '[Install]' 'WantedBy=multi-user.target' >"$unit.new"
    sync "$rules.new" "$unit.new"
    mv -f "$rules.new" "$rules"
    mv -f "$unit.new" "$unit"
    systemctl daemon-reload
    systemctl --quiet enable albor-firewall.service ;;
  *)
    nft delete table inet albor
    [ ! -e "$unit" ] || systemctl --quiet disable albor-firewall.service
    rm -f "$rules" "$unit"
    systemctl daemon-reload ;;
esac
"""
