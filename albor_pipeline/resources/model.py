"""Model: the files of a language model on the machine. Declares the fields; downloads nothing."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from albor_pipeline.resources.fields import CONTENT, DOC, Fields, PathText, Text
from albor_pipeline.resources.formats import Account, Word, matching

Checksum = Annotated[str, matching("(?:blake3:)?[0-9a-fA-F]{64}", "a BLAKE3 digest: 64 hexadecimal digits")]


class Model(Fields):
    """The files of a language model; `source` is an address, a path, or OWNER/NAME on the hub."""

    name: Annotated[Text, CONTENT, Field(description="the name of the model")]
    state: Annotated[Literal["present", "absent"], CONTENT, Field(description="whether it is there")] = "present"
    path: Annotated[PathText | None, CONTENT, Field(description="where it is on the machine")] = None
    source: Annotated[Word | None, CONTENT, Field(description="where it comes from")] = None
    format: Annotated[Word | None, CONTENT, Field(description="the format of its files")] = None
    quantization: Annotated[Word | None, CONTENT, Field(description="how its weights are quantized")] = None
    checksum: Annotated[Checksum | None, CONTENT, Field(description="the BLAKE3 digest that it must have")] = None
    cache_dir: Annotated[PathText | None, CONTENT, Field(description="the folder that downloads are kept in")] = None
    owner: Annotated[Account | None, CONTENT, Field(description="the account that owns its files")] = None
    description: Annotated[str, DOC, Field(description="a sentence for readers")] = ""
