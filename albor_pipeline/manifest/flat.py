"""The keys that forjar takes on a resource of any type, whether they mean something there or not: ours takes those that do.

A manifest that a program wrote lists all of them, most of them empty; that asks for nothing. One with a value is a warning.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from albor_pipeline.manifest.nodes import Table
from albor_pipeline.manifest.schema import Block, Reader
from albor_pipeline.manifest.sections import CommonFields
from albor_pipeline.resources.fields import keys_of, typed
from albor_pipeline.resources.registry import KINDS

OURS = frozenset(("python_env",))
OF_FORJAR = KINDS.keys() - OURS

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


@cache
def foreign(kind: str) -> frozenset[str]:
    """The keys that forjar takes on a type and that mean nothing there."""
    known = KINDS[kind]
    return ANYWHERE - {*keys_of(known.model), *known.names, *keys_of(CommonFields)} if kind in OF_FORJAR else frozenset()


def own_part(reader: Reader, table: Table, kind: str, block: Block) -> Table:
    """The table without the keys that only other types take; each of them that asks for something is a warning."""
    theirs = foreign(kind)
    found = [key for key in table.items if key in theirs]
    if not found:
        return table
    rest = Table(table.start)
    rest.end, rest.items = table.end, {key: pair for key, pair in table.items.items() if key not in theirs}
    for key in found:
        written, node = table.items[key]
        if not _asks_nothing(reader.raw(node, None)):
            message, place = f"`{key}` has no effect on {block.owner}", reader.text.of(written)
            reader.problems.warning("no-effect", message, place, "", (block.takes,))
    return rest


def _asks_nothing(value: Any) -> bool:
    """True for a raw value that is written out and empty: null, false, empty text, an empty list or mapping."""
    return typed(value) in (None, False, "", [], {})
