"""Code snapshots: what is hashed is what runs. Sends the files of a closure to a machine once, by digest."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from albor_pipeline.errors import AlborError
from albor_pipeline.run.code import CodeReader
from albor_pipeline.run.fleet import Fleet
from albor_pipeline.run.spec import code_digest
from albor_pipeline.transport.client import AgentError


class CodeSender:
    """Remembers what each machine has been given in this run."""

    def __init__(self, root: Path, fleet: Fleet) -> None:
        self._root = root
        self._fleet = fleet
        self._sent: set[tuple[str, str]] = set()

    def ensure(self, machine: str, files: Mapping[str, str]) -> str:
        """Make `.albor/code/<digest>/` on the machine; returns the digest.

        Raises AlborError when a file is no longer the one that was planned, since what runs is what was hashed, and when they find no room.
        """
        digest = code_digest(files)
        if (machine, digest) in self._sent:
            return digest
        bodies = {path: (self._root / path).read_bytes() for path in files}
        now = CodeReader(self._root).closure(*files).files
        moved = [path for path in files if now.get(path) != files[path]]
        if moved:
            raise AlborError.of("stale", f"plan is stale: {moved[0]} changed since it was made", "run the same command again")
        try:
            self._fleet.agents[machine].put_code(digest, bodies)
        except AgentError as error:
            raise AlborError.of("no-code", f"{machine} does not take the code of the stage: {error.message}") from None
        self._sent.add((machine, digest))
        return digest
