"""GithubRelease: a program out of a published release. Declares the fields; downloads nothing."""

from __future__ import annotations

from typing import Annotated, Literal

from albor_pipeline.resources.fields import CONTENT, DOC, Fields
from albor_pipeline.resources.formats import AbsolutePath, Word, matching

Repository = Annotated[str, matching("[A-Za-z0-9-]+/[A-Za-z0-9._-]+", "OWNER/NAME")]
Program = Annotated[str, matching(r"[^/\s]+", "the name of a program, without a folder")]


class GithubRelease(Fields):
    """The fields of a release; `latest` is the newest one, whatever its tag."""

    repo: Annotated[Repository, CONTENT]
    binary: Annotated[Program, CONTENT]
    state: Annotated[Literal["present", "absent"], CONTENT] = "present"
    tag: Annotated[Word, CONTENT] = "latest"
    asset_pattern: Annotated[Word | None, CONTENT] = None
    install_dir: Annotated[AbsolutePath, CONTENT] = "/usr/local/bin"
    description: Annotated[str, DOC] = ""
