"""What a transport is: it opens a channel of bytes to an agent on a machine. Knows no verb and no state."""

from __future__ import annotations

from typing import Protocol

from albor_pipeline.model.manifest import Machine
from albor_pipeline.transport.client import AgentClient


class Transport(Protocol):
    """One way to reach machines."""

    def connect(self, machine: Machine, root: str, lineage: str, *, attempts: str = "all") -> AgentClient:
        """A client that has said hello; `root` is the project folder, `attempts` what hello lists: all, open or none.

        Raises UnreachableError that names the machine.
        """
        ...
