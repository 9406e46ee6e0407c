"""What the format has and this version has not. A key that a model declares is read, checked, and refused by name when a plan
needs it; one that no model declares is refused at once. Nothing is ignored. Data only.
"""

from __future__ import annotations

TOP = frozenset(("dist",))
MACHINE = frozenset(
    (
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
_UNIT = "what goes on for ever is a service: `type: file` for its unit, with `Restart=` and `RestartSec=`, and `type: service`"
# Each with what to do instead, where there is that.
TASK = dict.fromkeys(("pre_apply", "post_apply", "sudo", "ranks_on", "contracts", "keep"), "") | {
    "health_check": "declare it as `type: service`: half a second after its start it must run, and a `post_apply` may ask it more",
    **dict.fromkeys(("restart", "restart_delay", "restart_policy"), _UNIT),
    "scatter": "name it among `inputs`: what a task on another machine makes is brought here before this one starts",
    "gather": "name it among `outputs`, and among the `inputs` of a task on the other machine: it is brought there",
}
MODES = {
    "service": "write its unit with `type: file`, and declare it with `type: service`, which `triggers` on that file",
    "dispatch": "leave `task_mode` out, and run it when you want it: apply --target NAME --force",
}
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
