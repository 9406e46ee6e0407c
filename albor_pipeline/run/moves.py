"""Moves: brings to a machine what its steps need from others, before they start. Journals nothing: what broke off is asked for again.

A step that needs something waits among the running ones until all of it has come; then it is judged anew, as ready as any.
Two steps that need the same tree at the same place wait for one transfer. A few transfers at once use a machine, so that an agent
has workers left for everything else. Much data goes past this process where its source may reach its target by itself (fleet.crossing),
else over a connection of its own where there can be one (fleet.carrier); when either breaks, it goes on at the byte over what is left.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from albor_pipeline.errors import AlborError
from albor_pipeline.model.events import Moved, MoveEvent, NoteEvent, ProgressEvent, StepEvent
from albor_pipeline.model.fingerprint import Fingerprint
from albor_pipeline.model.observed import Tree
from albor_pipeline.model.plan import Step
from albor_pipeline.model.resource import Key
from albor_pipeline.plan.moves import needed
from albor_pipeline.run.direct import Direct
from albor_pipeline.run.outcome import Outcome, Work
from albor_pipeline.run.relay import Errand, Relay
from albor_pipeline.transport.client import AgentError, Message

if TYPE_CHECKING:
    from albor_pipeline.run.workers import Run

AT_ONCE = 2
MUCH_BYTES = 32 << 20  # what the first connection carries in the time that a second one takes to be made
PROGRESS_S = 1.0
MAX_TRIES = 2
Place = tuple[str, str, str, bool]


@dataclass
class _Trip:
    """One transfer, begun or not yet, and the steps that wait for it."""

    errand: Errand
    keys: list[Key]
    relay: Relay | Direct | None = None
    told_s: float = 0.0


@dataclass
class _Waiting:
    """A step that waits for transfers; `then` says what follows once all are done, or of the first that failed."""

    then: Callable[[AgentError | None], list[Outcome]]
    open: set[Place] = field(default_factory=set)


class Moves:
    """The transfers of one run."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._trips: dict[Place, _Trip] = {}
        self._relays: dict[tuple[str, int], _Trip] = {}
        self._waiting: dict[Key, _Waiting] = {}
        self._tries: Counter[tuple[Key, str]] = Counter()
        self._arrived: set[tuple[Key, str]] = set()
        self._later: list[Outcome] = []
        self.done: list[Moved] = []

    def __contains__(self, key: Key) -> bool:
        return key in self._waiting

    def came(self, key: Key) -> set[str]:
        """The inputs of a step that were just put in place for it, as their machine proved; told once."""
        mine = {each for each in self._arrived if each[0] == key}
        self._arrived -= mine
        return {path for _, path in mine}

    def begin(self, step: Step, wanted: Fingerprint) -> Outcome | None:
        """The first move of a step whose inputs lie elsewhere; None when all are in their places. Raises AlborError."""
        run, key = self._run, step.key
        lacking = needed(key, wanted, run.observer.inputs, run.observed)
        if not lacking:
            return None
        if run.no_move:
            raise AlborError.of("not-moved", f"`{lacking[0].path}` would have to be moved from {lacking[0].source}, and --no-move says no")
        errands = [Errand(each.source, each.source_path, key.machine, each.path, each.root or "", key.resource, run.id) for each in lacking]
        for each in errands:
            self._tries[key, each.path] += 1
            if self._tries[key, each.path] > MAX_TRIES:
                raise AlborError.of("changes", f"`{each.path}` on {key.machine} is changed by someone else each time it was put there")
        work = Work(step, wanted, time.monotonic())

        def act() -> None:
            sized = [replace(errand, size_bytes=self._size(key, errand.path)) for errand in errands]
            self.bring(key, sized, lambda error: self._judge(key, error))

        return Outcome(key, act=act, work=work)

    def _size(self, key: Key, path: str) -> int:
        """The bytes of an input as its maker's proof says, which is on record by the time that a step acts; 0 where none is."""
        item = self._run.observer.inputs.moving(key)[path]
        entry = self._run.state.state.entries.get(item.makers[0])
        proof = entry.in_force.outputs.get(item.output or "") if entry is not None and entry.in_force is not None else None
        return proof.size_bytes if proof is not None else 0

    def _judge(self, key: Key, error: AgentError | None) -> list[Outcome]:
        if error is None:
            return [Outcome(key, again=True)]
        return [self._over(key, "failed", "FAILED", error.message)]

    def _over(self, key: Key, word: str, shown: str, note: str) -> Outcome:
        """A step that does not go on in this run; nothing is recorded of it, so that the next run goes on where this one was."""
        event = StepEvent(key, shown, self._run.clock(), note=note)
        return Outcome(key, entry=self._run.state.state.entries.get(key), events=(event,), word=word, failed=True)

    def bring(self, key: Key, errands: list[Errand], then: Callable[[AgentError | None], list[Outcome]]) -> None:
        """Bring all of it for a step, and then go on."""
        self._waiting[key] = _Waiting(then)
        for errand in errands:
            self._trips.setdefault(errand.place, _Trip(errand, [])).keys.append(key)
            self._waiting[key].open.add(errand.place)
        self._start()

    def _start(self) -> None:
        """Begin the transfers for which their machines have room; one whose machine is gone is over."""
        agents = self._run.fleet.agents
        under_way = Counter(machine for trip in self._trips.values() if trip.relay for machine in (trip.errand.source, trip.errand.target))
        for trip in list(self._trips.values()):
            source, target = trip.errand.source, trip.errand.target
            if trip.relay is not None or max(under_way[source], under_way[target]) >= AT_ONCE:
                continue
            gone = next((name for name in (source, target) if name not in agents), None)
            if gone is not None:
                self._later += self._unreachable(trip, f"{gone} does not answer")
                continue
            trip.relay = self._way(trip.errand)
            if trip.relay is None:
                continue
            self._relays.update(dict.fromkeys(trip.relay.ends, trip))
            under_way.update((source, target))

    def _way(self, errand: Errand) -> Relay | Direct | None:
        """The transfer over the best way that there is; None while a connection for it is made."""
        fleet, names = self._run.fleet, (errand.source, errand.target)
        if errand.size_bytes < MUCH_BYTES:
            return Relay(errand, *(fleet.agents[name] for name in names))
        to = fleet.crossing(*names)
        if to is not None:
            teller = fleet.teller(errand.source)
            return Direct(errand, teller, to, fleet.tokens[errand.target]) if teller is not None else None
        source, target = map(fleet.carrier, names)
        return Relay(errand, source, target) if source is not None and target is not None else None

    def take(self, machine: str, message: Message) -> list[Outcome] | None:
        """What follows from a message, None when it belongs to no transfer."""
        trip = self._relays.get((machine, message.id))
        if trip is None or trip.relay is None:
            return None
        asked = trip.relay.asked
        trip.relay.take(machine, message)
        if trip.relay.asked and not asked:
            self._tell(trip, "moving")
        return self._end(trip) if trip.relay.over else []

    def tick(self) -> list[Outcome]:
        """Let the bytes flow, say how far they are, and give what follows from anything else than a message."""
        now = time.monotonic()
        for trip in self._trips.values():
            if trip.relay is not None and trip.relay.is_cut:
                self._let_go(trip)
        if any(trip.relay is None for trip in self._trips.values()):
            self._start()
        for trip in self._trips.values():
            if trip.relay is not None:
                trip.relay.pump()
                if trip.relay.asked and now - trip.told_s >= PROGRESS_S:
                    trip.told_s = now
                    self._progress(trip)
        later, self._later = self._later, []
        return later

    def _progress(self, trip: _Trip) -> None:
        assert trip.relay is not None
        sent = trip.relay.sent
        rate = sent.passed_bytes / max(sent.seconds, 0.001)
        values = {"moved_bytes": sent.passed_bytes, "of_bytes": sent.size_bytes, "files": sent.files, "bytes_per_s": rate}
        for key in trip.keys:
            self._run.report(ProgressEvent(key, values))

    def _tell(self, trip: _Trip, word: str) -> None:
        assert trip.relay is not None
        sent, errand = trip.relay.sent, trip.errand
        why = self._run.fleet.indirect.get((errand.source, errand.target), "")
        way = "direct" if isinstance(trip.relay, Direct) else "relayed"
        moved = Moved(errand.path, errand.source, errand.target, sent.files, sent.size_bytes, sent.seconds, way, why)
        self._run.report(MoveEvent(trip.keys[0], word, self._run.clock(), moved))
        if word == "moved":
            self.done.append(moved)

    def _end(self, trip: _Trip) -> list[Outcome]:
        """A transfer is over: those who wait for nothing else go on, or all of them learn what went wrong."""
        relay, errand = trip.relay, trip.errand
        assert relay is not None
        if isinstance(relay, Direct) and relay.no_way:
            self._run.fleet.indirect[errand.source, errand.target] = relay.no_way
            self._let_go(trip)
            self._start()
            return []
        reply, outcomes = relay.reply, list[Outcome]()
        if reply is not None:
            self._note(trip, reply)
        self._remove(trip)
        if reply is None:
            assert relay.error is not None
            where = f"{errand.path} could not be moved from {errand.source}"
            error = AgentError(relay.error.code, f"{where}: on {relay.culprit}, {relay.error.message}")
            for key in trip.keys:
                outcomes += self._leave(key, error)
        else:
            for key in trip.keys:
                outcomes += self._advance(key, errand)
        self._start()
        return outcomes

    def _advance(self, key: Key, errand: Errand) -> list[Outcome]:
        """One thing less that a step waits for."""
        if not errand.keep:
            self._arrived.add((key, errand.path))
        waiting = self._waiting.get(key)
        if waiting is None:
            return []
        waiting.open.discard(errand.place)
        return [] if waiting.open else self._leave(key, None)

    def _leave(self, key: Key, error: AgentError | None) -> list[Outcome]:
        waiting = self._waiting.pop(key, None)
        return waiting.then(error) if waiting is not None else []

    def _note(self, trip: _Trip, reply: Mapping[str, Any]) -> None:
        run, errand = self._run, trip.errand
        self._tell(trip, "moved")
        for path in reply.get("kept") or ():
            run.report(NoteEvent(f"what lay at {errand.path} on {errand.target} is now {path} there"))
        if not errand.keep:
            there = Tree(errand.root, int(reply["files"]), int(reply["size_bytes"]), str(reply["sig"]))
            run.observer.found.inputs[errand.target, errand.path] = there

    def _remove(self, trip: _Trip) -> None:
        self._trips.pop(trip.errand.place, None)
        self._let_go(trip)

    def _let_go(self, trip: _Trip) -> None:
        """Stop where it is; begun again, it goes on there."""
        relay, trip.relay = trip.relay, None
        if relay is not None:
            relay.stop()
            for end in relay.ends:
                self._relays.pop(end, None)

    def lost(self, machine: str, why: str) -> list[Outcome]:
        """A machine is gone: what was on its way from or to it waits for the next run, which goes on at the byte."""
        outcomes: list[Outcome] = []
        for trip in [trip for trip in self._trips.values() if machine in (trip.errand.source, trip.errand.target)]:
            if trip.relay is not None:
                trip.relay.stop(lost=machine)
            outcomes += self._unreachable(trip, why)
        return outcomes

    def _unreachable(self, trip: _Trip, why: str) -> list[Outcome]:
        self._remove(trip)
        note = f"{why}; what came of {trip.errand.path} is kept"
        word, shown = ("failed", "FAILED") if self._run.manifest.policy.fails_unreachable else ("unreachable", "unknown")
        keys = [key for key in trip.keys if self._waiting.pop(key, None) is not None]
        return [self._over(key, word, shown, note) for key in keys]

    def cancel(self) -> None:
        """Stop every transfer; the steps that wait for one are over."""
        for trip in list(self._trips.values()):
            if trip.relay is not None:
                trip.relay.stop()
            self._remove(trip)
        keys, self._waiting = list(self._waiting), {}
        self._later += [self._over(key, "cancelled", "cancelled", "before it began; what came of its inputs is kept") for key in keys]
