"""Mount: a file system at a path. Declares the fields; mounts nothing."""

from __future__ import annotations

from typing import Annotated, Literal

from albor_pipeline.resources.fields import CONTENT, DOC, Fields
from albor_pipeline.resources.formats import AbsolutePath, Word


class Mount(Fields):
    """The fields of a mount; `source` is a device, a share such as `host:/export`, or a folder."""

    source: Annotated[Word, CONTENT]
    path: Annotated[AbsolutePath, CONTENT]
    state: Annotated[Literal["mounted", "unmounted", "absent"], CONTENT] = "mounted"
    fstype: Annotated[Word, CONTENT] = "auto"
    options: Annotated[Word, CONTENT] = "defaults"
    description: Annotated[str, DOC] = ""
