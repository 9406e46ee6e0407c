"""Mount: a file system at a path. Declares the fields; mounts nothing."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from albor_pipeline.resources.fields import CONTENT, DOC, Fields
from albor_pipeline.resources.formats import AbsolutePath, Word


class Mount(Fields):
    """A file system at a path; `source` is a device, a share such as `host:/export`, or a folder."""

    source: Annotated[Word, CONTENT, Field(description="what is mounted: a device, a share or a folder")]
    path: Annotated[AbsolutePath, CONTENT, Field(description="the folder it is mounted at")]
    state: Annotated[
        Literal["mounted", "unmounted", "absent"],
        CONTENT,
        Field(description="whether it is mounted; absent takes it out of fstab too"),
    ] = "mounted"
    fstype: Annotated[Word, CONTENT, Field(description="the type of the file system")] = "auto"
    options: Annotated[Word, CONTENT, Field(description="mount options, separated by commas")] = "defaults"
    description: Annotated[str, DOC, Field(description="a sentence for readers")] = ""
