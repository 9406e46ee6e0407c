"""Image: a container image that forjar builds. Declares the fields, those of a file and its own; a plan that needs one is refused."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from albor_pipeline.resources.fields import CONTENT, Text
from albor_pipeline.resources.file import File
from albor_pipeline.resources.formats import Word


class Image(File):
    """A container image that is built from a plan file; it takes the fields of a file too."""

    name: Annotated[Word | None, CONTENT, Field(description="the name of the image")] = None
    version: Annotated[Word | None, CONTENT, Field(description="its version")] = None
    image: Annotated[Word | None, CONTENT, Field(description="the image it starts from")] = None
    command: Annotated[Text | None, CONTENT, Field(description="the command it runs")] = None
