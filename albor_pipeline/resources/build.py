"""Build: a file that one machine builds and another receives. Declares the fields; a plan that needs one is refused."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from albor_pipeline.resources.fields import CONTENT, DOC, POLICY, Fields, PathText, Text


class Build(Fields):
    """A file that one machine builds and another receives."""

    build_machine: Annotated[Text, CONTENT, Field(description="the machine that builds")]
    command: Annotated[Text, CONTENT, Field(description="the shell command that builds")]
    source: Annotated[PathText, CONTENT, Field(description="the path that is built, on the machine that builds")]
    target: Annotated[PathText, CONTENT, Field(description="the path it gets on the machine of the resource")]
    state: Annotated[Literal["present"], CONTENT, Field(description="whether it is there")] = "present"
    working_dir: Annotated[PathText | None, CONTENT, Field(description="the folder the command runs in")] = None
    completion_check: Annotated[
        Text | None, POLICY, Field(description="a shell command that exits 0 when the file is in place")
    ] = None
    description: Annotated[str, DOC, Field(description="a sentence for readers")] = ""
