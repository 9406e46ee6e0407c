"""Network: a firewall rule for one port. Declares the fields; touches no firewall."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from albor_pipeline.resources.fields import CONTENT, DOC, Fields, Text
from albor_pipeline.resources.formats import NetworkAddress, Port


class Network(Fields):
    """The fields of a rule; `from` is who it is about, everybody when it is left out; `name` is the rule's comment."""

    port: Annotated[Port, CONTENT]
    state: Annotated[Literal["present", "absent"], CONTENT] = "present"
    protocol: Annotated[Literal["tcp", "udp"], CONTENT] = "tcp"
    action: Annotated[Literal["allow", "deny", "reject"], CONTENT] = "allow"
    from_: Annotated[NetworkAddress | None, Field(alias="from"), CONTENT] = None
    name: Annotated[Text | None, CONTENT] = None
    description: Annotated[str, DOC] = ""
