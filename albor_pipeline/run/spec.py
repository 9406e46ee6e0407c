"""The start request of a task: everything its attempt needs to run without us. Sends nothing."""

from __future__ import annotations

import sys
from collections.abc import Container, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from albor_pipeline.agent.hashing import digest_bytes
from albor_pipeline.model.fingerprint import Fingerprint
from albor_pipeline.model.manifest import Machine, Slots
from albor_pipeline.model.plan import Action
from albor_pipeline.model.resource import Key, Resource
from albor_pipeline.plan.judge import may_be_kept
from albor_pipeline.resources.task import Task
from albor_pipeline.resources.task_blocks import QualityGate
from albor_pipeline.run.code import RUNNER

BASH = "/bin/bash"
IN_ENVIRONMENT = (BASH, "-c", 'export PATH="$0:$PATH" VIRTUAL_ENV="${0%/bin}"; exec /bin/bash "$@"')
STRICT = ("-euo", "pipefail")
MAX_ARGUMENT_BYTES = 100_000  # Linux takes 128 KiB for one argument


@dataclass(frozen=True)
class Start:
    """One task that is about to start, with what was decided about it; `absent` are inputs that its machine does not vouch for."""

    key: Key
    resource: Resource
    machine: Machine
    wanted: Fingerprint
    action: Action
    number: int
    run: str
    workdir: str
    total: Slots
    config: str | None = None
    python: str | None = None
    code: str | None = None
    stamps: Mapping[str, str] = field(default_factory=dict)
    absent: Container[str] = ()


def code_digest(files: Mapping[str, str]) -> str:
    """The name of a code snapshot: the digest of its file list."""
    return digest_bytes("\n".join(f"{path} {digest}" for path, digest in sorted(files.items())).encode())


def request(start: Start, lineage: str) -> dict[str, Any]:
    """The arguments of the agent's `start`."""
    task: Task = start.resource.fields_on(start.key.machine)
    retry = task.retry
    files = {"config.json": start.config} if start.config is not None else {}
    return {
        "resource": start.key.resource,
        "number": start.number,
        "fingerprint": start.wanted.digest(digest_bytes),
        "parts": start.wanted.parts,
        "lineage": lineage,
        "run": start.run,
        **_work(start, task, files),
        "cwd": task.working_dir or ".",
        "env": {**start.machine.env, **task.env, **_stage_env(start)},
        "outputs": [{"path": output.path, "volatile": output.volatile} for output in task.outputs],
        "clear_outputs": True,
        "keep": ("all" if start.resource.store else "cheap") if may_be_kept(task) else "",
        "timeout_s": task.timeout_s,
        "grace_s": task.grace,
        "heartbeat_s": task.heartbeat_s,
        "retry": {"attempts": retry.attempts, "backoff_s": retry.backoff, "on": list(retry.on)} if retry else None,
        "completion_check": [BASH, *_script(task.completion_check, "check.sh", files)] if task.completion_check else None,
        "quality_gate": _gate(task.quality_gate, files) if task.quality_gate else None,
        "needs": {"gpu": task.gpus, "gpu_device": task.gpu_device, "cpu": task.needs.cpu, "memory_bytes": task.needs.memory},
        "total": asdict(start.total),
        "files": files,
        "inputs": [
            {"path": path, "root": root, "sig": start.stamps.get(path, "")}
            for path, root in start.wanted.parts.get("inputs", {}).items()
            if root != "missing" and path not in start.absent
        ],
        "code": start.code,
    }


def _work(start: Start, task: Task, files: dict[str, str]) -> dict[str, Any]:
    """What is run: one command, or the stages of a pipeline by name, one after the other."""
    resumed = task.resume_command if start.action is Action.RESUME else None
    if task.stage is not None:
        module = RUNNER.removesuffix(".py").replace("/", ".")
        return {"argv": [str(_interpreter(start)), "-m", module, task.stage, "apply", "{attempt}/config.json"]}
    if resumed is not None or not task.stages:
        return {"argv": _shell(start, _script(resumed or task.command or "", "command.sh", files))}
    scripts = [_script(stage.command or ":", f"stage-{number}.sh", files) for number, stage in enumerate(task.stages, start=1)]
    argvs = [_shell(start, [*STRICT, *script]) for script in scripts]
    return {"stages": [{"name": stage.name, "argv": argv} for stage, argv in zip(task.stages, argvs, strict=True)]}


def _shell(start: Start, words: list[str]) -> list[str]:
    return [BASH, *words] if start.python is None else [*IN_ENVIRONMENT, str(_interpreter(start).parent), *words]


def _gate(gate: QualityGate, files: dict[str, str]) -> dict[str, Any]:
    """The quality gate as the agent judges by it."""
    command = [BASH, *_script(gate.command, "gate.sh", files)] if gate.command is not None else None
    return {**gate.model_dump(exclude_none=True), "command": command}


def _interpreter(start: Start) -> Path:
    return Path(start.workdir) / start.python if start.python else Path(sys.executable)


def _stage_env(start: Start) -> dict[str, str]:
    if start.code is None:
        return {}
    folder = Path(start.workdir) / ".albor" / "code" / start.code
    return {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONSAFEPATH": "1"}


def _script(command: str, name: str, files: dict[str, str]) -> list[str]:
    """What bash is told to run a command that shares no stdin with anything of ours: its text, or a file when that is too long."""
    if len(command.encode("utf-8", "surrogateescape")) <= MAX_ARGUMENT_BYTES:
        return ["-c", command]
    files[name] = command
    return ["{attempt}/" + name]

