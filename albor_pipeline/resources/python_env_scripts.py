"""The commands that make a Python environment, note what is in it, and try what must work in it. Knows no resource and runs nothing."""

from __future__ import annotations

import re
from collections.abc import Sequence

from albor_pipeline.resources.package_index import question
from albor_pipeline.resources.package_manager import Wish
from albor_pipeline.resources.shell import Script, fixed, join

NO_IMPORT, NO_GPU = 3, 4
VERSION = re.compile(r"3(?:\.[0-9]+){1,2}")
FIND = fixed(
    """\
export PATH="$PATH:$HOME/.local/bin"
find_python() {
  version=$1
  shift
  for python; do
    found=$("$python" -I -c 'import sys; print(".".join(map(str, sys.version_info[:3])))' 2>/dev/null) || continue
    case $found. in "$version".*) return 0 ;; esac
  done
  python=
}
give_up() {
  printf '%s\\n' "$1" >&2
  exit 1
}
usable() {
  "$python" -I -c 'import venv, ensurepip' 2>/dev/null ||
    give_up "$python cannot make environments: add a package resource for its venv module, such as python3-venv of apt"
}"""
)
# An end before `pyvenv.cfg` was written leaves folders and the link `lib64`, which hold nothing of anybody's.
OURS = fixed(
    """\
ours() {
  [ -e "$1" ] && [ ! -e "$1/pyvenv.cfg" ] && [ ! -e "$1/$2" ] || return 0
  [ -d "$1" ] && [ -z "$(find "$1/" ! -type d ! -name lib64 | head -n 1)" ] && return 0
  printf '%s\\n' "$1 is there and is no Python environment, so it is not removed: move it away, or give another \\`path\\`" >&2
  exit 1
}"""
)
NOTE = """\
import json, os, sys
from importlib.metadata import distributions
dists = {d.metadata["Name"]: d.version for d in distributions() if d.metadata["Name"]}
lock = {"wanted": json.load(sys.stdin), "dists": dists}
if os.path.lexists(sys.argv[1] + ".new"):
    os.unlink(sys.argv[1] + ".new")
with open(os.open(sys.argv[1] + ".new", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
    json.dump(lock, file, indent=1, sort_keys=True)
    file.flush()
    os.fsync(file.fileno())
os.rename(sys.argv[1] + ".new", sys.argv[1])
"""
CHECK = f"""\
import importlib, sys
def stop(code, text, error):
    said = (str(error).strip().splitlines() or [""])[-1]
    sys.stderr.write("%s: %s: %s\\n" % (text, type(error).__name__, said))
    sys.exit(code)
for name in sys.argv[2:]:
    try:
        importlib.import_module(name)
    except BaseException as error:
        stop({NO_IMPORT}, "`import %s` fails" % name, error)
if sys.argv[1] == "gpu":
    try:
        import torch
        seen = torch.cuda.is_available() and torch.cuda.device_count()
    except BaseException as error:
        stop({NO_GPU}, "torch cannot be asked for a GPU", error)
    if not seen:
        sys.stderr.write("torch %s sees no GPU\\n" % torch.__version__)
        sys.exit({NO_GPU})
"""


def version_of(python: str) -> str:
    """The version that `python` asks for, empty where it names an interpreter."""
    return python if VERSION.fullmatch(python) else ""


def find(python: str) -> tuple[Script, ...]:
    """Sets `python`, to nothing where uv will bring it; fails with the way out where there is none that can make environments."""
    version = version_of(python)
    if not version:
        text = f"there is no {python} here: name one that is there, or add a package resource for it"
        known = join([fixed("command -v"), python, fixed(">/dev/null || give_up"), text])
        return FIND, known, join([fixed("set --"), python]), fixed("python=$1"), fixed("usable")
    short = ".".join(version.split(".")[:2])
    names = dict.fromkeys((f"python{version}", f"python{short}", "python3", "python"))
    text = f"there is no Python {version} here: add a package resource for python{short} and its venv module, or for uv, which brings one"
    known = join([fixed('[ -n "$python" ] || command -v uv >/dev/null || give_up'), text])
    return FIND, join([fixed("find_python"), version, *names]), known, fixed('[ -z "$python" ] || usable')


def ours(path: str, lock: str) -> tuple[Script, Script]:
    """Fails with the way out where `path` holds something that is no environment, which making and removing would delete."""
    return OURS, join([fixed("ours"), path, lock])


def make(python: str, path: str) -> tuple[Script, ...]:
    """Make an empty environment with pip."""
    venv = join([fixed('[ -z "$python" ] || "$python" -I -m venv --'), path])
    if not version_of(python):
        return *find(python), venv
    return *find(python), venv, join([fixed('[ -n "$python" ] || uv venv --quiet --seed --python'), python, fixed("--"), path])


def indexes(index: str | None, extra: str | None) -> tuple[Script, ...]:
    """Tell pip of its indexes without naming them in a list of processes: an address may hold a password."""
    told: list[Script] = []
    if index is not None:
        told += [join([fixed("set --"), index]), fixed('export PIP_INDEX_URL="$1"')]
    if extra is not None:
        told += [join([fixed("set --"), extra]), fixed('export PIP_EXTRA_INDEX_URL="$1"')]
    return tuple(told)


def ask(python: str, interpreter: str, index: str | None, extra: str | None, wishes: Sequence[Wish]) -> tuple[Script, ...]:
    """After `find`: ask the indexes of wishes, by the pip of the environment that is there where its version is the wanted one."""
    version = version_of(python)
    own = (fixed("known=$python"), join([fixed("find_python"), version, interpreter]), fixed("python=${python:-$known}")) if version else ()
    return *own, *indexes(index, extra), fixed('[ -n "$python" ] || exit 0'), question(fixed('"$python" -I'), wishes)


def note(interpreter: str, path: str, asked: str) -> Script:
    """Write the lock: what was asked for, and what is installed now."""
    return join(["printf", "%s", asked, fixed("|"), interpreter, "-I", "-c", NOTE, path])


def check(interpreter: str, imports: Sequence[str], gpu: bool) -> Script:
    """Import modules, and ask torch for a GPU; ends with NO_IMPORT or NO_GPU and a sentence."""
    return join([interpreter, "-I", "-c", CHECK, "gpu" if gpu else "-", *imports])
