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
        "tripwire", "lock_file", "serial", "max_fail_percentage", "ssh_retries", "convergence_budget",
        "snapshot_generations", "security_gate", "logs",
    )
)  # fmt: skip
RESOURCE = frozenset(("store",))
RECIPE = RESOURCE | {"triggers", "restart_on", "pre_apply", "post_apply", "sudo", "lifecycle", "arch"}
TASK_INSIDE = ("lifecycle.ignore_drift",)
RESOURCE_INSIDE = ("lifecycle.create_before_destroy",)
TASK = frozenset(
    (
        "pre_apply", "post_apply", "sudo", "task_mode", "stages", "quality_gate", "gpu_device", "health_check", "restart", "restart_delay",
        "restart_policy", "scatter", "gather", "ranks_on", "contracts", "keep",
    )
)  # fmt: skip
KIND = {"task": TASK}
TYPES = frozenset(
    (
        "docker", "pepita", "gpu",
        "wasm_bundle", "image", "build", "github_release",
    )
)  # fmt: skip
