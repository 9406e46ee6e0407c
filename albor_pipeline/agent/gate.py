"""A quality gate: whether what a command printed, or its exit code, is what was asked for. Starts nothing; knows no attempt.

`parse: json` looks at a field of the last JSON object, `stdout` at the last line, `exit_code` at the code. `threshold` lists the
values that pass, as texts or as numbers of the same value, `min` is the least number, `regex` is looked for in the value, and with
`stdout` in all that was printed.
"""

from __future__ import annotations

import json
import re
import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import FrameType
    from typing import Any

READ_BYTES = 1 << 18
MAX_OBJECTS = 1000
MAX_SHOWN = 60
SEARCH_S = 5.0
OURS = "albor: "


class _TooSlow(Exception):
    pass


def why_not(gate: Mapping[str, Any], printed: bytes, code: int) -> str:
    """Why the gate is not passed, with the value and what it must be; empty when it is passed."""
    text = "\n".join(line for line in printed.decode("utf-8", "replace").splitlines() if not line.startswith(OURS))
    parse = gate.get("parse") or ("json" if gate.get("field") else "stdout")
    if parse == "exit_code":
        return _why_not(gate, "the exit code", code, str(code))
    if code != 0:
        return "its command ended with exit %d" % code
    if parse == "json":
        field = str(gate.get("field"))
        found = last_object(text)
        if found is None:
            return "no JSON object was printed, and `%s` of one is wanted" % _short(field)
        known, value = _field(found, field)
        return _why_not(gate, "`%s`" % _short(field), value, "") if known else "the JSON object has no field `%s`" % _short(field)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return _why_not(gate, "the last line", lines[-1] if lines else "", text)


def last_object(text: str) -> dict[str, Any] | None:
    """The last JSON object that begins at the start of a line, None when there is none."""
    decoder, found, at = json.JSONDecoder(), None, 0
    for match in list(re.finditer(r"^[ \t]*(?=\{)", text, re.MULTILINE))[-MAX_OBJECTS:]:
        if match.end() < at:
            continue
        try:
            value, at = decoder.raw_decode(text, match.end())
        except (ValueError, RecursionError):
            continue
        found = value
    return found


def _field(value: dict[str, Any], name: str) -> tuple[bool, Any]:
    """Whether the object has the field, and its value; `metrics.accuracy` may be one inside another."""
    if name in value:
        return True, value[name]
    found: Any = value
    for word in name.split("."):
        if not isinstance(found, dict) or word not in found:
            return False, None
        found = found[word]
    return True, found


def _why_not(gate: Mapping[str, Any], what: str, value: object, text: str) -> str:
    shown, number = _text(value), _number(value)
    is_so = "%s is %s" % (what, _short(shown) or "empty")
    allowed = [str(each) for each in gate.get("threshold") or ()]
    if allowed and not any(shown == each or (number is not None and number == _number(each)) for each in allowed):
        hint = ""
        if number is not None and len(allowed) == 1 and _number(allowed[0]) is not None:
            hint = "; for a least value write `min: %s`" % _short(allowed[0])
        return "%s, and only %s passes%s" % (is_so, " or ".join(map(_short, allowed)), hint)
    least = gate.get("min")
    if least is not None and (number is None or not number >= least):
        return "%s, and the least that passes is %g" % (is_so, least)
    pattern = gate.get("regex")
    if pattern:
        try:
            if not _search(pattern, text or shown):
                return "%s does not match %s" % ("what was printed" if text else is_so + ", which", _short(pattern))
        except _TooSlow:
            return "its expression %s takes more than %g s" % (_short(pattern), SEARCH_S)
    return ""


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _number(value: object) -> float | None:
    if isinstance(value, bool):
        return None
    try:
        return float(value) if isinstance(value, (int, float, str)) else None
    except (ValueError, OverflowError):
        return None


def _search(pattern: str, text: str) -> bool:
    """Whether the expression is found, at most so long: an alarm ends a search that would take for ever."""

    def end(number: int, frame: FrameType | None) -> None:
        raise _TooSlow

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, SEARCH_S)
    try:
        return re.search(pattern, text, re.MULTILINE) is not None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= MAX_SHOWN else line[: MAX_SHOWN - 3] + "..."
