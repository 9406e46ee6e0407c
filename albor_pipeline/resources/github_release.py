"""GithubRelease: a program out of a published release. Declares the fields; downloads nothing."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from albor_pipeline.resources.fields import CONTENT, DOC, Fields
from albor_pipeline.resources.formats import AbsolutePath, Word, matching

Repository = Annotated[str, matching("[A-Za-z0-9-]+/[A-Za-z0-9._-]+", "OWNER/NAME")]
Program = Annotated[str, matching(r"[^/\s]+", "the name of a program, without a folder")]


class GithubRelease(Fields):
    """A program out of a published release; `latest` is the newest one, whatever its tag."""

    repo: Annotated[Repository, CONTENT, Field(description="the repository, OWNER/NAME")]
    binary: Annotated[Program, CONTENT, Field(description="the name of the program")]
    state: Annotated[Literal["present", "absent"], CONTENT, Field(description="whether it is installed")] = "present"
    tag: Annotated[Word, CONTENT, Field(description="the tag of the release")] = "latest"
    asset_pattern: Annotated[Word | None, CONTENT, Field(description="a glob that the name of the asset matches")] = (
        None
    )
    install_dir: Annotated[AbsolutePath, CONTENT, Field(description="the folder it is installed in")] = "/usr/local/bin"
    description: Annotated[str, DOC, Field(description="a sentence for readers")] = ""
