"""What the format has and this version has not. A key that a model declares is read, checked, and refused by name when a plan
needs it; one that no model declares is refused at once. Nothing is ignored. Data only.
"""

from __future__ import annotations

TOP = frozenset(("dist",))
MACHINE = frozenset(
    (
        "container",
        "pepita",
        "cost",
        "allowed_operators",
        "options",
        "become",
    )
)
POLICY = frozenset(
    (
        "tripwire", "lock_file", "serial", "max_fail_percentage", "convergence_budget", "snapshot_generations",
        "security_gate", "logs",
    )
)  # fmt: skip
RESOURCE = frozenset(("store",))
RECIPE = RESOURCE | {"triggers", "restart_on", "pre_apply", "post_apply", "sudo", "lifecycle", "arch"}
TASK_INSIDE = ("lifecycle.ignore_drift",)
TASK = frozenset(
    (
        "pre_apply", "post_apply", "sudo", "task_mode", "stages", "quality_gate", "gpu_device", "health_check", "restart", "restart_delay",
        "restart_policy", "scatter", "gather", "ranks_on", "contracts", "keep",
    )
)  # fmt: skip
KIND = {"task": TASK}
TYPES = frozenset(
    (
        "pepita", "image", "build",
    )
)  # fmt: skip
# What to use in place of a type that will not be brought about here; a plan that needs it is refused with this.
INSTEAD = {
    "pepita": "use `type: docker` for a place of its own, or a task under `systemd-run -p MemoryMax=... -p AllowedCPUs=...`",
    "image": "use a task that runs `docker build` or `podman build`, and `type: docker` for the container",
    "build": "use a task on the machine that builds, with `outputs`, and a task on the other machine that has it among its `inputs`",
}
NEW_FIRST = "lifecycle.create_before_destroy"
_THEN = "`--prune` takes the old one away when all else is done"
_BESIDE = f"declare the new one beside it, under another name; {_THEN}"
_ELSEWHERE = f"declare the new one beside it, under another name and at another path; {_THEN}"
# The types whose old one has to go before the new one is there, each with the reason; for all others the key says what is so anyway.
OLD_FIRST = {
    "docker": f"two containers cannot have one name: {_BESIDE}",
    "gpu": "two drivers cannot be installed at once: apt takes the old one away before it unpacks the new one",
    "mount": f"two things cannot be mounted at one path: {_ELSEWHERE}",
    "network": f"with ufw the rule as it was goes before the changed one comes: {_BESIDE}",
    "package": "each package manager has an order of its own, and some take the old version away first",
    "python_env": f"an environment is made afresh in its folder: {_ELSEWHERE}",
    "task": "its outputs are moved out of the way before it runs: let it write to another path, and a task after it rename that",
}
