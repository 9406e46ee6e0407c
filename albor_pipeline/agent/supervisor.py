"""One attempt from claim to proof, in a process that outlives agent and controller; then the next. Knows no wire and no other attempt.

Order: claim (the `alive` lock is held before the folder has its name) - report the number - clear outputs, look at inputs -
pid record durable - command started - wait (stage after stage) - command and descendants gone - outputs present, inputs
untouched, completion check, quality gate - digest - kept in the store - proof durable - `exit` by rename - end, which frees the lock.
Test hook: ALBOR_TEST_PAUSE=<window>:<seconds>, window one of claimed, started, exited, digesting, makes it sleep there.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time

from albor_pipeline.agent import attempts, child, claims, gate, gpulimits, liveness, logs, outputs, verdict
from albor_pipeline.agent.layout import Layout, quote, read_json, to_json, utc, write_all, write_file
from albor_pipeline.agent.probe import new_cache
from albor_pipeline.agent.reserve import Reserve
from albor_pipeline.agent.results import Results

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

CHECK_TIMEOUT_S = 600.0
PROOF_RETRY_S = 1.0
DISK_FULL = ", and the disk is full where it ran"
SUMMARY_KEYS = ("headline", "metrics")


def pause(window: str) -> None:
    """Sleep when the test hook names this window."""
    for item in os.environ.get("ALBOR_TEST_PAUSE", "").split(","):
        name, _colon, seconds = item.partition(":")
        if name == window:
            time.sleep(float(seconds))


def begin() -> None:
    """Become a process that can supervise: own session, parent of all orphans, signals taken when waited for."""
    signal.pthread_sigmask(signal.SIG_BLOCK, child.WATCHED)
    os.setsid()
    child.become_subreaper()


def supervise(
    layout: Layout, machine: str, spec: Mapping[str, Any], report: Callable[[Mapping[str, Any]], None]
) -> bool:
    """Run one attempt to its proof; `report` is told once, the claim or its refusal, before anything is started.

    True when nothing is left of it and this process may take another. Signals meant for an earlier attempt are dropped.
    """
    while child.take_signal(child.WATCHED, 0.0):
        pass
    try:
        claim = claims.claim(layout, spec)
    except attempts.AttemptError as error:
        report({"code": error.code, "message": error.message, "attempt": error.attempt})
        return True
    except (OSError, ValueError) as error:
        report({"code": "io", "message": "cannot make an attempt folder: %s" % error})
        return True
    report({"number": claim.spec["number"], "folder": layout.relative(claim.folder)})
    pause("claimed")
    kept_back = {"env": spec.get("env") or {}, "secrets": spec.get("secrets") or ()}
    proven = Attempt(layout, machine, {**claim.spec, **kept_back}, claim.folder).run()
    if proven:
        claim.let_go()
    return proven


class Attempt:
    """A claimed attempt and what is needed to bring it to an end."""

    def __init__(self, layout: Layout, machine: str, spec: Mapping[str, Any], folder: str) -> None:
        self._layout = layout
        self._spec = spec
        self._folder = folder
        self._base = os.path.dirname(folder)
        self._alive = os.path.join(folder, "alive")
        self._log_path = os.path.join(folder, "log")
        self._log = os.open(self._log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        os.dup2(self._log, 1)
        os.dup2(self._log, 2)
        self._reserve = Reserve(folder)
        self._cache = new_cache(layout)
        self._files = outputs.Files(layout, spec, self._cache)
        self._grace_s = attempts.grace_s(spec)
        self._leftover: tuple[float, int] = (0.0, 0)
        self._began = time.monotonic()
        self._tries = 0
        self._gate = ""
        self._env = self._environment(machine)

    def _environment(self, machine: str) -> dict[str, str]:
        spec, layout = self._spec, self._layout
        work = os.path.join(layout.work, quote(spec["resource"]), spec["fingerprint"][:12])
        os.makedirs(work, exist_ok=True)
        slots = spec["slots"]
        env = dict(_inherited())
        if "gpu" in slots:
            env["CUDA_VISIBLE_DEVICES"] = env["HIP_VISIBLE_DEVICES"] = ",".join(str(gpu) for gpu in slots["gpu"])
        if slots.get("cpu"):
            env["OMP_NUM_THREADS"] = str(slots["cpu"])
        env.update(gpulimits.told(layout.workdir, slots.get("gpu")))
        env.update(spec["env"])
        env["ALBOR_ATTEMPT"] = self._folder
        env["ALBOR_WORK"] = work
        env["ALBOR_HEARTBEAT"] = os.path.join(self._folder, "heartbeat")
        env["ALBOR_MACHINE"] = machine
        env["ALBOR_GRACE_S"] = f"{self._grace_s:g}"
        return env

    def run(self) -> bool:
        """Start, wait, retry where the spec says so, prove the end; True when it is proven and the log let go."""
        try:
            if self._spec.get("clear_outputs"):
                self._files.clear(self._base)
            self._files.watch_inputs()
            self._record()
            found = self._run_tries()
        except (outputs.OutputError, OSError) as error:
            found = verdict.Verdict(verdict.ERROR, _text(error))
        proven = self._prove(found)
        os.chdir(self._layout.workdir)
        for descriptor in (1, 2):
            os.dup2(0, descriptor)
        os.close(self._log)
        return proven

    def _run_tries(self) -> verdict.Verdict:
        retry = self._spec.get("retry") or {}
        allowed, classes = int(retry.get("attempts") or 1), retry.get("on") or ()
        while True:
            self._tries += 1
            found = self._run_once()
            if found.exit_class not in classes or self._tries >= allowed:
                return found
            self._note("try %d of %d after: %s" % (self._tries + 1, allowed, found.detail))
            if self._asked_to_stop(float(retry.get("backoff_s") or 0.0)):
                return verdict.Verdict(verdict.CANCELLED, "cancelled between two tries", found.code)
            if self._spec.get("clear_outputs"):
                self._files.clear(self._base, own=True)

    def _asked_to_stop(self, wait_s: float) -> bool:
        deadline = time.monotonic() + wait_s
        while True:
            left = deadline - time.monotonic()
            number = child.take_signal(child.WATCHED - child.CHILD_ENDED, left)
            if number == 0 or self._is_meant(number):
                return number != 0

    def _is_meant(self, number: int) -> bool:
        """A cancel counts when it lies in this attempt's folder: one sent to the attempt before may arrive now."""
        return number != signal.SIGUSR1 or os.path.exists(os.path.join(self._folder, "cancel"))

    def _run_once(self) -> verdict.Verdict:
        stages = self._spec.get("stages") or ({"name": "", "argv": self._spec["argv"]},)
        began, start, self._gate = time.monotonic(), os.fstat(self._log).st_size, ""
        for number, stage in enumerate(stages, start=1):
            name = "stage %d of %d, %s" % (number, len(stages), stage["name"]) if stage["name"] else ""
            found = self._run_stage(stage["argv"], name, began, number == len(stages))
            if found.exit_class != verdict.OK:
                if name:
                    found.detail = "stage `%s`: %s" % (stage["name"], found.detail)
                return found
        found = self._judge(found)
        return self._pass_gate(found, start) if found.exit_class == verdict.OK and self._spec.get("quality_gate") else found

    def _run_stage(self, argv: Sequence[str], name: str, began: float, is_last: bool) -> verdict.Verdict:
        """One command to its end; what it leaves running stays for the stages after it, and goes with the last or a failed one."""
        oom_before, since = verdict.oom_kills(), time.monotonic()
        if name:
            self._note(name)
        try:
            process = self._launch(argv)
        except OSError as error:
            self._note(_text(error))
            child.end_descendants(*self._leftover)
            return verdict.Verdict(verdict.ERROR, "cannot be run: " + _text(error))
        pause("started")
        stopped = self._wait(process, self._spec.get("timeout_s"), self._spec.get("heartbeat_s"), began)
        if is_last or stopped is not None or process.status != 0:
            child.end_descendants(*self._leftover)
        os.utime(self._alive)
        pause("exited")
        assert process.status is not None
        uses_gpu = bool(self._spec["slots"].get("gpu"))
        found = verdict.of_status(process.status, self._log_path, oom_before, uses_gpu)
        if stopped is not None:
            found = verdict.Verdict(stopped.exit_class, stopped.detail, found.code, found.signal)
        if name:
            self._note("%s: %s after %.1f s" % (name, found.detail or "done", time.monotonic() - since))
        return found

    def _launch(self, argv: Sequence[str]) -> child.Child:
        folder = self._layout.path(self._spec.get("cwd") or ".")
        os.chdir(folder)
        self._env["PWD"] = folder
        return child.Child([word.replace("{attempt}", self._folder) for word in argv], self._env)

    def _record(self) -> None:
        """Make durable what finds this attempt's processes if the supervisor is killed."""
        body = {**liveness.identity(os.getpid()), "at": time.time(), "slots": self._spec["slots"]}
        write_file(os.path.join(self._folder, "pid"), to_json(body), sync=True)

    def _wait(
        self, process: child.Child, timeout_s: float | None, heartbeat_s: float | None, since: float | None = None
    ) -> verdict.Verdict | None:
        """Until the command is gone; what it was stopped for, None when it ended by itself. `since` is when its time began, if not now.

        Sets the patience with what it leaves: a shell that is stopped is gone before the trainer that it started, which may save.
        """
        began = time.monotonic()
        deadline = (began if since is None else since) + timeout_s if timeout_s else None
        pulse = Pulse(self._env["ALBOR_HEARTBEAT"], heartbeat_s, began)
        self._leftover = (min(self._grace_s, child.LEFTOVER_GRACE_S), 0)
        cap, times = logs.Cap(self._log), logs.Times(self._log, self._log_path)
        while True:
            now = time.monotonic()
            limits = [child.SLICE_S]
            if deadline is not None:
                limits.append(deadline - now)
            if heartbeat_s:
                limits.append(pulse.left(now))
            number = process.wait(min(limits))
            if process.reap():
                return None
            reason = self._reason(number, deadline, timeout_s, pulse, heartbeat_s)
            if reason is not None:
                self._leftover = (max(self._leftover[0], process.stop(self._grace_s)), process.pid)
                return reason
            cap.apply()
            times.mark()
            os.utime(self._alive)

    def _reason(
        self, number: int, deadline: float | None, timeout_s: float | None, pulse: Pulse, heartbeat_s: float | None
    ) -> verdict.Verdict | None:
        now = time.monotonic()
        if number not in (0, signal.SIGCHLD) and self._is_meant(number):
            if number == signal.SIGUSR1:
                return verdict.Verdict(verdict.CANCELLED, "cancelled")
            return verdict.Verdict(
                verdict.KILLED, "its supervisor was told to stop by %s" % signal.Signals(number).name
            )
        if deadline is not None and now >= deadline:
            return verdict.Verdict(verdict.TIMEOUT, "still running after %g s" % (timeout_s or 0.0))
        if heartbeat_s and pulse.left(now) <= 0:
            return verdict.Verdict(verdict.HANG, "no heartbeat for %g s" % heartbeat_s)
        return None

    def _judge(self, found: verdict.Verdict) -> verdict.Verdict:
        """What an exit 0 is worth: outputs there, inputs untouched, completion check passed."""
        try:
            self._files.check_present()
            self._files.check_inputs()
        except (outputs.OutputError, OSError) as error:
            return verdict.Verdict(verdict.ERROR, _text(error), found.code)
        check = self._spec.get("completion_check")
        if not check:
            return found
        try:
            process = self._launch(check)
        except OSError as error:
            return verdict.Verdict(verdict.ERROR, "completion_check cannot be run: " + _text(error), found.code)
        stopped = self._wait(process, self._spec.get("timeout_s") or CHECK_TIMEOUT_S, None)
        child.end_descendants(*self._leftover)
        if stopped is not None and stopped.exit_class == verdict.CANCELLED:
            return stopped
        if stopped is not None or process.status != 0:
            detail = "completion_check did not pass: %s" % (stopped.detail if stopped else "exit %s" % _code(process))
            return verdict.Verdict(verdict.ERROR, detail, found.code)
        return found

    def _pass_gate(self, found: verdict.Verdict, start: int) -> verdict.Verdict:
        """What an attempt that is otherwise well is worth by its quality gate; `start` is where its log began."""
        asked = self._spec["quality_gate"]
        printed, code, why = b"", 0, ""
        try:
            if asked.get("command"):
                code, stopped, printed = self._listen(asked["command"])
                if stopped is not None and stopped.exit_class in (verdict.CANCELLED, verdict.KILLED):
                    return stopped
                why = "its command is %s" % stopped.detail if stopped is not None else ""
            else:
                with open(self._log_path, "rb") as log:
                    log.seek(max(start, log.seek(0, os.SEEK_END) - gate.READ_BYTES))
                    printed = log.read(gate.READ_BYTES)
        except OSError as error:
            why = "it cannot be judged: " + _text(error)
        for secret in self._spec["secrets"]:
            printed = printed.replace(secret.encode("utf-8", "surrogateescape"), b"***")
        why = why or gate.why_not(asked, printed, code)
        if not why:
            return found
        said = "quality_gate did not pass: %s" % (": ".join(filter(None, (asked.get("message"), why))))
        self._note(said)
        if asked["on_fail"] == "block":
            return verdict.Verdict(verdict.ERROR, said, found.code)
        self._gate = said.partition(": ")[2]
        return verdict.Verdict(verdict.OK, said, found.code)

    def _listen(self, argv: Sequence[str]) -> tuple[int, verdict.Verdict | None, bytes]:
        """Run a command for what it prints: its exit code, what it was stopped for, and the last of its stdout, which the log gets too."""
        path = os.path.join(self._folder, "gate.out")
        out = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.unlink(path)
            os.dup2(out, 1)
            try:
                process = self._launch(argv)
            finally:
                os.dup2(self._log, 1)
            stopped = self._wait(process, self._spec.get("timeout_s") or CHECK_TIMEOUT_S, None)
            child.end_descendants(*self._leftover)
            printed = os.pread(out, gate.READ_BYTES, max(0, os.fstat(out).st_size - gate.READ_BYTES))
        finally:
            os.close(out)
        with contextlib.suppress(OSError):
            write_all(self._log, printed)
        status = process.status or 0
        return (os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)), stopped, printed

    def _prove(self, found: verdict.Verdict) -> bool:
        proofs: dict[str, Any] = {}
        leftovers: list[str] = []
        if self._reserve.give_back() and found.exit_class == verdict.ERROR:
            found.detail += DISK_FULL
            self._note(found.detail)
        os.utime(self._alive)
        pause("digesting")
        if found.exit_class == verdict.OK:
            try:
                proofs = self._files.proofs()
            except (outputs.OutputError, OSError, RuntimeError) as error:
                found = verdict.Verdict(verdict.ERROR, _text(error), found.code)
        if found.exit_class != verdict.OK and self._spec.get("clear_outputs"):
            leftovers = self._files.leftovers()
        spec = self._spec
        end = {**found.body(), "seconds": round(time.monotonic() - self._began, 3), "at_utc": utc(), "outputs": proofs}
        end["summary"] = {**self._summary(), **({"gate": self._gate} if self._gate and found.exit_class == verdict.OK else {})}
        if found.exit_class == verdict.OK and spec.get("keep") and self._files.trees:
            self._keep(end)
        keys = ("resource", "number", "fingerprint", "lineage", "run", "started_utc", "boot", "parts", "slots")
        body = {"version": attempts.VERSION, **{key: spec.get(key) for key in keys}, "exit": end}
        body.update(kept=self._files.kept, tries=max(1, self._tries), leftovers=leftovers)
        while True:
            try:
                attempts.write_proof(self._folder, body)
                return True
            except OSError as error:
                self._note("the proof cannot be written, trying again: " + _text(error))
                if self._asked_to_stop(PROOF_RETRY_S):
                    return False

    def _keep(self, end: dict[str, Any]) -> None:
        """Keep the outputs in the store; that it cannot be done costs nothing but the way back, and is told with the end."""
        try:
            why = Results(self._layout, self._cache).keep(self._spec, end, self._files.trees)
        except OSError as error:
            why = "the outputs are not kept: " + _text(error)
        if why:
            self._note(why)
            end["detail"] = "; ".join(filter(None, (end["detail"], why)))

    def _summary(self) -> dict[str, Any]:
        value = read_json(os.path.join(self._folder, "result.json")) or {}
        return {key: value[key] for key in SUMMARY_KEYS if key in value}

    def _note(self, text: str) -> None:
        try:
            write_all(self._log, ("albor: %s\n" % text).encode("utf-8", "replace"))
        except OSError:
            return


_own_environment: dict[str, str] = {}


def _inherited() -> dict[str, str]:
    """The environment of this process, which nothing in it changes; read once."""
    if not _own_environment:
        _own_environment.update((key, value) for key, value in os.environ.items() if key != "ALBOR_TEST_PAUSE")
    return _own_environment


class Pulse:
    """The task's heartbeat file: by whether its stamp changes, never by comparing it with a clock."""

    def __init__(self, path: str, limit_s: float | None, began: float) -> None:
        self._path = path
        self._limit_s = limit_s or 0.0
        self._stamp = self._read()
        self._since = began

    def _read(self) -> int:
        try:
            return os.stat(self._path).st_mtime_ns
        except OSError:
            return 0

    def left(self, now: float) -> float:
        """Seconds until the silence is too long."""
        stamp = self._read()
        if stamp != self._stamp:
            self._stamp, self._since = stamp, now
        return self._since + self._limit_s - now


def _code(process: child.Child) -> str:
    status = process.status or 0
    return str(os.WEXITSTATUS(status)) if os.WIFEXITED(status) else "by signal %d" % os.WTERMSIG(status)


def _text(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return "%s: %s" % (error.filename, error.strerror) if error.filename else error.strerror
    return str(error)
