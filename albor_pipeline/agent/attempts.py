"""Attempt folders: what is known of one, acknowledge it, collect old ones. Starts no process and digests nothing; claims.py makes them.

    .albor/attempts/<resource>/<n>-<fp12>/
        spec      what was asked (names of env variables only, never their values)
        alive     flock held by the supervisor from before the folder has its name until the supervisor is gone,
                  who touches it every 2 s
        pid       the supervisor, whose session the task is in: pid, start time, boot, namespace; durable before the task runs
        log heartbeat metrics.jsonl result.json cancel
        reserve   blocks that are freed when the task has ended, so that a full disk does not hide its end
        proof     the end, durable; a last line names its length, so that a torn one is not taken for a proof
        exit      the same bytes, by rename: the sign that the end is proven
        ack       the controller has the end in its journal; only such attempts are collected

A folder without `pid` whose lock is free never started anything. This contract is versioned by `version` in spec and proof.
"""

from __future__ import annotations

import json
import os

from albor_pipeline.agent import liveness
from albor_pipeline.agent.layout import Layout, quote, read_bytes, read_json, to_json, unlink, write_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from typing import Any

VERSION = 1
GRACE_S = 10.0
KEEP_NEWEST = 3
ALIVE, UNSUPERVISED, ENDED, DEAD, UNKNOWN = "alive", "unsupervised", "ended", "dead", "unknown"
RUNNING = (ALIVE, UNSUPERVISED, UNKNOWN)


class AttemptError(Exception):
    """A refusal with a stable code: busy, stale, no-slot, held, unknown-attempt, not-ended, bad-spec, not-there, no-room, digest."""

    def __init__(self, code: str, message: str, attempt: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.attempt = attempt


def numbered(base: str) -> list[tuple[int, str]]:
    """(number, folder) of every attempt of a resource, oldest first."""
    try:
        names = os.listdir(base)
    except OSError:
        return []
    found = []
    for name in names:
        head, dash, _rest = name.partition("-")
        if dash and head.isdigit():
            found.append((int(head), os.path.join(base, name)))
    return sorted(found)


def next_number(layout: Layout, resource: str) -> int:
    """The number that the next attempt of the resource gets, as things stand."""
    found = numbered(os.path.join(layout.attempts, quote(resource)))
    return found[-1][0] + 1 if found else 1


def find(layout: Layout, resource: str, number: int) -> str:
    """The folder of one attempt. Raises AttemptError `unknown-attempt`."""
    for found, folder in numbered(os.path.join(layout.attempts, quote(resource))):
        if found == number:
            return folder
    raise AttemptError("unknown-attempt", "%s has no attempt %d here" % (resource, number))


def grace_s(spec: Mapping[str, Any]) -> float:
    """Seconds that an attempt of this spec has between TERM and KILL."""
    return float(spec.get("grace_s") or GRACE_S)


def write_proof(folder: str, body: Mapping[str, Any]) -> None:
    """The end of an attempt: `proof` durable first, then `exit` by rename."""
    data = to_json(body)
    data += b'{"bytes":%d}\n' % len(data)
    write_file(os.path.join(folder, "proof"), data, sync=True)
    name = os.path.join(folder, ".exit")
    write_file(name, data)
    os.rename(name, os.path.join(folder, "exit"))


def read_proof(folder: str) -> dict[str, Any] | None:
    """The proven end of an attempt, from `exit` or a whole `proof` (the machine lost power between the two)."""
    for name in ("exit", "proof"):
        data = read_bytes(os.path.join(folder, name))
        if not data:
            continue
        body, newline, tail = data[:-1].rpartition(b"\n")
        if newline and tail == b'{"bytes":%d}' % (len(body) + 1):
            value = json.loads(body)
            if isinstance(value, dict):
                return value
    return None


def state_of(folder: str) -> tuple[str, dict[str, Any] | None, dict[str, Any] | None]:
    """(liveness, proof, pid record) of an attempt folder."""
    if os.path.exists(os.path.join(folder, "exit")):
        proof = read_proof(folder)
        if proof is not None:
            return ENDED, proof, None
    if liveness.lock_is_held(os.path.join(folder, "alive")):
        return ALIVE, None, read_json(os.path.join(folder, "pid"))
    proof = read_proof(folder)
    if proof is not None:
        return ENDED, proof, None
    record = read_json(os.path.join(folder, "pid"))
    if record is None or record.get("boot") != liveness.boot_id():
        return DEAD, None, record
    if record.get("ns") != liveness.pid_namespace():
        return UNKNOWN, None, record
    if liveness.members(record, folder):
        return UNSUPERVISED, None, record
    return DEAD, None, record


def describe(layout: Layout, folder: str, live: bool = True) -> dict[str, Any] | None:
    """The attempt object of a folder, None where its spec and proof are both gone; `live` False leaves progress out."""
    how, proof, record = state_of(folder)
    spec = proof or read_json(os.path.join(folder, "spec"))
    if spec is None:
        return None
    end = proof["exit"] if proof else None
    if how == DEAD:
        end = _lost(folder, record)
    boot = record.get("boot") if record else spec.get("boot")
    return {
        "resource": spec["resource"],
        "number": spec["number"],
        "fingerprint": spec["fingerprint"],
        "folder": layout.relative(folder),
        "lineage": spec["lineage"],
        "run": spec["run"],
        "liveness": how,
        "started_utc": spec["started_utc"],
        "acked": os.path.exists(os.path.join(folder, "ack")),
        "same_boot": boot == liveness.boot_id(),
        "exit": end,
        "progress": last_metrics(folder) if live and how in RUNNING else {},
        "parts": spec.get("parts") or {},
        "log_bytes": _size(os.path.join(folder, "log")),
        "kept": spec.get("kept") or [],
        "tries": spec.get("tries") or 1,
        "pid": record.get("pid") if record else None,
        "slots": spec.get("slots") or {},
    }


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _lost(folder: str, record: Mapping[str, Any] | None) -> dict[str, Any]:
    """The end of an attempt that left no proof: made up from what is known, never written."""
    if record is None:
        detail = "claimed, but its command was never started"
    elif record.get("boot") != liveness.boot_id():
        detail = "the machine was restarted while it ran"
    else:
        detail = "its supervisor was killed; how the command ended is not known"
    try:
        last_s = os.stat(os.path.join(folder, "log")).st_mtime
        seconds = max(0.0, last_s - float(record["at"])) if record else 0.0
    except (OSError, KeyError, TypeError, ValueError):
        seconds = 0.0
    return {
        "class": "lost",
        "code": None,
        "signal": None,
        "detail": detail,
        "seconds": round(seconds, 3),
        "at_utc": "",
        "outputs": {},
        "summary": {},
    }


def last_metrics(folder: str) -> dict[str, Any]:
    """The last whole line of metrics.jsonl, or an empty object."""
    try:
        with open(os.path.join(folder, "metrics.jsonl"), "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 65536))
            lines = file.read().split(b"\n")[:-1]
    except OSError:
        return {}
    for line in reversed(lines):
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            return value
    return {}


def folders(layout: Layout, resource: str | None = None, without: Collection[str] = ()) -> Iterator[str]:
    """Every attempt folder, by resource and number, but for those in the folders `without`."""
    if resource is not None:
        names = [quote(resource)]
    else:
        try:
            names = sorted(os.listdir(layout.attempts))
        except OSError:
            names = []
    for name in names:
        if name in without:
            continue
        for _number, folder in numbered(os.path.join(layout.attempts, name)):
            yield folder


def unchanged(layout: Layout, known: Mapping[str, Sequence[Any]]) -> list[str]:
    """The resources whose newest attempt is the `known` one (number, first 12 characters of its fingerprint) and is acknowledged.

    Such an attempt has ended, and whoever knows it has its proof: one look at a folder, where describing it would read files.
    """
    same = []
    for resource, (number, fingerprint) in known.items():
        base = os.path.join(layout.attempts, quote(resource))
        name = "%d-%s" % (number, fingerprint)
        found = numbered(base)
        if found and found[-1][1] == os.path.join(base, name) and os.path.exists(os.path.join(base, name, "ack")):
            same.append(resource)
    return same


def listing(
    layout: Layout,
    lineage: str,
    which: str = "all",
    resource: str | None = None,
    without: Collection[str] = (),
) -> list[dict[str, Any]]:
    """Attempt objects of a lineage (empty: of all): `all`, `open` (not acknowledged) or `running`; `without` these resources.

    Those of another lineage that came after its last one of their resource are among them: a controller that lost its state, and could
    not ask this machine whose work it goes on with, finds what it began.
    """
    found: list[dict[str, Any]] = []
    later: list[dict[str, Any]] = []
    for folder in folders(layout, resource, {quote(name) for name in without}):
        if which != "all" and os.path.exists(os.path.join(folder, "ack")):
            continue
        if which == "running" and os.path.exists(os.path.join(folder, "exit")):
            continue
        attempt = describe(layout, folder)
        if attempt is None or (which == "running" and attempt["liveness"] not in RUNNING):
            continue
        if later and later[0]["resource"] != attempt["resource"]:
            found, later = found + later, []
        if lineage and attempt["lineage"] != lineage:
            later.append(attempt)
        else:
            found.append(attempt)
            later = []
    return found + later


def acknowledge(layout: Layout, resource: str, number: int) -> bool:
    """Mark a proven end as journaled; True when older attempts are now due for collection.

    One that was collected already was acknowledged before. Raises AttemptError `not-ended`, `unknown-attempt`.
    """
    try:
        folder = find(layout, resource, number)
    except AttemptError:
        if number < next_number(layout, resource):
            return False
        raise
    if not os.path.exists(os.path.join(folder, "exit")) and state_of(folder)[0] in RUNNING and os.path.isdir(folder):
        raise AttemptError("not-ended", "attempt %d of %s has not ended" % (number, resource))
    try:
        os.close(os.open(os.path.join(folder, "ack"), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))
    except FileNotFoundError:
        return False
    return len(numbered(os.path.dirname(folder))) > KEEP_NEWEST


def collect(layout: Layout, resource: str) -> int:
    """Remove acknowledged attempts that are proven ended, except the newest three; how many this call removed.

    Two may collect at once: what the other has taken is gone as well.
    """
    base = os.path.join(layout.attempts, quote(resource))
    for name in os.listdir(base):
        if name.startswith(".old-"):
            remove_tree(os.path.join(base, name))
    gone = 0
    for _number, folder in numbered(base)[:-KEEP_NEWEST]:
        if os.path.exists(os.path.join(folder, "ack")) and state_of(folder)[0] not in RUNNING:
            aside = os.path.join(base, ".old-" + os.path.basename(folder))
            try:
                os.rename(folder, aside)
            except FileNotFoundError:
                continue
            remove_tree(aside)
            gone += 1
    return gone


def remove_tree(path: str) -> None:
    """Remove a file, link or folder with all that is in it, which may be gone already; links are not followed."""
    if os.path.islink(path) or not os.path.isdir(path):
        unlink(path)
        return
    try:
        with os.scandir(path) as entries:
            for entry in list(entries):
                if entry.is_dir(follow_symlinks=False):
                    remove_tree(entry.path)
                else:
                    unlink(entry.path)
        os.rmdir(path)
    except FileNotFoundError:
        return
