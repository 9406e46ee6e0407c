"""Hooks of the policy: commands on the controller before and after a run. A failing hook before it stops the run.

What a hook prints is shown at once, masked, and kept in the folder of the run when the hook fails.
"""

from __future__ import annotations

import codecs
import io
import os
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from albor_pipeline.errors import AlborError
from albor_pipeline.model.events import NoteEvent, RunReport
from albor_pipeline.model.manifest import Manifest, told_mark
from albor_pipeline.run.converge import OUTPUT_CUT
from albor_pipeline.run.logs import keep

if TYPE_CHECKING:
    from albor_pipeline.run.secrets import Vault
    from albor_pipeline.run.workers import Run

STDERR = 2
TICK_S = 0.1
CHUNK_BYTES = 1 << 16
KEPT_CHARS = 4 << 20
NOT_CONVERGED = ("unchanged", "failed", "cancelled", "held", "stale", "unreachable", "forgotten", "destroyed", "drifted", "not started")


def before(run: Run) -> None:
    """Run `policy.pre_apply`; raises AlborError when it fails, so nothing starts."""
    command = run.manifest.policy.pre_apply
    if command is not None and (failed := _failure(run, "pre_apply", command)):
        raise AlborError.of("pre-apply", f"{failed[0]}; nothing was started", *failed[1:])


def after(run: Run, report: RunReport) -> None:
    """Run `post_apply` after full success, and the notice that fits; raises AlborError when post_apply fails.

    A notice is told the machines of the manifest and how many resources converged, stayed as they were, and failed.
    """
    policy = run.manifest.policy
    good = not (report.failed or report.broken or report.interrupted or report.counts.get("held"))
    name, notice = ("on_success", policy.on_success) if good else ("on_failure", policy.on_failure)
    if notice is not None and (failed := _failure(run, name, _told(notice, _values(run.manifest, report)))):
        run.report(NoteEvent("; ".join(failed)))
    if good and policy.post_apply is not None and (failed := _failure(run, "post_apply", policy.post_apply)):
        raise AlborError.of("post-apply", f"{failed[0]}; the run itself is saved", *failed[1:])


def on_drift(manifest: Manifest, vault: Vault, count: int) -> None:
    """Run `notify.on_drift`, which is told the machines and how much drifted; its own end changes nothing."""
    notice = manifest.policy.on_drift
    if notice is not None:
        _run(_told(notice, {"machine": ",".join(manifest.machines), "drift_count": str(count)}), manifest.root, vault)


def _told(notice: str, values: Mapping[str, str]) -> str:
    for word, value in values.items():
        notice = notice.replace(told_mark(word), value)
    return notice


def _values(manifest: Manifest, report: RunReport) -> dict[str, str]:
    converged = sum(number for word, number in report.counts.items() if word not in NOT_CONVERGED)
    return {
        "machine": ",".join(manifest.machines),
        "converged": str(converged),
        "unchanged": str(report.counts.get("unchanged", 0)),
        "failed": str(report.failed),
    }


def _failure(run: Run, name: str, command: str) -> tuple[str, ...]:
    """Nothing when the hook ends well, else how it ended and where what it printed is kept."""
    code, text = _run(command, run.manifest.root, run.vault)
    if code == 0:
        return ()
    what = f"policy.{'notify.' if name.startswith('on_') else ''}{name}"
    log = keep(run, run.state.hook_log_path(run.id, name), text, what)
    return (f"{what} ended with exit {code}", *([f"log: {log}"] if log else []))


def _run(command: str, root: str, vault: Vault) -> tuple[int, str]:
    """The exit code of a hook and what it printed, which goes to stderr: stdout belongs to the result of the command.

    It is read from a file without a name, not from a pipe: what the hook leaves running in the background can go on printing.
    """
    masker, decoder = vault.masker(), codecs.getincrementaldecoder("utf-8")("replace")
    said = io.StringIO()

    def show(text: str) -> None:
        with open(STDERR, "w", encoding="utf-8", errors="replace", closefd=False) as stderr:
            stderr.write(text)
        said.write(text if said.tell() < KEPT_CHARS else "")

    argv = ["/bin/sh", "-c", command]
    with (
        tempfile.TemporaryFile() as printed,
        subprocess.Popen(argv, cwd=root, stdin=subprocess.DEVNULL, stdout=printed, stderr=subprocess.STDOUT) as process,
    ):
        code, at = None, 0
        try:
            while code is None:
                with suppress(subprocess.TimeoutExpired):
                    code = process.wait(TICK_S)
                while data := os.pread(printed.fileno(), CHUNK_BYTES, at):
                    at += len(data)
                    show(masker.feed(decoder.decode(data)))
        except BaseException:
            process.kill()
            raise
    show(masker.feed(decoder.decode(b"", final=True)) + masker.end())
    cut = f"\n({OUTPUT_CUT})\n" if said.tell() >= KEPT_CHARS else ""
    return code, vault.mask(said.getvalue()) + cut
