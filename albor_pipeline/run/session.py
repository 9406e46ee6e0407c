"""Session: a manifest with its state and its machines, opened together; makes plans and runs them. Prints nothing.

What is not needed to read a manifest and to call its machines is imported after that: they take longer to answer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from albor_pipeline.agent.hashing import digest_bytes
from albor_pipeline.errors import AlborError, Diagnostic, ManifestError, StateError, UnreachableError
from albor_pipeline.manifest.load import load
from albor_pipeline.manifest.nodes import without_collector
from albor_pipeline.model.events import NoteEvent, Reporter, RunReport
from albor_pipeline.model.manifest import Manifest
from albor_pipeline.model.observed import Observed
from albor_pipeline.model.plan import Action, Plan
from albor_pipeline.model.resource import Key
from albor_pipeline.model.state import State
from albor_pipeline.plan import graph
from albor_pipeline.plan.refusals import check_supported
from albor_pipeline.resources.task import Task
from albor_pipeline.run import containers, leases, moved
from albor_pipeline.run.attempts import known_attempts
from albor_pipeline.run.data import fetcher
from albor_pipeline.run.fleet import Fleet, newest_lineage
from albor_pipeline.run.limits import Leave, Limits
from albor_pipeline.run.secrets import Vault
from albor_pipeline.state.folder import StateFolder, Transition, utc_now
from albor_pipeline.transport.client import AgentError, Maker

if TYPE_CHECKING:
    from albor_pipeline.run.executor import Decider, Ended
    from albor_pipeline.run.observe import Observer
    from albor_pipeline.run.workers import Workers


@dataclass(frozen=True)
class Wish:
    """What a command asks of a session."""

    targets: frozenset[Key] | None = None
    force: bool = False
    replace: frozenset[Key] = frozenset()
    keep_going: bool = False
    max_parallel: int | None = None
    deep: bool = False
    no_move: bool = False
    prune: bool = False
    sure: bool = False


@dataclass(frozen=True)
class Papers:
    """The bytes of plan.json, and of report.json once there is a report; made by who knows how to write text."""

    plan: bytes
    report: Callable[[RunReport], bytes]


class Session:
    """`write` takes the state lock; without it nothing is written anywhere but caches.

    `faults`: why machines of the plan do not answer. `going`: machines that are removed once an undoing is done.
    `began_ns`: the clock before any file was read.
    """

    def __init__(self, manifest: Manifest, state_dir: Path, *, write: bool, began_ns: int, maker: Maker | None = None) -> None:
        self.manifest = manifest
        self.graph = graph.build(manifest)
        self.vault = Vault(manifest)
        self.folder = StateFolder.open(state_dir, manifest.pipeline, write=write)
        self.fleet = Fleet(manifest, self.folder.state.lineage, maker)
        self.observer: Observer | None = None
        self.observed = Observed()
        self.began_ns = began_ns
        self.faults: tuple[Diagnostic, ...] = ()
        self.going: Sequence[str] = ()
        self._write = write
        self._broken = False

    @classmethod
    def open(
        cls,
        path: Path,
        state_dir: Callable[[Manifest], Path],
        *,
        write: bool,
        environment: str | None = None,
        maker: Maker | None = None,
    ) -> Session:
        """Load the manifest and open its state; `maker` is as Fleet has it. Raises ManifestError, StateError or LockedError."""
        began_ns = time.time_ns()
        manifest = load(path, environment=environment, fetch=fetcher, further=_linted)
        return cls(manifest, state_dir(manifest), write=write, began_ns=began_ns, maker=maker)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.fleet.close()
        try:
            self.folder.close()
        except StateError:
            if not self._broken:
                raise

    def connect(self, keys: Iterable[Key]) -> None:
        """Open the machines of these resources, and check that none of them knows a later state than ours."""
        names = self._machines(keys)
        self.fleet.open(names)
        if self.folder.is_new and self._continue_lineage():
            self.fleet.open(names)
        self._check_places()
        for name, agent in self.fleet.agents.items():
            self._check_head(name, agent.hello.get("head"))

    def open_machines(self, names: Iterable[str]) -> None:
        """Open these machines, or all; one that does not answer is in `fleet.errors`. Raises ManifestError for an unknown name."""
        unknown = sorted(set(names) - set(self.manifest.machines))
        if unknown:
            raise ManifestError.of("unknown-machine", f"there is no machine `{unknown[0]}` in {self.manifest.path}")
        self.fleet.open(sorted(names) or sorted(self.manifest.machines))

    def _machines(self, keys: Iterable[Key]) -> list[str]:
        return sorted({key.machine for key in keys if key.machine in self.manifest.machines})

    def _check_head(self, name: str, head: Mapping[str, Any] | None) -> None:
        """A reader takes no lock, so a run may have gone on since it read the state: then it reads once more."""
        try:
            self.folder.check_head(name, head)
        except StateError:
            if self._write:
                raise
            self.folder = StateFolder.open(self.folder.root, self.manifest.pipeline, write=False)
            self.folder.check_head(name, head)

    def _check_places(self) -> None:
        """Two names for one folder would mix up their attempts and outputs; raises ManifestError naming both."""
        taken: dict[tuple[str, str], str] = {}
        for name, agent in sorted(self.fleet.agents.items()):
            place = (str(agent.hello["machine_id"]), str(agent.hello["workdir"]))
            other = taken.setdefault(place, name)
            if other != name:
                text = f"machines `{other}` and `{name}` are one folder of one machine: {place[1]}"
                span = self.manifest.machines[name].span
                raise ManifestError.of("same-place", text, "give one of them a `workdir` of its own", span=span)

    def _continue_lineage(self) -> bool:
        """An empty state folder beside machines that hold our attempts was lost: go on with the lineage they remember."""
        found = newest_lineage(self.manifest, self.fleet)
        if found is None:
            return False
        lineage, head = found
        self.folder.adopt_lineage(lineage, head)
        self.fleet.close()
        self.fleet.lineage = lineage
        return True

    @without_collector()
    def plan(self, wish: Wish) -> Plan:
        """Observe and plan; raises ManifestError when a stage says that it cannot work, a config is wrong, or we cannot do it yet."""
        targets = wish.targets
        chosen = self.graph.closure(targets) if targets is not None else frozenset(self.graph.order)
        check_supported(self.manifest, chosen)
        known = frozenset(self.state.entries) if targets is None else frozenset[Key]()
        self.vault.check()
        moved.check(self.manifest, self.folder.state.entries)
        keys = [key for key in self.graph.order if key in chosen]
        self.fleet.launch(self._machines(chosen | known))
        self.fleet.call(known_attempts(self.state))
        from albor_pipeline.plan.judge import Options
        from albor_pipeline.run import lint, stored
        from albor_pipeline.run.observe import Observer

        self.observer = Observer(self.manifest, self.graph, self.fleet, self.vault, self.folder.root, deep=wish.deep)
        self.observer.read_project(keys)
        self.connect(chosen | known)
        renamed = moved.moves(self.manifest, self.folder.state.entries)
        if self._write:
            stored.follow(self.fleet, renamed)
            moved.record(self.folder, renamed)
        self.observer.ask(keys, self.state)
        linted = lint.findings(self.manifest, sorted({key.resource for key in chosen}), keep=True)
        self.observed = self.observer.observe(keys)
        self.observer.problems.raise_if_errors()
        self._options = Options(
            targets=targets,
            force=(targets or frozenset(self.graph.order)) if wish.force else frozenset(),
            replace=wish.replace,
            estimates=self._estimates(),
            no_move=wish.no_move,
            prune=wish.prune,
        )
        plan = self._make_plan()
        before = {} if self._write else {new: old for old, new in renamed.items()}
        look = stored.Look(self.manifest, self.fleet, self.state.entries, before, far=not wish.no_move)
        self.observed, was = look.at(plan.steps, self.observed), self.observed
        plan = plan if self.observed is was else self._make_plan()
        plan = replace(plan, diagnostics=(*linted, *containers.unmade(self.manifest, self.fleet), *plan.diagnostics))
        self.faults = tuple(self.fleet.faults.values())
        if any(item.level == "error" for item in plan.diagnostics):
            raise ManifestError(plan.diagnostics)
        return plan

    def plan_undo(self, targets: frozenset[Key] | None) -> Plan:
        """The plan that takes away what is recorded: all of it, and the machines in `going`; or the targets and what needs them.

        Raises ManifestError.
        """
        from albor_pipeline.plan.undo import make_undo_plan
        from albor_pipeline.run.observe import Observer

        chosen = self.graph.dependents(targets) if targets is not None else frozenset(self.folder.state.entries)
        keys = [key for key in chosen if key in self.folder.state.entries]
        moved.check(self.manifest, self.folder.state.entries)
        self.connect([*keys, *(Key("", name) for name in containers.of_destroy(self.manifest) if targets is None)])
        self.observer = Observer(self.manifest, self.graph, self.fleet, self.vault, self.folder.root)
        self.observer.ask([], self.state)
        self.observed = self.observer.observe([])
        self.faults = tuple(self.fleet.faults.values())
        self.going = containers.going(self.manifest, self.fleet, self.observed) if targets is None else ()
        return make_undo_plan(self.manifest, self.graph, self.state, self.observed, targets, self.going)

    def _make_plan(self) -> Plan:
        from albor_pipeline.plan.judge import make_plan

        assert self.observer is not None
        return make_plan(self.manifest, self.graph, self.state, self.observed, self._options, self.observer.inputs)

    @property
    def state(self) -> State:
        """What is recorded, under the names that resources and machines have now."""
        state = self.folder.state
        return moved.seen(state, moved.moves(self.manifest, state.entries))

    def _estimates(self) -> dict[Key, float]:
        found = {}
        for key in self.graph.order:
            answer = self.observed.stages.get(key)
            if answer is not None and "seconds" in answer.estimates:
                found[key] = answer.estimates["seconds"]
        return found

    def apply(self, plan: Plan, wish: Wish, papers: Papers, report: Reporter, leave: Callable[[], Leave]) -> RunReport:
        """Follow the plan to its end; the state is saved whatever happens."""
        return self._run(plan, None, wish, papers, report, leave)

    def undo(self, plan: Plan, papers: Papers, report: Reporter, leave: Callable[[], Leave]) -> RunReport:
        """Take away what a plan of plan_undo() names; the state is saved whatever happens."""
        from albor_pipeline.plan.undo import Undoing

        return self._run(plan, Undoing(plan), Wish(), papers, report, leave)

    def _run(
        self, plan: Plan, undoing: Decider | None, wish: Wish, papers: Papers, report: Reporter, leave: Callable[[], Leave]
    ) -> RunReport:
        """Hooks and checks of the manifest are for what is made, not for what is taken away."""
        from albor_pipeline.plan.judge import Judge
        from albor_pipeline.run import hooks
        from albor_pipeline.run.confirm import confirm
        from albor_pipeline.run.executor import Executor
        from albor_pipeline.run.workers import Run, Workers

        assert self.observer is not None
        self.take_leases(report, leave)
        run_id, folder = self.folder.new_run(after=self._last_run_seen(), manifest=digest_bytes(Path(self.manifest.path).read_bytes()))
        self.folder.save(folder / "plan.json", papers.plan)
        self._bind_machines()
        judge = undoing or Judge(self.manifest, self.graph, self.folder.state, self.observed, self._options, self.observer.inputs)
        shown = self._shown(folder)
        run = Run(
            run_id, folder, shown, self.manifest, self.folder, self.fleet, self.observer, self.observed, report, utc_now, self.vault,
            wish.no_move,
        )  # fmt: skip
        if undoing is None:
            hooks.before(run)
        workers = Workers(run)
        limits = Limits(self.manifest.policy, wish.keep_going, wish.max_parallel, leave, wish.sure)
        self._send_project(plan, workers, report)
        executor = Executor(plan, judge, self.folder, self.fleet, workers, limits, report)
        ended = executor.run()
        done = replace(self._report(plan, ended, run_id, shown, limits.stop_on_first), moves=tuple(workers.moves.done))
        if done.succeeded and undoing is None:
            done = replace(done, checks=confirm(run))
        if not ended.broken:
            done = self._end(done, folder, papers, report)
        self._broken = bool(done.broken)
        if undoing is None:
            hooks.after(run, done)
        return done

    def _send_project(self, plan: Plan, workers: Workers, report: Reporter) -> None:
        """Give the project's files to the machines that may need them; one that does not get them is lost to this run."""
        assert self.observer is not None
        running = [step.key for step in plan.steps if step.action.executes or step.action is Action.MAY_RUN]
        needing = {key.machine for key in running if key.machine in self.fleet.agents and self._needs_project(key)}
        machines = sorted(name for name in needing if not self.manifest.machines[name].is_local)
        if not machines:
            return
        from albor_pipeline.run import sending

        for got in sending.send(self.observer.project, self.fleet, machines, workers.run):
            for event in sending.events(got, len(self.observer.project.look())):
                report(event)
            if got.error:
                workers.lost(got.machine, got.error)

    def _needs_project(self, key: Key) -> bool:
        resource = self.manifest.resources.get(key.resource)
        if resource is None:
            return False
        fields: Any = resource.fields_on(key.machine)
        return isinstance(fields, Task) or (resource.kind == "python_env" and fields.wheels is not None)

    def _end(self, done: RunReport, folder: Path, papers: Papers, report: Reporter) -> RunReport:
        """Record the end of the run; when the disk fails here, the journal holds all results already."""
        try:
            self.folder.end_run(done.run, dict(done.counts), done.values if done.succeeded else None)
            self._send_heads(report)
            self.folder.save(folder / "report.json", papers.report(done))
        except AlborError as error:
            return replace(done, broken=error.diagnostics[0].message)
        return done

    def _last_run_seen(self) -> int:
        """The highest run that a machine remembers, so that a lost state folder never gives a number twice."""
        views = self.observed.machines.values()
        return max((int(attempt.run) for view in views for attempt in view.attempts if attempt.run.isdigit()), default=0)

    def _shown(self, folder: Path) -> str:
        """The run folder as a user would type it from the project folder."""
        root = Path(self.manifest.root).resolve()
        resolved = folder.resolve()
        return str(resolved.relative_to(root)) if resolved.is_relative_to(root) else str(resolved)

    def take_leases(self, report: Reporter = lambda event: None, leave: Callable[[], Leave] = lambda: Leave.NO) -> None:
        """Be the only controller of this lineage on each machine, and the one with the newest state.

        Raises LockedError with the holder's words, StateError when another was there since this one looked.
        """
        for name, head in leases.take(self.fleet, report, lambda: leave() is not Leave.NO).items():
            self._check_head(name, head)
        views = self.observed.machines
        gone = {name: replace(views[name], error=why) for name, why in self.fleet.errors.items() if name in views}
        self.observed = replace(self.observed, machines={**views, **gone})

    def _bind_machines(self) -> None:
        """Note which machines these are; what was recorded of another one of the same name is proven of this one no more."""
        known, entries = self.folder.state.machine_ids, self.folder.state.entries
        ids = {name: str(agent.hello["machine_id"]) for name, agent in self.fleet.agents.items()}
        others = {name for name, machine_id in ids.items() if known.get(name, machine_id) != machine_id}
        gone = [Transition("forgotten", key, None, f"{key.machine} is another machine") for key in entries if key.machine in others]
        if gone:
            self.folder.record(gone)
        for name, machine_id in ids.items():
            self.folder.bind_machine(name, machine_id)

    def _send_heads(self, report: Reporter) -> None:
        """Tell each machine how far the journal is; one that cannot note it, for want of room, hears it from the next run."""
        head = self.folder.head()
        for name, agent in list(self.fleet.agents.items()):
            try:
                agent.request("head", **head)
            except UnreachableError as error:
                self.fleet.lose(name, error)
            except AgentError as error:
                report(NoteEvent(f"{name} could not note how far this run came: {error.message}; the next run tells it again"))

    def _report(self, plan: Plan, ended: Ended, run: str, folder: str, stops: bool) -> RunReport:
        entries = self.folder.state.entries
        results = [(step.key, entries[step.key].in_force) for step in plan.steps if step.key in entries]
        stopped = stops and ended.counts["failed"] > 0
        return RunReport(
            run=run,
            folder=folder,
            counts=dict(ended.counts),
            interrupted=ended.left is not Leave.NO,
            still_running=ended.running,
            broken=ended.broken,
            outputs=tuple((key, path, proof) for key, result in results if result for path, proof in result.outputs.items()),
            summaries=tuple((key, result.summary) for key, result in results if result and result.summary),
            stopped=stopped,
            stale=ended.stale,
            lost=tuple(sorted(self.fleet.errors)),
            values={output.name: output.value for output in self.manifest.outputs},
        )


def _linted(manifest: Manifest) -> tuple[Diagnostic, ...]:
    from albor_pipeline.run import lint

    return lint.of_what_was_read(manifest)
