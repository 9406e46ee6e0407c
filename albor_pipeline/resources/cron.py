"""Cron: a command that the machine runs by the clock: a line below a mark in the crontab of its owner. Makes operations; installs nothing.

A job is known by its name, in the crontab of another account by the resource's name too. Its mark ends in a check of the command, so
that a line with another schedule is ours still, and one with another command is not: it stays, and the state says so. Lines of others
stay as they are, except what forjar's version left of the same job.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from albor_pipeline.model.addresses import shown
from albor_pipeline.model.observed import Observation
from albor_pipeline.resources import marks, needs
from albor_pipeline.resources.base import Convergent, Instance, Item, look, sh
from albor_pipeline.resources.fields import CONTENT, DOC, Fields, Text, wrong
from albor_pipeline.resources.formats import Account, matching
from albor_pipeline.resources.marks import cksum
from albor_pipeline.resources.shell import Script, fixed

KEYWORDS = ("@reboot", "@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly")
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
PARTS: tuple[tuple[str, int, int, dict[str, int]], ...] = (
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day of the month", 1, 31, {}),
    ("month", 1, 12, {name: number for number, name in enumerate(MONTHS, start=1)}),
    ("day of the week", 0, 7, {name: number for number, name in enumerate(DAYS)}),
)

CHECK = re.compile(r" \[[0-9]*\]$")
STRAY = "its mark is above a line with another command, which stays"


def _number(word: str, names: dict[str, int]) -> int | None:
    if word.lower() in names:
        return names[word.lower()]
    return int(word) if word.isascii() and word.isdecimal() and len(word) < 4 else None


def _is_part(text: str, low: int, high: int, names: dict[str, int]) -> bool:
    """True for `*`, a value or a range, each with a step where one is given: `*/15`, `1-5`, `0-30/10`."""
    values, slash, step = text.partition("/")
    if slash and not 1 <= (_number(step, {}) or 0) <= high:
        return False
    if values == "*":
        return True
    first, dash, last = values.partition("-")
    if slash and not dash:
        return False
    begin, end = _number(first, names), _number(last if dash else first, names)
    return begin is not None and end is not None and low <= begin <= end <= high


def _schedule(value: Any) -> Any:
    if not isinstance(value, str) or value in KEYWORDS:
        return value
    fields = value.split()
    if len(fields) != len(PARTS):
        raise wrong(f"five fields (minute hour day month weekday) or one of {', '.join(KEYWORDS)}")
    for text, (name, low, high, names) in zip(fields, PARTS, strict=True):
        for part in text.split(","):
            if not _is_part(part, low, high, names):
                raise wrong(f"a schedule whose {name} is from {low} to {high}; `{part}` is not")
    return value


OneLine = matching(r"[^\r\n\0]*", "on one line, as a crontab has it")


def _stripped(value: Any) -> Any:
    """A block of YAML ends with a line break, which is no part of the command."""
    return type(value)(value.strip(" \t\r\n")) if isinstance(value, str) else value


class Cron(Fields):
    """A command that the machine runs by the clock; one that is not absent has a schedule and a command."""

    name: Annotated[Text, OneLine, BeforeValidator(_stripped), CONTENT, Field(description="the name of the job")]
    state: Annotated[Literal["present", "absent"], CONTENT, Field(description="whether it is there")] = "present"
    schedule: Annotated[
        str | None,
        BeforeValidator(_schedule),
        CONTENT,
        Field(description="minute, hour, day, month and weekday, or a word such as @daily"),
    ] = None
    command: Annotated[
        Text | None,
        OneLine,
        BeforeValidator(_stripped),
        CONTENT,
        Field(description="the shell command, on one line; `%` needs no backslash"),
    ] = None
    owner: Annotated[Account, CONTENT, Field(description="the account that runs it")] = "root"
    description: Annotated[str, DOC, Field(description="a sentence for readers")] = ""

    @model_validator(mode="after")
    def _says_what_and_when(self) -> Cron:
        missing = [name for name in ("schedule", "command") if getattr(self, name) is None]
        if missing and self.state != "absent":
            raise wrong(f"given a `{missing[0]}`, or `state: absent`")
        return self


# A machine without crontab has no jobs, nor has an account that is not there; a crontab that such a one left behind runs nothing.
_LOOK = r"""
command -v crontab >/dev/null || exit 0
owner=$1 marked=$2
for tab in /var/spool/cron/crontabs/* /var/spool/cron/* /etc/crontabs/*; do
  [ -f "$tab" ] && [ "${tab##*/}" != "$owner" ] && id -u -- "${tab##*/}" >/dev/null 2>&1 || continue
  ! sed 's/ \[[0-9]*\]$//' "$tab" | grep -qxF -e "$marked" || printf 'elsewhere %s\n' "${tab##*/}"
done
code=0
if [ "$(id -un)" = "$owner" ]; then said=$(crontab -l 2>&1) || code=$?; else said=$(crontab -u "$owner" -l 2>&1) || code=$?; fi
case $code,$said in
  0,*) printf 'crontab\n%s\n' "$said" ;;
  *"no crontab for"*|*"can't open"*|*unknown*) ;;
  *) printf '%s\n' "$said" >&2; exit "$code" ;;
esac
"""
# The line under a mark of this job goes when it has the command that the mark was written for, and one that is the same without a
# mark; what is kept goes through read and printf, which take any text as it is. forjar's marks hold nothing that a line could be known by:
# the one right below them is what it wrote, and with anything in between it is somebody's.
_WRITE = r"""
owner=$1 marked=$2 forjar=$3 line=$4 new_line=$5 whose=$6
tab() { if [ "$(id -un)" = "$owner" ]; then crontab "$@"; else crontab -u "$owner" "$@"; fi; }
check_of() {
  rest=${1#"${1%%[![:blank:]]*}"} parts=5
  case $rest in @*) parts=1 ;; esac
  while [ "$parts" -gt 0 ]; do
    rest=${rest#"${rest%%[[:blank:]]*}"}
    rest=${rest#"${rest%%[![:blank:]]*}"}
    parts=$((parts - 1))
  done
  sum=$(printf '%s' "$rest" | cksum)
  printf '%s\n' "${sum%% *}"
}
is_ours() {
  set -- "${1% \[*\]}"
  case $1 in
    "# forjar:$forjar"|"# forjar-cmd:$forjar") [ "$whose" = name ] ;;
    "# albor-pipeline "*": "*) if [ "$whose" = name ]; then [ "${1#*": "}" = "${marked#*": "}" ]; else [ "$1" = "$marked" ]; fi ;;
    *) return 1 ;;
  esac
}
old=$(mktemp) new=$(mktemp)
trap 'rm -f "$old" "$new"' EXIT
tab -l >"$old" 2>"$new" || case $(cat "$new") in
  *"no crontab for"*|*"can't open"*) : >"$old" ;;
  *) cat "$new" >&2; exit 1 ;;
esac
above=
while IFS= read -r text || [ -n "$text" ]; do
  if is_ours "$text"; then above=ours check=$text; continue; fi
  case $above,$text in
    ours,\#*|ours,|theirs,*) ;;
    *)
      if [ -n "$line" ] && [ "$text" = "$line" ]; then above=; continue; fi
      if [ "$above" = ours ]; then
        above=
        case $check in "# forjar"*|*" [$(check_of "$text")]") continue ;; esac
      fi ;;
  esac
  case $text in "# albor-pipeline "*) above=theirs ;; *) above= ;; esac
  printf '%s\n' "$text"
done <"$old" >"$new"
[ -z "$new_line" ] || printf '%s [%s]\n%s\n' "$marked" "$(check_of "$new_line")" "$new_line" >>"$new"
if [ -s "$new" ]; then tab - <"$new"; elif [ -s "$old" ]; then tab -r; fi
rm -f "$old" "$new"
"""


_WITHOUT = Script(f"{needs.SBIN}\ncommand -v crontab >/dev/null || exit 0")


class CronKind(Convergent):
    """The kind `cron`: the line of the job is compared and replaced, so that it is never there twice."""

    placed: ClassVar[tuple[str, ...]] = ("name",)
    name: ClassVar[str] = "cron"
    model: ClassVar[type[Fields]] = Cron
    exclusive: ClassVar[str] = "crontab"

    def probes(self, one: Instance) -> list[Item]:
        """The crontab of the owner, and whose others have this job."""
        return [look(needs.SBIN, fixed(_LOOK, one.fields.owner, _marked(one)))]

    def observe(self, one: Instance, results: Sequence[Mapping[str, Any]]) -> Observation:
        """Schedule, command, and the accounts that run it."""
        fields: Cron = one.fields
        seen = results[0] if results else {}
        if seen.get("exit") != 0:
            return Observation(False, error=needs.unseen(seen))
        told = str(seen.get("stdout", "")).split("\n")
        start = told.index("crontab") if "crontab" in told else len(told)
        elsewhere = [line.removeprefix("elsewhere ") for line in told[:start] if line]
        jobs, others, strays = _jobs(fields, told[start + 1 :])
        owners = [*([fields.owner] if jobs or others or strays else []), *sorted(set(elsewhere))]
        if not owners:
            return Observation(False, {"state": "absent"})
        count = len(jobs) + others
        state = STRAY if strays else "present" if count < 2 else f"present {count} times"
        found = {"state": state, "owner": ", ".join(owners)}
        if jobs:
            found["schedule"], found["command"] = jobs[0]
        return Observation(True, {name: found[name] for name in ("state", *self.wanted(one)) if name in found})

    def wanted(self, one: Instance) -> Mapping[str, str]:
        """Schedule, command and owner of one line; percent signs as a crontab has them."""
        fields: Cron = one.fields
        if fields.state == "absent" or fields.schedule is None or fields.command is None:
            return {"state": "absent"}
        line = {"schedule": " ".join(fields.schedule.split()), "command": _escaped(fields.command)}
        return {"state": "present", "owner": fields.owner, **line}

    def converge(self, one: Instance, observed: Observation) -> list[Item]:
        """The crontab without this job, then with it; out of the crontabs of accounts that had it before."""
        fields: Cron = one.fields
        present = fields.state == "present"
        if present and all(observed.values.get(name) == value for name, value in self.wanted(one).items()):
            return []
        elsewhere = [name for name in observed.values.get("owner", "").split(", ") if name not in ("", fields.owner)]
        moved = [fixed(_WRITE, name, _marked(one), fields.name, "", "", "resource") for name in elsewhere]
        if not present:
            return [sh(_WITHOUT, _written(one, ""), *moved)]
        return [sh(needs.SBIN, needs.program("crontab", "cron or cronie", one), _written(one, _line(fields)), *moved)]

    def again(self, one: Instance, observed: Observation) -> list[Item]:
        """What differs: the job runs by the clock."""
        return self.converge(one, observed)

    def remove(self, one: Instance) -> list[Item]:
        """The line and its mark; of a crontab that holds nothing else, all of it. A password is no part of what is recorded."""
        fields: Cron = one.fields
        return [sh(_WITHOUT, fixed(_WRITE, fields.owner, _marked(one), fields.name, shown(_line(fields)), "", "name"))]


def _marked(one: Instance) -> str:
    return f"# {marks.mark(one, one.fields.name)}"


def _line(fields: Cron) -> str:
    if fields.schedule is None or fields.command is None:
        return ""
    return f"{' '.join(fields.schedule.split())} {_escaped(fields.command)}"


def _escaped(command: str) -> str:
    """Cron reads `%` as the end of the line unless a backslash stands before it; one that stands there already is left."""
    return re.sub(r"(?<!\\)%", r"\\%", command)


def _written(one: Instance, new_line: str) -> Script:
    """The owner's crontab with this line as that of the job, or without the job."""
    return fixed(_WRITE, one.fields.owner, _marked(one), one.fields.name, _line(one.fields), new_line, "name")


def _jobs(fields: Cron, lines: Sequence[str]) -> tuple[list[tuple[str, str]], int, int]:
    """Schedule and command of each job of ours; how many lines more are the same without a mark; how many marks are above another line."""
    jobs: list[tuple[str, str]] = []
    others, strays, above, mark = 0, 0, "", ""
    for line in lines:
        if _is_mark(fields, line):
            above, mark = "ours", line
            continue
        is_below = above == "ours" and bool(line) and not line.startswith("#")
        text = line.lstrip(" \t")
        words = re.split("[ \t]+", text, maxsplit=1 if text.startswith("@") else len(PARTS))
        if is_below and (mark.startswith("# forjar") or mark.endswith(f" [{cksum(words[-1].encode())}]")):
            jobs.append((" ".join(words[:-1]), words[-1]))
            above = ""
            continue
        is_same = above != "theirs" and line == _line(fields) != ""
        others, strays = others + is_same, strays + (is_below and not is_same)
        above = "theirs" if line.startswith(f"# {marks.PREFIX}") else ""
    return jobs, others, strays


def _is_mark(fields: Cron, line: str) -> bool:
    if line in (f"# forjar:{fields.name}", f"# forjar-cmd:{fields.name}"):
        return True
    found = marks.parse(CHECK.sub("", line.removeprefix("# "))) if line.startswith("# ") else None
    return found is not None and found[1] == fields.name
