"""Build: a file that one machine builds and another receives. Declares the fields; builds nothing."""

from __future__ import annotations

from typing import Annotated, Literal

from albor_pipeline.resources.fields import CONTENT, DOC, POLICY, Fields, PathText, Text


class Build(Fields):
    """The fields of a build; `source` is the path on `build_machine`, `target` the one on the machine that receives it."""

    build_machine: Annotated[Text, CONTENT]
    command: Annotated[Text, CONTENT]
    source: Annotated[PathText, CONTENT]
    target: Annotated[PathText, CONTENT]
    state: Annotated[Literal["present"], CONTENT] = "present"
    working_dir: Annotated[PathText | None, CONTENT] = None
    completion_check: Annotated[Text | None, POLICY] = None
    description: Annotated[str, DOC] = ""
