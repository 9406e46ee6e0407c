"""Image: a container image that is built from a plan file. Declares the fields, those of a file and its own; builds nothing."""

from __future__ import annotations

from typing import Annotated

from albor_pipeline.resources.fields import CONTENT, Text
from albor_pipeline.resources.file import File
from albor_pipeline.resources.formats import Word


class Image(File):
    """The fields of an image; `image` is what it starts from, `name` and `version` what it is called."""

    name: Annotated[Word | None, CONTENT] = None
    version: Annotated[Word | None, CONTENT] = None
    image: Annotated[Word | None, CONTENT] = None
    command: Annotated[Text | None, CONTENT] = None
