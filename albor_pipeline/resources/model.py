"""Model: the files of a language model on the machine. Declares the fields; downloads nothing."""

from __future__ import annotations

from typing import Annotated, Literal

from albor_pipeline.resources.fields import CONTENT, DOC, Fields, PathText, Text
from albor_pipeline.resources.formats import Account, Word, matching

Checksum = Annotated[str, matching("(?:blake3:)?[0-9a-fA-F]{64}", "a BLAKE3 digest: 64 hexadecimal digits")]


class Model(Fields):
    """The fields of a model; `source` is an address, a path, or `OWNER/NAME` on the hub."""

    name: Annotated[Text, CONTENT]
    state: Annotated[Literal["present", "absent"], CONTENT] = "present"
    path: Annotated[PathText | None, CONTENT] = None
    source: Annotated[Word | None, CONTENT] = None
    format: Annotated[Word | None, CONTENT] = None
    quantization: Annotated[Word | None, CONTENT] = None
    checksum: Annotated[Checksum | None, CONTENT] = None
    cache_dir: Annotated[PathText | None, CONTENT] = None
    owner: Annotated[Account | None, CONTENT] = None
    description: Annotated[str, DOC] = ""
