"""User: an account of the machine, its groups, and the keys that may log in to it. Makes operations; touches no account itself.

An account that exists is changed and never made anew. What is not declared stays: other groups, keys that others put there, and, when
the account is taken away, its home folder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from albor_pipeline.agent.hashing import digest_bytes
from albor_pipeline.model.observed import Observation
from albor_pipeline.resources import needs
from albor_pipeline.resources.base import SH_TIMEOUT_S, Convergent, Instance, Item, look, sh
from albor_pipeline.resources.fields import CONTENT, DOC, Count, Fields, Flag, Text
from albor_pipeline.resources.formats import AbsolutePath, Account, matching
from albor_pipeline.resources.shell import Script, fixed, join

# A tag of the key follows it, so that a mark whose key was taken out by hand claims nothing of what came to stand below it.
MARK = "# albor-pipeline: the next line is a declared key"
ACCOUNT = frozenset(("state", "uid", "group", "groups", "shell", "home", "system_user"))
KEYS = frozenset(("ssh_authorized_keys", "ssh_folder", "ssh_file"))
SLOW = frozenset(("uid", "group", "home"))
SLOW_TIMEOUT_S = 3600.0
TAG_CHARS = 16
NONE = "none"
SHOWN_CHARS = 120
FIRST_PERSON = 1000
PublicKey = Annotated[Text, matching(r"\s*[^\s#][^\r\n\0]*\s*", "a public key on one line, such as `ssh-ed25519 AAAA... ann@laptop`")]

OneField = matching(r"[^:\x00-\x1f\x7f]*", "a path without `:` and on one line, as the list of accounts holds it")


class User(Fields):
    """An account of the machine; `group` is its own group, `groups` are those it belongs to besides."""

    name: Annotated[Account, CONTENT, Field(description="the name of the account")]
    state: Annotated[
        Literal["present", "absent"], CONTENT, Field(description="whether it is there; an absent one leaves its home folder behind")
    ] = "present"
    uid: Annotated[Count | None, CONTENT, Field(description="its number")] = None
    group: Annotated[Account | None, CONTENT, Field(description="its own group, which is made where it is not there")] = None
    groups: Annotated[
        tuple[Account, ...], CONTENT, Field(description="the other groups it belongs to; others that it is in already stay")
    ] = ()
    shell: Annotated[AbsolutePath | None, OneField, CONTENT, Field(description="its login shell")] = None
    home: Annotated[
        AbsolutePath | None, OneField, CONTENT, Field(description="its home folder; what is in the one before moves there")
    ] = None
    system_user: Annotated[
        Flag, CONTENT, Field(description="whether it is an account of the system, not of a person")
    ] = False
    ssh_authorized_keys: Annotated[
        tuple[PublicKey, ...],
        CONTENT,
        Field(description="the public keys that may log in; one that is declared no more goes, those of others stay"),
    ] = ()
    description: Annotated[str, DOC, Field(description="a sentence for readers")] = ""


_LOOK = """
code=0
entry=$(getent passwd "$1") || code=$?
[ "$code" != 2 ] || { echo absent; exit 0; }
[ "$code" = 0 ] || exit "$code"
home=$(printf '%s\\n' "$entry" | cut -d: -f6)
printf 'entry %s\\ngroup %s\\ngroups %s\\n' "$entry" "$(id -gn "$1" || true)" "$(id -Gn "$1" || true)"
awk '$1 == "UID_MIN" { print "first", $2 }' /etc/login.defs 2>/dev/null || true
[ -d "$home" ] || exit 0
echo there
ssh=$home/.ssh
if [ ! -x "$home" ] || { [ -d "$ssh" ] && [ ! -x "$ssh" ]; }; then echo hidden; exit 0; fi
[ ! -e "$ssh" ] || stat -c 'folder %a %U' "$ssh"
file=$ssh/authorized_keys
[ -e "$file" ] || exit 0
stat -c 'file %a %U' "$file"
[ -r "$file" ] || { echo hidden; exit 0; }
before=
while IFS= read -r line || [ -n "$line" ]; do
  case $before in "$2: "?*) case $line in *"${before#"$2: "}"*) printf 'key %s\\n' "$line" ;; esac ;; esac
  before=$line
done <"$file"
"""
_MOVE = """
old=$(getent passwd "$1" | cut -d: -f6)
if [ "$old" != "$2" ]; then
  mkdir -p "$(dirname "$2")"
  if [ -d "$old" ] && [ ! -e "$2" ]; then usermod --home "$2" --move-home "$1"; else usermod --home "$2" "$1"; fi
fi
[ -d "$2" ] || install -d -m 0700 -o "$1" -g "$(id -g "$1")" "$2"
"""
# What lies in a home folder is its account's to swap at any moment, so all but the folder `.ssh` itself is done with the account's own
# rights, and a link that appears there leads root nowhere: neither mkdir nor chown -h follows one.
_KEYS = """
name=$1 mark=$2 program=$3
shift 3
home=$(getent passwd "$name" | cut -d: -f6)
group=$(id -g "$name")
ssh=$home/.ssh
as_owner() {
  if [ "$(id -un)" = "$name" ]; then "$@"
  elif setpriv --reuid "$name" --regid "$group" --init-groups true 2>/dev/null; then
    setpriv --reuid "$name" --regid "$group" --init-groups "$@"
  elif command -v runuser >/dev/null; then runuser -u "$name" -- "$@"
  else echo "neither setpriv nor runuser of util-linux is here, which keys are written with: add a package resource for it" >&2; exit 1
  fi
}
[ -d "$home" ] || install -d -m 0700 -o "$name" -g "$group" "$home"
[ -e "$ssh" ] || [ -L "$ssh" ] || mkdir -m 0700 -- "$ssh"
[ -L "$ssh" ] || [ "$(stat -c %U -- "$ssh")" = "$name" ] || chown -h "$name:$group" -- "$ssh"
[ $# -eq 0 ] || printf '%s\\n' "$@" | as_owner /bin/sh -euc "$program" keys "$ssh" "$mark"
[ $# -gt 0 ] || as_owner /bin/sh -euc "$program" keys "$ssh" "$mark" </dev/null
"""
# Runs as the account; tags and keys come line by line, since a list of arguments has a limit.
_WRITE_KEYS = """
ssh=$1 file=$1/authorized_keys mark=$2
cd /
for each in "$ssh" "$file"; do
  [ ! -L "$each" ] || { echo "$each is a link: keys are not written through it" >&2; exit 1; }
done
[ ! -e "$file" ] || [ -r "$file" ] || { echo "$file cannot be read by the account it is for: give it to that account" >&2; exit 1; }
umask 077
chmod 0700 "$ssh"
ours= added= new=
trap 'exit 143' TERM
trap 'rm -f "$ours" "$added" "$new"' EXIT
ours=$(mktemp "$ssh/.albor.XXXXXX") added=$(mktemp "$ssh/.albor.XXXXXX") new=$(mktemp "$ssh/.albor.XXXXXX")
while IFS= read -r tag; do
  IFS= read -r key
  printf '%s\\n' "$key" >>"$ours"
  printf '%s: %s\\n%s\\n' "$mark" "$tag" "$key" >>"$added"
done
[ ! -e "$file" ] || awk -v mark="$mark" '
  FILENAME == ARGV[1] { ours[$0]; next }
  $0 == mark { next }
  index($0, mark ": ") == 1 { tag = substr($0, length(mark) + 3); next }
  tag != "" { is_tagged = index($0, tag) && $0 !~ /^#/; tag = ""; if (is_tagged) next }
  !($0 in ours)
' "$ours" "$file" >"$new"
cat "$added" >>"$new"
sync "$new"
mv -f "$new" "$file"
"""


class UserKind(Convergent):
    """The kind `user`: made, changed and taken away by the programs of shadow; its keys are lines under a mark, beside those of others."""

    placed: ClassVar[tuple[str, ...]] = ("name",)
    name: ClassVar[str] = "user"
    model: ClassVar[type[Fields]] = User
    exclusive: ClassVar[str] = "accounts"

    def probes(self, one: Instance) -> list[Item]:
        """The account, its groups, its home folder and our keys."""
        return [look(needs.SBIN, fixed(_LOOK, one.fields.name, MARK))]

    def observe(self, one: Instance, results: Sequence[Mapping[str, Any]]) -> Observation:
        """The declared values as they are; undeclared ones are not looked at."""
        seen = results[0] if results else {}
        if seen.get("exit") != 0:
            return Observation(False, error=needs.unseen(seen))
        told: dict[str, list[str]] = {}
        for line in str(seen.get("stdout", "")).split("\n"):
            word, _space, rest = line.partition(" ")
            told.setdefault(word, []).append(rest)
        entry = told.get("entry", [""])[0].split(":")
        if len(entry) != 7:
            return Observation(False, {"state": "absent"})
        if one.fields.state == "absent":
            return Observation(True, {"state": "present"})
        found = {"state": "present", **_account(one.fields, entry, told), **_keys(one.fields, told)}
        return Observation(True, {name: found[name] for name in self.wanted(one) if name in found})

    def wanted(self, one: Instance) -> Mapping[str, str]:
        """What is declared; of the keys also that there are none of ours."""
        fields: User = one.fields
        if fields.state == "absent":
            return {"state": "absent"}
        values = {"state": "present", "ssh_authorized_keys": _shown(_declared_keys(fields))}
        values |= {name: str(getattr(fields, name)) for name in ("uid", "group", "shell", "home") if getattr(fields, name) is not None}
        if fields.groups:
            values["groups"] = ", ".join(sorted(set(fields.groups)))
        if fields.system_user and fields.uid is None:
            values["system_user"] = "true"
        if fields.ssh_authorized_keys:
            values |= {"ssh_folder": f"0700 {fields.name}", "ssh_file": f"0600 {fields.name}"}
        return values

    def converge(self, one: Instance, observed: Observation) -> list[Item]:
        """What differs of the account, then of its keys; an account that somebody else made meanwhile is changed."""
        fields: User = one.fields
        if fields.state == "absent":
            return self.remove(one)
        off = {name for name, value in self.wanted(one).items() if observed.values.get(name) != value}
        commands = [needs.root(one)]
        if off & ACCOUNT:
            commands += [needs.program("useradd", "passwd, shadow-utils or shadow; busybox's adduser is not enough", one)]
            commands += _making(fields, off) if "state" in off else _changing(fields, off)
        if off & KEYS and (fields.ssh_authorized_keys or observed.values.get("ssh_authorized_keys", NONE) != NONE):
            commands.append(fixed(_KEYS, fields.name, MARK, _WRITE_KEYS, *_tagged(_declared_keys(fields))))
        # All files of the home folder are moved, or get the new number.
        timeout_s = SLOW_TIMEOUT_S if off & SLOW else SH_TIMEOUT_S
        return [sh(*commands, timeout_s=timeout_s)] if len(commands) > 1 else []

    def again(self, one: Instance, observed: Observation) -> list[Item]:
        """What differs: an account cannot be made once more."""
        return self.converge(one, observed)

    def remove(self, one: Instance) -> list[Item]:
        """The account; its home folder and its files stay."""
        gone = fixed('! getent passwd "$1" >/dev/null || userdel "$1"', one.fields.name)
        return [sh(needs.root(one), needs.program("userdel", "passwd, shadow-utils or shadow", one), gone)]


def _declared_keys(fields: User) -> list[str]:
    return list(dict.fromkeys(key.strip(" \t\r\n") for key in fields.ssh_authorized_keys))


def _tagged(keys: Sequence[str]) -> list[str]:
    """Each key behind its tag: the end of its blob, which all that is not the same key lacks."""
    words = []
    for key in keys:
        blobs = [word for word in key.split() if word.startswith("AAAA")] or key.split()
        words += [max(blobs, key=len)[-TAG_CHARS:], key]
    return words


def _shown(keys: Sequence[str]) -> str:
    """The keys for a reader, whatever their order; many of them by their number and digest."""
    text = "; ".join(sorted(keys))
    if len(text) <= SHOWN_CHARS:
        return text or NONE
    return f"{len(keys)} {'key' if len(keys) == 1 else 'keys'} {digest_bytes(text.encode())[:16]}"


def _account(fields: User, entry: Sequence[str], told: Mapping[str, Sequence[str]]) -> dict[str, str]:
    _name, _password, uid, gid, _comment, home, shell = entry
    groups = told.get("groups", [""])[0].split()
    first = told.get("first", [""])[0]
    is_system = uid.isdecimal() and int(uid) < (int(first) if first.isdecimal() else FIRST_PERSON)
    return {
        "uid": uid,
        "group": told.get("group", [""])[0] or gid,
        "groups": ", ".join(sorted(set(fields.groups) & set(groups))) or NONE,
        "shell": shell,
        "home": home if "there" in told else f"{home}, which is not there",
        "system_user": "true" if is_system else "false",
    }


def _keys(fields: User, told: Mapping[str, Sequence[str]]) -> dict[str, str]:
    if "hidden" in told:
        return {"ssh_authorized_keys": "not to be read without root's rights" if fields.ssh_authorized_keys else NONE}
    values = {"ssh_authorized_keys": _shown([key for key in told.get("key", []) if not key.startswith("#")])}
    for name in ("folder", "file"):
        mode, _space, owner = told.get(name, [""])[0].partition(" ")
        values[f"ssh_{name}"] = f"{mode.zfill(4)} {owner}" if mode else "absent"
    return values


def _groups(fields: User) -> list[Script]:
    """Declared groups that are not there are made."""
    how = "--system" if fields.system_user else "--force"
    wanted = dict.fromkeys((*([fields.group] if fields.group else []), *fields.groups))
    return [fixed('getent group "$1" >/dev/null || groupadd "$2" "$1"', group, how) for group in wanted]


def _making(fields: User, off: set[str]) -> list[Script]:
    words = ["useradd"]
    for option, value in (("--uid", fields.uid), ("--shell", fields.shell), ("--home-dir", fields.home)):
        words += [option, str(value)] if value is not None else []
    words += ["--groups", ",".join(fields.groups)] if fields.groups else []
    words += ["--system"] if fields.system_user else []
    at_home = not fields.system_user or fields.home is not None or bool(fields.ssh_authorized_keys)
    words.append("--create-home" if at_home else "--no-create-home")
    own = 'group=$1; [ -n "$group" ] || ! getent group "$2" >/dev/null || group=$2'
    make = join([*words, Script('${group:+--gid "$group"}'), fields.name])
    parent = [fixed('mkdir -p "$(dirname "$1")"', fields.home)] if fields.home is not None else []
    return [
        *_groups(fields),
        fixed('if getent passwd "$1" >/dev/null; then', fields.name),
        *_changing(fields, off),
        Script("else"),
        *parent,
        fixed(own, fields.group or "", fields.name),
        make,
        Script("fi"),
    ]


def _changing(fields: User, off: set[str]) -> list[Script]:
    commands = [*_groups(fields)] if off & {"group", "groups"} else []
    words = ["usermod"]
    for name, option in (("uid", "--uid"), ("group", "--gid"), ("shell", "--shell")):
        words += [option, str(getattr(fields, name))] if name in off else []
    words += ["--append", "--groups", ",".join(sorted(set(fields.groups)))] if "groups" in off else []
    if "system_user" in off:
        commands.append(fixed(_IS_PERSON, fields.name))
    if len(words) > 1:
        commands.append(join([*words, fields.name]))
    if "home" in off and fields.home is not None:
        commands.append(fixed(_MOVE, fields.name, fields.home))
    return commands or [Script(":")]


_IS_PERSON = """
uid=$(id -u "$1") first=$(awk '$1 == "UID_MIN" { print $2 }' /etc/login.defs 2>/dev/null || true)
[ "$uid" -lt "${first:-1000}" ] || {
  echo "$1 is there with the number $uid, as an account of a person; name a 'uid', take out 'system_user', or remove the account" >&2
  exit 1
}
"""
