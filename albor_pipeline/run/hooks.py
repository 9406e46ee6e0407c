"""Hooks of the policy: commands on the controller before and after a run. A failing hook before it stops the run."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping

from albor_pipeline.errors import AlborError
from albor_pipeline.model.events import RunReport
from albor_pipeline.model.manifest import Manifest, told_mark

STDERR = 2
NOT_CONVERGED = ("unchanged", "failed", "cancelled", "held", "stale", "unreachable", "forgotten", "destroyed", "drifted", "not started")


def before(manifest: Manifest) -> None:
    """Run `policy.pre_apply`; raises AlborError when it fails, so nothing starts."""
    command = manifest.policy.pre_apply
    if command is not None and (code := _run(command, manifest.root)) != 0:
        raise AlborError.of("pre-apply", f"policy.pre_apply ended with exit {code}; nothing was started")


def after(manifest: Manifest, report: RunReport) -> None:
    """Run `post_apply` after full success, and the notice that fits; raises AlborError when post_apply fails.

    A notice is told the machines of the manifest and how many resources converged, stayed as they were, and failed.
    """
    policy = manifest.policy
    good = not (report.failed or report.broken or report.interrupted or report.counts.get("held"))
    notice = policy.on_success if good else policy.on_failure
    if notice is not None:
        _run(_told(notice, _values(manifest, report)), manifest.root)
    if good and policy.post_apply is not None and (code := _run(policy.post_apply, manifest.root)) != 0:
        raise AlborError.of("post-apply", f"policy.post_apply ended with exit {code}; the run itself is saved")


def on_drift(manifest: Manifest, count: int) -> None:
    """Run `notify.on_drift`, which is told the machines and how much drifted; its own end changes nothing."""
    notice = manifest.policy.on_drift
    if notice is not None:
        _run(_told(notice, {"machine": ",".join(manifest.machines), "drift_count": str(count)}), manifest.root)


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


def _run(command: str, root: str) -> int:
    """What a hook prints goes to stderr: stdout belongs to the result of the command."""
    argv = ["/bin/sh", "-c", command]
    return subprocess.run(argv, cwd=root, stdin=subprocess.DEVNULL, stdout=STDERR, check=False).returncode
