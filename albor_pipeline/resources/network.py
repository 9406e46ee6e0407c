"""Network: a firewall rule for one port. Declares the fields; touches no firewall."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from albor_pipeline.resources.fields import CONTENT, DOC, Fields, Text
from albor_pipeline.resources.formats import NetworkAddress, Port


class Network(Fields):
    """A firewall rule for one port; without `from` it is about everybody."""

    port: Annotated[Port, CONTENT, Field(description="the port that it is about")]
    state: Annotated[Literal["present", "absent"], CONTENT, Field(description="whether the rule is there")] = "present"
    protocol: Annotated[Literal["tcp", "udp"], CONTENT, Field(description="the protocol")] = "tcp"
    action: Annotated[
        Literal["allow", "deny", "reject"], CONTENT, Field(description="what becomes of a connection")
    ] = "allow"
    from_: Annotated[
        NetworkAddress | None, CONTENT, Field(alias="from", description="the address or the network it is about")
    ] = None
    name: Annotated[Text | None, CONTENT, Field(description="a comment at the rule")] = None
    description: Annotated[str, DOC, Field(description="a sentence for readers")] = ""
