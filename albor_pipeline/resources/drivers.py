"""Drivers: the shell programs that install and remove them, and which packages bring what. Knows no declaration; runs nothing.

Each program is a text without a value in it: values are its arguments.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from albor_pipeline.resources import package_apt

# known VERSION NAME...: the first NAME of which the package manager knows that version or one that begins with it, as NAME=VERSION.
_FIND = """\
known() {
  want=$1; shift
  export want
  for name do
    apt-cache madison "$name" 2>/dev/null | awk -F' *[|] *' -v name="$name" '
      { version = $2; sub(/^[0-9]+:/, "", version); want = ENVIRON["want"]; rest = substr(version, length(want) + 1, 1) }
      want == "" || (index(version, want) == 1 && (rest == "" || index(".-~+", rest))) { print name "=" $2; exit }'
  done | head -n 1
}
command -v apt-get >/dev/null 2>&1 || {
  echo "there is no apt-get here, and drivers are installed by apt only: install $2 by other means and declare the version it has" >&2
  exit 1
}
"""
KNOWN = f"""{_FIND}
version=$1 what=$2; shift 2
[ -n "$(known "$version" "$@")" ] || {{ echo "apt knows no package for $what (it would be one of: $*)"; exit 1; }}
"""
WEIGH = f"""{_FIND}{package_apt.WEIGH}
version=$1; shift
found=$(known "$version" "$@")
[ -n "$found" ] || exit 1
weigh --allow-downgrades "$found"
"""
# Packages of a driver need one another in one version, which apt takes only where all of them are pinned to it, after what is pinned here
# already. A driver of another branch makes room for the new one; nothing else is removed for its sake.
INSTALL = f"""{_FIND}{package_apt.READY}
version=$1 what=$2 pinned=$3; shift 3
if [ -n "$pinned" ] && nvidia-smi -L >/dev/null 2>&1 && ! dpkg-query -W -f '${{db:Status-Abbrev}} ${{source:Package}}\\n' 2>/dev/null |
  grep -q '^i.*nvidia-graphics-drivers'; then
  echo "the driver here is no package of apt (a .run file, or the host of a container): change it there, or declare the version it has" >&2
  exit 1
fi
found=$(known "$version" "$@")
if [ -z "$found" ]; then
  update || fail "$news"
  found=$(known "$version" "$@")
fi
[ -n "$found" ] || {{
  echo "apt knows no package for $what (it would be one of: $*): add the maker's package source first, by a file resource" >&2
  exit 1
}}
trap 'exit 143' TERM
pins=$(mktemp) && trap 'rm -f "$pins"' EXIT && chmod 644 "$pins"
theirs=
eval "$(apt-config shell theirs Dir::Etc::Preferences/f)"
if [ -f "$theirs" ]; then {{ cat "$theirs"; echo; }} >"$pins"; fi
[ -z "$pinned" ] || [ -z "$version" ] || printf 'Package: %s\\nPin: version %s*\\nPin-Priority: 1001\\n' "$pinned" "${{found#*=}}" >>"$pins"
rehearse -o Dir::Etc::Preferences="$pins" --allow-downgrades install "$found"
keep=--no-remove
for gone in $(removals); do
  case $pinned,$(dpkg-query -W -f '${{source:Package}} ${{Package}}' "$gone" 2>/dev/null || :) in
    ?*,nvidia-graphics-drivers*|?*,*" nvidia-driver"*|?*,*" nvidia-open"*|?*,*" cuda-drivers"*) keep=--remove ;;
    *) fail "this would remove $(echo $(removals)): a package resource with \\`state: absent\\` before it says that it is meant" ;;
  esac
done
get -o Dir::Etc::Preferences="$pins" --allow-downgrades "$keep" install "$found"
"""
# A driver that was just installed is not always the one that the kernel runs.
CHECK = """\
if [ "$1" = rocm ]; then
  [ -e /sys/module/amdgpu ] || modprobe amdgpu 2>/dev/null || {
    echo "amdgpu is installed, and the kernel does not take it: reboot this machine, then apply again; nothing here reboots it" >&2
    exit 1
  }
  exit 0
fi
said=$(nvidia-smi -L 2>&1) && exit 0
case $said in
  *"No devices"*) exit 0 ;;
  *mismatch*) ;;
  *) modprobe nvidia 2>/dev/null && said=$(nvidia-smi -L 2>&1) && exit 0 ;;
esac
echo "$said" >&2
echo "the driver is installed, and the kernel does not run it yet: reboot this machine, then apply again; nothing here reboots it" >&2
exit 1
"""
SET = """\
nvidia-smi "$@" && exit
[ "$(id -u)" = 0 ] || echo "settings of the cards need root: \\`sudo: true\\`" >&2
exit 1
"""
# NAME=VERSION is taken only in that version or one that begins with it: another one is somebody else's.
REMOVE = f"""\
command -v apt-get >/dev/null 2>&1 || {{ echo "there is no apt-get here: remove the driver by the means that installed it" >&2; exit 1; }}
{package_apt.READY}
{package_apt.REMOVE}
backend=$1; shift
export backend wanted="$*"
of_driver=$(dpkg-query -W -f '${{db:Status-Abbrev}}|${{Package}}|${{source:Package}}|${{Version}}\\n' | awk -F'|' '
  BEGIN {{ split(ENVIRON["wanted"], names, " "); for (n in names) {{ split(names[n], pair, "="); more[pair[1]] = pair[2] }} }}
  function fits(version, want, rest) {{
    sub(/^[0-9]+:/, "", version); rest = substr(version, length(want) + 1, 1)
    return want == "" || (index(version, want) == 1 && (rest == "" || index(".-~+", rest)))
  }}
  $1 ~ /^i/ && (($2 in more && fits($4, more[$2])) || (ENVIRON["backend"] == "nvidia" &&
    ($3 ~ /^nvidia-graphics-drivers/ || $2 ~ /^(nvidia-driver|nvidia-open|cuda-drivers)(-[0-9]+)?$/))) {{ print $2 }}')
remove $of_driver
if [ "$backend" = nvidia ] && command -v nvidia-smi >/dev/null 2>&1; then
  echo "$(command -v nvidia-smi) is still here and is no package of apt: remove the driver by the means that installed it" >&2
  exit 1
fi
"""
REFUSE = 'echo "$1" >&2; exit 1'


@dataclass(frozen=True)
class Want:
    """Something to install: the version or the beginning of it, how to speak of it, the packages that bring it, which to pin with it."""

    version: str
    what: str
    names: Sequence[str]
    pinned: str = ""


def driver(backend: str, version: str) -> Want:
    """The driver of a backend; the branch of NVIDIA's is part of the names of its packages."""
    what = f"the {'NVIDIA' if backend == 'nvidia' else 'amdgpu'} driver{f' {version}' if version else ''}"
    if backend == "rocm":
        return Want(version, what, ("amdgpu-dkms",))
    branch = version.split(".")[0]
    branched = (f"nvidia-driver-{branch}", f"cuda-drivers-{branch}") if branch else ()
    return Want(version, what, (*branched, "nvidia-driver", "cuda-drivers"), "*nvidia* cuda-drivers*")


def cuda(version: str) -> Want:
    """The toolkit of CUDA: NVIDIA's package of that release, else the distribution's own."""
    return Want(version, f"CUDA {version}", (_toolkit(version), "nvidia-cuda-toolkit"))


def rocm(version: str) -> Want:
    """ROCm, as AMD's package source of a release has it."""
    return Want(version, f"ROCm {version}", ("rocm", "rocm-hip-runtime", "rocm-core"))


def toolkits(backend: str, version: str) -> Sequence[str]:
    """The packages that go with the driver when it is removed; of CUDA only those of the declared release."""
    if backend == "rocm":
        return ("amdgpu-dkms", "rocm", "rocm-hip-runtime", "rocm-core")
    return (_toolkit(version), f"nvidia-cuda-toolkit={version}") if version else ()


def _toolkit(version: str) -> str:
    return f"cuda-toolkit-{'-'.join(version.split('.')[:2])}"
