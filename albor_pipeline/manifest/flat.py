"""The keys that forjar takes on a resource of any type, whether they mean something there or not. Data and one question."""

from __future__ import annotations

from typing import Any

from albor_pipeline.resources.fields import typed

ANYWHERE = frozenset(
    (
        "state", "provider", "packages", "version", "path", "content", "source", "target", "owner", "group", "mode",
        "name", "enabled", "fstype", "options", "uid", "shell", "home", "groups", "ssh_authorized_keys", "system_user",
        "schedule", "command", "image", "ports", "environment", "volumes", "restart", "protocol", "port", "action",
        "from", "recipe", "inputs", "chroot_dir", "namespace_uid", "namespace_gid", "seccomp", "netns", "cpuset",
        "memory_limit", "overlay_lower", "overlay_upper", "overlay_work", "overlay_merged", "format", "quantization",
        "checksum", "cache_dir", "gpu_backend", "driver_version", "cuda_version", "rocm_version", "devices",
        "persistence_mode", "compute_mode", "gpu_memory_limit_mb", "task_mode", "task_inputs", "output_artifacts",
        "completion_check", "timeout", "working_dir", "stages", "cache", "gpu_device", "restart_delay", "quality_gate",
        "health_check", "restart_policy", "gather", "scatter", "script", "build_machine", "repo", "tag",
        "asset_pattern", "binary", "install_dir",
    )
)  # fmt: skip


def asks_nothing(value: Any) -> bool:
    """True for a raw value that is written out and empty: null, false, empty text, an empty list or mapping."""
    return typed(value) in (None, False, "", [], {})
