"""Limits of a card's memory: files of the machine that gpu resources leave, told to every task that may use the card."""

from __future__ import annotations

import os

from albor_pipeline.agent.layout import quote, read_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

FOLDER = ".albor/gpu"
VARIABLE = "ALBOR_GPU_MEMORY_LIMIT_MB"


def file_of(resource: str) -> str:
    """Where the limit of a resource lies, seen from the workdir. Raises BadName."""
    return "%s/%s" % (FOLDER, quote(resource))


def told(workdir: str, gpus: Collection[int] | None) -> dict[str, str]:
    """What a task's environment says of limits: the least of those that are for a card it sees; all cards when `gpus` is None."""
    folder = os.path.join(workdir, FOLDER)
    try:
        names = os.listdir(folder)
    except OSError:
        return {}
    limits = []
    for name in names:
        body = read_json(os.path.join(folder, name)) or {}
        devices, limit = body.get("devices") or [], body.get("limit_mb")
        if isinstance(limit, int) and (gpus is None or any(not devices or gpu in devices for gpu in gpus)):
            limits.append(limit)
    return {VARIABLE: str(min(limits))} if limits else {}
