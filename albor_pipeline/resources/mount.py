"""Mount: a file system at a path, now and after the next start. Makes operations; mounts nothing itself.

It is mounted first and written to fstab then, so that a line there is one that worked. Of fstab only the line of the path counts, field
by field; a mark above it, with that path, tells a later run where the mount was when its path changes. A mark whose line was taken out
by hand claims nothing of what came to stand below it. All other lines stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from albor_pipeline.model.addresses import shown
from albor_pipeline.model.observed import Observation
from albor_pipeline.resources import marks, needs
from albor_pipeline.resources.base import Convergent, Instance, Item, look, sh
from albor_pipeline.resources.fields import CONTENT, DOC, Fields, wrong
from albor_pipeline.resources.formats import AbsolutePath, Word
from albor_pipeline.resources.fstab import OTHER_FILE, Table, escaped, normal, told_table, unescaped
from albor_pipeline.resources.shell import Script, fixed

# Their servers or programs take no other options while they are mounted, and say nothing of that.
FIXED_ONCE = ("nfs", "cifs", "smb", "fuse", "sshfs", "9p")
HELPERS = {
    "nfs": ("mount.nfs", "nfs-common or nfs-utils"),
    "nfs4": ("mount.nfs4", "nfs-common or nfs-utils"),
    "cifs": ("mount.cifs", "cifs-utils"),
    "sshfs": ("sshfs", "sshfs or fuse-sshfs"),
    "fuse.sshfs": ("sshfs", "sshfs or fuse-sshfs"),
}


def _not_root(value: Any) -> Any:
    if isinstance(value, str) and value.startswith("/") and normal(value) == "/":
        raise wrong("a folder below the root")
    return value


class Mount(Fields):
    """A file system at a path; `source` is a device, a share such as `host:/export`, or a folder."""

    source: Annotated[Word, CONTENT, Field(description="what is mounted: a device, a share or a folder")]
    path: Annotated[AbsolutePath, BeforeValidator(_not_root), CONTENT, Field(description="the folder it is mounted at")]
    state: Annotated[
        Literal["mounted", "unmounted", "absent"],
        CONTENT,
        Field(description="whether it is mounted; unmounted leaves fstab as it is, absent takes it out of there too"),
    ] = "mounted"
    fstype: Annotated[Word, CONTENT, Field(description="the type of the file system")] = "auto"
    options: Annotated[Word, CONTENT, Field(description="mount options, separated by commas")] = "defaults"
    description: Annotated[str, DOC, Field(description="a sentence for readers")] = ""


_TABLE = """
echo fstab
cat /etc/fstab 2>/dev/null || true
printf '\\nmountinfo\\n'
cat /proc/self/mountinfo
"""
# A path on a server that is gone answers nobody; it is looked at only for a moment.
_LOOK = r"""
printf 'path %s\n' "$(timeout 5 readlink -f -- "$2" || true)"
case $1 in
  /*)
    printf 'source %s\n' "$(readlink -f -- "$1" || true)"
    if [ -d "$1" ]; then [ ! "$1" -ef "$2" ] || echo same; fi
    [ ! -b "$1" ] || stat -L -c 'device %t:%T' -- "$1"
    if [ -f "$1" ]; then
      echo file
      for each in /sys/block/loop*/loop/backing_file; do
        [ -r "$each" ] && [ "$(cat "$each")" -ef "$1" ] || continue
        loop=${each#/sys/block/}
        printf 'loop:/dev/%s\n' "${loop%%/*}"
      done
    fi ;;
  *=*) printf 'source %s\n' "$(findfs "$1" 2>/dev/null || true)" ;;
esac
"""
_MOUNT = """
mkdir -p -- "$2"
mount -t "$3" -o "$4" -- "$1" "$2"
"""
# The table without our lines, and with the new one in their place; the rest of a line that is replaced (dump and check) is kept.
_FSTAB = r"""
id=$1 path=$2 source=$3 line=$4
table=$(readlink -f /etc/fstab)
[ -e "$table" ] || { : >"$table"; chmod 0644 "$table"; }
new=$(mktemp "$table.XXXXXX")
trap 'rm -f "$new"' EXIT
cp -a -- "$table" "$new"
marked= written= gone=
set -f
while IFS= read -r text || [ -n "$text" ]; do
  case $text in "$id") continue ;; "$id: "*) marked=${text#"$id: "}; continue ;; esac
  set -- $text
  case ${1:-} in ""|\#*) marked=; printf '%s\n' "$text"; continue ;; esac
  where=${2:-}
  ours=
  [ -z "$marked" ] || [ "${where%/}" != "$marked" ] || ours=1
  [ "${where%/}" != "$path" ] || { [ -z "$line" ] && [ "${1%/}" != "${source%/}" ]; } || ours=1
  marked=
  [ -n "$ours" ] || { printf '%s\n' "$text"; continue; }
  gone=1
  [ -z "$line" ] || [ -n "$written" ] || { printf '%s: %s\n%s %s %s\n' "$id" "$path" "$line" "${5:-0}" "${6:-0}"; written=1; }
done <"$table" >"$new"
[ -z "$line" ] || [ -n "$written" ] || printf '%s: %s\n%s 0 0\n' "$id" "$path" "$line" >>"$new"
"""
_IF_LISTED = Script('[ -n "$gone" ] || exit 0')
_WRITE = """
sync "$new"
mv -f -- "$new" "$table"
[ ! -d /run/systemd/system ] || systemctl daemon-reload
"""
_UNMOUNT = r"""
is_mounted= real=$(timeout 5 readlink -f -- "$1" || true)
while read -r _id _parent _device _root where _rest; do
  [ "$where" != "$2" ] && [ "$where" != "$real" ] || is_mounted=1
done </proc/self/mountinfo
[ -z "$is_mounted" ] || umount -- "$1"
"""
_FOREIGN = """
echo "$1 has $2 mounted, which is neither $3 nor in fstab: unmount it there, or name another path" >&2
exit 1
"""


class MountKind(Convergent):
    """The kind `mount`: compared with fstab and with what the kernel has mounted."""

    name: ClassVar[str] = "mount"
    model: ClassVar[type[Fields]] = Mount
    exclusive: ClassVar[str] = "fstab"

    def probes(self, one: Instance) -> list[Item]:
        """fstab and the kernel's list, asked once for all mounts of a machine, and what the source and the path lead to."""
        return [look(fixed(_TABLE)), look(needs.SBIN, fixed(_LOOK, _source(one.fields), normal(one.fields.path)))]

    def observe(self, one: Instance, results: Sequence[Mapping[str, Any]]) -> Observation:
        """Whether it is mounted and from where, and what fstab says of the path."""
        for seen in results if len(results) == 2 else [{}]:
            if seen.get("exit") != 0:
                return Observation(False, error=needs.unseen(seen))
        fields: Mount = one.fields
        table = told_table(str(results[0].get("stdout", "")), str(results[1].get("stdout", "")), fields.path)
        live = table.live_state(_source(fields))
        if fields.state == "unmounted":
            return Observation(True, {"state": "mounted" if live == "mounted" else "unmounted"})
        if fields.state == "absent":
            is_listed = any(normal_source(line[0]) == normal_source(escaped(fields.source)) for line in table.lines)
            state = "mounted" if live == "mounted" else "in fstab" if is_listed else "absent"
            return Observation(state != "absent", {"state": state})
        values = {"state": live, **_listed(fields, table)}
        elsewhere = table.elsewhere(_mark(one))
        values |= {"path": ", ".join(elsewhere)} if elsewhere else {"path": normal(fields.path)} if table.lines else {}
        return Observation(live != "unmounted" or "source" in values or bool(elsewhere), values)

    def wanted(self, one: Instance) -> Mapping[str, str]:
        """The fields as fstab has them."""
        fields: Mount = one.fields
        if fields.state != "mounted":
            return {"state": fields.state}
        values = {"source": fields.source, "path": normal(fields.path), "fstype": fields.fstype, "options": fields.options}
        return {"state": "mounted", **values}

    def converge(self, one: Instance, observed: Observation) -> list[Item]:
        """Mounted, remounted or mounted anew, then written to fstab; what stands at the path without being in fstab is an error."""
        fields: Mount = one.fields
        if fields.state == "unmounted":
            return [sh(needs.root(one), _unmounted(normal(fields.path)))]
        if fields.state == "absent":
            live = [_unmounted(normal(fields.path))] if observed.values.get("state") == "mounted" else []
            return [sh(needs.root(one), *live, _fstab(one, "", _source(fields)), _IF_LISTED, fixed(_WRITE))]
        off = {name for name, value in self.wanted(one).items() if observed.values.get(name) != value}
        if not off:
            return []
        old = [path for path in observed.values.get("path", "").split(", ") if path not in ("", normal(fields.path))]
        commands = [needs.root(one), *_live(one, observed, off), *(_unmounted(path) for path in old)]
        return [sh(*commands, _fstab(one, _line(fields), _source(fields)), fixed(_WRITE))]

    def again(self, one: Instance, observed: Observation) -> list[Item]:
        """What differs; else it is mounted once more over itself, with its options."""
        fields: Mount = one.fields
        operations = self.converge(one, observed)
        if operations or fields.state != "mounted":
            return operations
        return [sh(needs.root(one), fixed('mount -o "remount,$1" -- "$2" "$3"', fields.options, _source(fields), normal(fields.path)))]

    def remove(self, one: Instance) -> list[Item]:
        """What fstab has of it: unmounted, and its line taken out; the folder stays. A password is no part of what is recorded."""
        fields: Mount = one.fields
        source = _source(fields) if fields.state == "absent" else shown(_source(fields))
        return [sh(needs.root(one), _fstab(one, "", source), _IF_LISTED, _unmounted(normal(fields.path)), fixed(_WRITE))]


def normal_source(source: str) -> str:
    """A source without the slash at its end, which names the same thing."""
    return source.rstrip("/") or "/"


def _source(fields: Mount) -> str:
    """The source as programs take it; in the manifest it may be written as in fstab, where a space is \\040."""
    return unescaped(fields.source)


def _mark(one: Instance) -> str:
    return f"# {marks.mark(one, '')}"


def _line(fields: Mount) -> str:
    return " ".join(escaped(text) for text in (_source(fields), normal(fields.path), fields.fstype, fields.options))


def _listed(fields: Mount, table: Table) -> dict[str, str]:
    """What fstab says of the path, in the spelling of the manifest where it is the same; of several lines all sources are a difference."""
    if not table.lines:
        return {}
    found: dict[str, str] = {}
    for index, name in ((0, "source"), (2, "fstype"), (3, "options")):
        wanted, text = getattr(fields, name), table.lines[0][index]
        is_same = normal_source(unescaped(text)) == normal_source(unescaped(wanted))
        found[name] = wanted if is_same else text
    if len(table.lines) > 1:
        found["source"] = ", ".join(line[0] for line in table.lines)
    lost = table.lost_flags(fields.options)
    if found["options"] == fields.options and lost:
        found["options"] = f"{fields.options}, mounted without {', '.join(lost)}"
    return found


def _live(one: Instance, observed: Observation, off: set[str]) -> list[Script]:
    """What brings the mount itself about; nothing where only fstab lacks it."""
    fields: Mount = one.fields
    source, path = _source(fields), normal(fields.path)
    program = HELPERS.get(fields.fstype)
    mount = [needs.program(*program, one)] if program is not None else []
    mount.append(fixed(_MOUNT, source, path, fields.fstype, fields.options))
    found = observed.values.get("state", "unmounted")
    is_listed = "source" in observed.values
    if found == "unmounted":
        return mount
    if found != "mounted":
        is_ours = is_listed and ("source" in off or found.startswith(f"mounted from {OTHER_FILE}"))
        return [_unmounted(path), *mount] if is_ours else [fixed(_FOREIGN, path, found.removeprefix("mounted from "), source)]
    if (is_listed and "fstype" in off) or ("options" in off and fields.fstype.startswith(FIXED_ONCE)):
        return [_unmounted(path), *mount]
    return [fixed('mount -o "remount,$1" -- "$2" "$3"', fields.options, source, path)] if "options" in off else []


def _unmounted(path: str) -> Script:
    return fixed(_UNMOUNT, path, escaped(path))


def _fstab(one: Instance, line: str, source: str) -> Script:
    return fixed(_FSTAB, _mark(one), escaped(normal(one.fields.path)), escaped(source), line)
