"""Package: what a package manager of the machine has installed. Declares the fields; installs nothing."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from albor_pipeline.resources.fields import CONTENT, DOC, Fields, PathText, Text, wrong
from albor_pipeline.resources.formats import filled, matching

IMAGE, HEADERS = "linux-image-", "linux-headers-"
PackageName = Annotated[str, matching(r"[^\s-]\S*", "the name of a package, without spaces")]


class Package(Fields):
    """Packages that a package manager has installed; `source` is the folder that cargo builds one from."""

    provider: Annotated[Literal["apt", "cargo", "uv", "brew"], CONTENT, Field(description="the package manager")]
    packages: Annotated[
        tuple[PackageName, ...],
        filled("a list of at least one package"),
        CONTENT,
        Field(description="the names of the packages"),
    ]
    state: Annotated[
        Literal["present", "absent", "latest"],
        CONTENT,
        Field(description="whether they are there; latest keeps them up to date"),
    ] = "present"
    version: Annotated[Text | None, CONTENT, Field(description="the version that must be installed")] = None
    source: Annotated[PathText | None, CONTENT, Field(description="the folder of the crate that cargo installs")] = None
    description: Annotated[str, DOC, Field(description="a sentence for readers")] = ""

    @model_validator(mode="after")
    def _fitting(self) -> Package:
        if self.state == "latest" and self.provider != "apt":
            raise wrong("installed by apt to have `state: latest`")
        if self.source is not None and self.provider != "cargo":
            raise wrong("installed by cargo to have a `source`")
        for name in self.packages:
            headers = HEADERS + name.removeprefix(IMAGE)
            if name.startswith(IMAGE) and headers not in self.packages:
                raise wrong(f"given `{headers}` beside `{name}`: without it no driver module can be built")
        return self
