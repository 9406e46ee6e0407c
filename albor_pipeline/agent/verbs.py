"""What the agent can be asked: one function a verb, and the table of them. Moves no frames itself.

A verb gets the server, its stream and the request, and returns the reply's fields, or None when the reply comes later.
Verbs marked True may read, hash or wait, and so run in a worker.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import time

from albor_pipeline.agent import attempts, child, converging, facts, files, hashing, liveness, logs, scripts, slots
from albor_pipeline.agent.giving import Giver
from albor_pipeline.agent.layout import read_json, replace_file, to_json, utc, write_file
from albor_pipeline.agent.reaching import Reach, Refused
from albor_pipeline.agent.server import Server, Stream
from albor_pipeline.agent.starts import Tail
from albor_pipeline.agent.sweep import Sweep
from albor_pipeline.agent.taking import Taker
from albor_pipeline.agent.watch import holds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from albor_pipeline.agent.server import Verb

PROTOCOL = 1
SIGNAL_WAIT_S = 5.0


def hello(server: Server, _stream: Stream, body: Mapping[str, Any]) -> dict[str, Any]:
    """Facts of the machine, the journal head kept here, and attempts as attempts.listing() has them: `all`, `open` or `none`.

    Of resources whose newest attempt the other side has on record of this machine (`known`) only the names come back, as `unchanged`.
    """
    which = body.get("attempts", "all")
    server.prober.watch.begin()
    heads = facts.heads(server.layout.head)
    told = facts.facts(server.layout.workdir)
    known = body.get("known") or {}
    same = attempts.unchanged(server.layout, known["attempts"]) if known.get("machine_id") == told["machine_id"] else []
    found = [] if which == "none" else attempts.listing(server.layout, server.lineage, which, without=same)
    return {
        "version": PROTOCOL,
        **told,
        "head": heads.get(server.lineage),
        "heads": heads,
        "attempts": found,
        "unchanged": same,
    }


def probe(server: Server, _stream: Stream, body: Mapping[str, Any]) -> dict[str, Any]:
    """Look at many things at once."""
    return {"results": server.prober.answer(body["items"])}


def watch(server: Server, _stream: Stream, _body: Mapping[str, Any]) -> dict[str, Any]:
    """Keep what this connection looked at, to be compared by `unchanged`; {"id"}, empty when it cannot be told by stamps."""
    return {"id": server.prober.watch.keep(server.lineage)}


def unchanged(server: Server, _stream: Stream, body: Mapping[str, Any]) -> dict[str, Any]:
    """Whether all that a kept watch looked at is as it was."""
    return {"same": holds(server.layout, server.lineage, body["watch"], server.prober.look)}


def start(server: Server, stream: Stream, body: Mapping[str, Any]) -> None:
    """Start an attempt; replied to once it is claimed or refused."""
    _need_digests()
    if server.network_fs:
        raise attempts.AttemptError(
            "network-fs", "%s is on a network file system; attempts need a local workdir" % server.layout.workdir
        )
    server.lease.require()
    spec = {key: value for key, value in body.items() if key not in ("id", "verb")}
    server.starts.start(stream.number, spec)


def attach(server: Server, stream: Stream, body: Mapping[str, Any]) -> None:
    """Send the end of an attempt as an event, and its log from an offset as data when asked."""
    folder = attempts.find(server.layout, body["resource"], body["number"])
    offset = body.get("log_from")
    if offset is not None and offset < 0:
        offset = max(0, _size(os.path.join(folder, "log")) + offset)
    server.answer(stream.number, {"attempt": attempts.describe(server.layout, folder), "log_from": offset})
    server.starts.watch(folder)
    if offset is not None:
        server.follow(stream.number, Tail(folder, offset))


def ack(server: Server, _stream: Stream, body: Mapping[str, Any]) -> dict[str, Any]:
    """The controller has the end in its journal; the attempt may now be collected."""
    resource = body["resource"]
    if attempts.acknowledge(server.layout, resource, body["number"]):
        server.later(lambda: _collect(server, resource))
    return {}


def _collect(server: Server, resource: str) -> None:
    try:
        attempts.collect(server.layout, resource)
    except OSError:
        return


def list_attempts(server: Server, _stream: Stream, body: Mapping[str, Any]) -> dict[str, Any]:
    """Attempt objects: of one resource or all, `which` all, open or running; `number` picks one."""
    lineage = "" if body.get("any_lineage") else server.lineage
    found = attempts.listing(server.layout, lineage, body.get("which", "all"), body.get("resource"))
    if body.get("number") is not None:
        found = [attempt for attempt in found if attempt["number"] == body["number"]]
    return {"attempts": found}


def cancel(server: Server, _stream: Stream, body: Mapping[str, Any]) -> dict[str, Any]:
    """Ask an attempt's supervisor to stop it; without a supervisor stop its processes from here.

    {"liveness", "grace_s"} as found: how it was, and how long it may take to end.
    """
    if body.get("how", "cancel") != "cancel":
        raise attempts.AttemptError("bad-spec", "signal: unknown `how` %r" % body.get("how"))
    folder = attempts.find(server.layout, body["resource"], body["number"])
    deadline = time.monotonic() + SIGNAL_WAIT_S
    while True:
        how, _proof, record = attempts.state_of(folder)
        if how == attempts.ALIVE and record is None and time.monotonic() < deadline:
            time.sleep(0.01)
            continue
        break
    asked = body.get("grace_s")
    grace_s = attempts.grace_s(read_json(os.path.join(folder, "spec")) or {}) if asked is None else float(asked)
    if how == attempts.ALIVE and record is not None:
        if liveness.same_process(record):
            write_file(os.path.join(folder, "cancel"), b"")
            os.kill(record["pid"], signal.SIGUSR1)
    elif how == attempts.UNSUPERVISED and record is not None:
        if not child.end_members(record, folder, grace_s):
            raise attempts.AttemptError("still-alive", "some processes of the attempt do not end")
    elif how in attempts.RUNNING:
        raise attempts.AttemptError(
            "unknown-attempt", "the attempt is %s; its processes cannot be reached from here" % how
        )
    return {"liveness": how, "grace_s": grace_s}


def log(server: Server, stream: Stream, body: Mapping[str, Any]) -> dict[str, Any] | None:
    """A log's bytes from an offset (negative: from the end) on, but none from before `since_s` ago, at most `max`.

    {"from", "to", "size_bytes"} and the bytes as data.
    """
    path = os.path.join(attempts.find(server.layout, body["resource"], body["number"]), "log")
    size = _size(path)
    since_s = body.get("since_s")
    begin = int(body.get("from") or 0)
    begin = max(0, size + begin) if begin < 0 else begin
    begin = begin if since_s is None else max(begin, logs.offset_at(path, time.time() - since_s))
    left = int(body.get("max") or 1 << 62)
    parts: list[bytes] = []
    position = first = begin
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        descriptor = -1
    try:
        while descriptor >= 0 and left > 0 and position < size:
            at, data = logs.read_from(descriptor, position, min(left, files.READ_BYTES))
            first = at if not parts else first
            if not data:
                break
            parts.append(data)
            position, left = at + len(data), left - len(data)
            if sum(map(len, parts)) >= 8 << 20:
                break
    finally:
        if descriptor >= 0:
            os.close(descriptor)
    stream.sends = True
    server.answer(stream.number, {"from": first, "to": position, "size_bytes": size, "data": True})
    for part in parts:
        stream.write(part)
    return None


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def script(server: Server, _stream: Stream, body: Mapping[str, Any]) -> dict[str, Any]:
    """Run a short shell script."""
    cwd = server.layout.path(body.get("cwd") or ".")
    return scripts.run_script(body["script"], body.get("timeout_s"), body.get("env"), cwd)


def put(server: Server, stream: Stream, body: Mapping[str, Any]) -> dict[str, Any]:
    """Write a file, folder or link, or remove one."""
    return files.put(server.layout.path(body["path"]), body, stream.read())


def converge(server: Server, stream: Stream, body: Mapping[str, Any]) -> dict[str, Any]:
    """Do operations in order and look what came of them; {"results"}, or {"failed"} with what the one that failed said."""
    server.lease.require()
    return converging.converge(server.layout, server.prober.look, body, stream.read())


def get(server: Server, stream: Stream, body: Mapping[str, Any]) -> dict[str, Any] | None:
    """A file's bytes as data after the reply {"size_bytes"}."""
    path = server.layout.path(body["path"])
    with open(path, "rb"):
        stream.sends = True
    server.answer(stream.number, {"size_bytes": _size(path), "data": True})
    for part in files.read(path, int(body.get("from") or 0), body.get("max")):
        stream.write(part)
    return None


def list_folder(server: Server, _stream: Stream, body: Mapping[str, Any]) -> dict[str, Any]:
    """What a folder holds."""
    return {"entries": files.listing(server.layout.path(body["path"]))}


def code_has(server: Server, _stream: Stream, body: Mapping[str, Any]) -> dict[str, Any]:
    """Whether the code of a digest is here, and where."""
    folder = files.code_folder(server.layout, body["digest"])
    return {"present": os.path.isdir(folder), "folder": server.layout.relative(folder)}


def code_put(server: Server, stream: Stream, body: Mapping[str, Any]) -> dict[str, Any]:
    """Lay out the code of a digest."""
    return files.put_code(server.layout, body["digest"], body["files"], stream.read())


def project(server: Server, _stream: Stream, body: Mapping[str, Any]) -> dict[str, Any]:
    """Whether the project of a digest is here and untouched."""
    return {"same": server.project.is_same(body["digest"])}


def project_list(server: Server, stream: Stream, _body: Mapping[str, Any]) -> dict[str, Any]:
    """Which of the project's files, listed in the data as JSON, are to be sent: their numbers."""
    server.listed = [tuple(item) for item in json.loads(b"".join(stream.read()))]
    return {"lacking": server.project.lacking(server.listed)}


def project_put(server: Server, stream: Stream, body: Mapping[str, Any]) -> dict[str, Any]:
    """Write files of the list, their bytes as data; {"kept"}: where what was in their way is now."""
    server.lease.require()
    return {"kept": server.project.put([server.listed[number] for number in body["files"]], stream.read(), body["run"])}


def project_done(server: Server, _stream: Stream, body: Mapping[str, Any]) -> dict[str, Any]:
    """All of the list is here: take away what the project has no more; {"gone"}: how many files."""
    server.lease.require()
    return {"gone": server.project.complete(body["digest"], server.listed)}


def lease(server: Server, _stream: Stream, body: Mapping[str, Any]) -> dict[str, Any]:
    """Be the one controller of this lineage here, for as long as it is heard of; the journal head that is kept here now.

    `process` names the holder's process on its own host (liveness.py).
    The reply's `token` is what a second connection of the same controller sends in place of `holder`, `unheard_s` for how long nothing
    was heard of the controller before, null where there was none.
    Raises AttemptError `held` with the holder's text and process, `no-lease`.
    """
    if "token" in body:
        server.lease.join(str(body["token"]))
        return {}
    server.lease.take(str(body["holder"]), body.get("process"))
    head = facts.heads(server.layout.head).get(server.lineage)
    return {"head": head, "token": server.lease.token, "unheard_s": server.lease.unheard_s}


def look_at_slots(server: Server, _stream: Stream, body: Mapping[str, Any]) -> dict[str, Any]:
    """For each of `wants` (`needs`, `total`) what it would have to wait for; empty when it need not wait."""
    return {"missing": slots.look(server.layout, body["wants"])}


def restore(server: Server, _stream: Stream, body: Mapping[str, Any]) -> dict[str, Any]:
    """Put the outputs of a kept result back; {"outputs", "kept"}, the second being what was moved out of their way."""
    server.lease.require()
    with server.store_lock:
        return server.results.restore({**body, "lineage": server.lineage})


def give(server: Server, stream: Stream, body: Mapping[str, Any]) -> None:
    """The tree at `path` whose digest is `root`, for another machine: {"files", "size_bytes"}, then its listing and what is asked of it."""
    _need_digests()
    giver = Giver(server.layout, server.prober, body["path"], body["root"])
    data = giver.listing()
    stream.sends = True
    server.answer(stream.number, {"files": giver.tree.files, "size_bytes": giver.tree.size_bytes, "data": True})
    stream.write(data)
    giver.serve(stream.read(), stream.write)


def send(server: Server, stream: Stream, body: Mapping[str, Any]) -> dict[str, Any]:
    """The tree at `path` whose digest is `root` to another machine: `to` is how this one reaches it, `take` what is asked of it there.

    The controller stays on the stream: it sends something now and then, and its end is the transfer's. Replies {"files", "size_bytes"}
    as often as something is asked for, {"passed_bytes"} meanwhile, and at last what the other said last, or {"refused"} with its error.
    """
    _need_digests()
    giver = Giver(server.layout, server.prober, body["path"], body["root"])
    with Reach(body["to"], stream.is_wanted) as there:
        there.settle("lease", token=body["token"])
        try:
            return there.give(giver, body["take"], lambda reply: server.answer(stream.number, reply))
        except Refused as error:
            return {"refused": {"code": error.code, "message": error.message}}


def reach(_server: Server, stream: Stream, body: Mapping[str, Any]) -> dict[str, Any]:
    """Whether this machine reaches another by itself (`to`): an error says why not. Changes nothing there."""
    with Reach(body["to"], stream.is_wanted) as there:
        there.settle("slots", wants=[])
    return {}


def take(server: Server, stream: Stream, body: Mapping[str, Any]) -> dict[str, Any]:
    """Bring the tree with this `root` to `path`, or into the store (`keep`), out of what another agent's `give` says.

    Replies {"wants", "files", "size_bytes"} as often as bytes are lacking, and at the end {"done", "root", "files", "size_bytes",
    "received_bytes", "sig", "kept"}.
    """
    _need_digests()
    server.lease.require()
    may = server.lease.require
    taker = Taker(server.layout, server.prober, body, stream.read(), lambda reply: server.answer(stream.number, reply), may)
    return taker.run()


def _need_digests() -> None:
    try:
        hashing.ensure_available()
    except hashing.DigestUnavailable as error:
        raise attempts.AttemptError("no-blake3", str(error)) from None


def store_list(server: Server, _stream: Stream, _body: Mapping[str, Any]) -> dict[str, Any]:
    """Every result that the store knows."""
    return {"results": Sweep(server.layout, server.results).listing()}


def store_rename(server: Server, _stream: Stream, body: Mapping[str, Any]) -> dict[str, Any]:
    """A resource has another name now: what this lineage keeps of it goes with it."""
    with server.store_lock:
        server.results.rename(body["before"], body["after"], server.lineage)
    return {}


def store_verify(server: Server, _stream: Stream, _body: Mapping[str, Any]) -> dict[str, Any]:
    """Read every object again; the corrupt ones are set aside and named."""
    return Sweep(server.layout, server.results).verify()


def store_clean(server: Server, _stream: Stream, body: Mapping[str, Any]) -> dict[str, Any]:
    """Take away what nobody needs, or say what that would be."""
    return Sweep(server.layout, server.results).clean({**body, "lineage": server.lineage})


def head(server: Server, stream: Stream, body: Mapping[str, Any]) -> dict[str, Any]:
    """Keep the journal's head here, durable, so that a cut journal shows; of several under way the latest request wins."""
    os.makedirs(server.layout.home, exist_ok=True)
    with server.head_lock:
        if stream.number < server.head_request:
            return {}
        server.head_request = stream.number
        lock = os.open(server.layout.head + ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            heads = facts.heads(server.layout.head)
            heads[server.lineage] = {"count": int(body["count"]), "digest": str(body["digest"]), "at_utc": utc()}
            replace_file(server.layout.head, to_json(heads), sync=True)
        finally:
            os.close(lock)
    return {}


VERBS: dict[str, tuple[Verb, bool]] = {
    "hello": (hello, True),
    "probe": (probe, True),
    "watch": (watch, True),
    "unchanged": (unchanged, True),
    "start": (start, False),
    "attach": (attach, False),
    "ack": (ack, False),
    "attempts": (list_attempts, True),
    "signal": (cancel, True),
    "log": (log, True),
    "sh": (script, True),
    "put": (put, True),
    "converge": (converge, True),
    "get": (get, True),
    "list": (list_folder, True),
    "code_has": (code_has, False),
    "code_put": (code_put, True),
    "project": (project, True),
    "project_list": (project_list, True),
    "project_put": (project_put, True),
    "project_done": (project_done, True),
    "restore": (restore, True),
    "give": (give, True),
    "take": (take, True),
    "send": (send, True),
    "reach": (reach, True),
    "store_list": (store_list, True),
    "store_rename": (store_rename, True),
    "store_verify": (store_verify, True),
    "store_clean": (store_clean, True),
    "lease": (lease, False),
    "slots": (look_at_slots, True),
    "head": (head, True),
}
