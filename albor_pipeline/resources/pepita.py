"""Pepita: a place of its own: namespaces, cgroup limits, an overlay. Declares the fields; a plan that needs one is refused."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from albor_pipeline.resources.fields import CONTENT, DOC, Bytes, Count, Fields, Flag
from albor_pipeline.resources.formats import AbsolutePath, Word, matching

CpuSet = Annotated[str, matching("[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*", "CPUs such as 0-3 or 0,2,4")]


class Pepita(Fields):
    """A place of its own on the machine: namespaces, limits, an overlay of folders."""

    name: Annotated[Word, CONTENT, Field(description="the name of the place")]
    state: Annotated[Literal["present", "absent"], CONTENT, Field(description="whether it is there")] = "present"
    chroot_dir: Annotated[AbsolutePath | None, CONTENT, Field(description="the folder that is its root")] = None
    namespace_uid: Annotated[Count | None, CONTENT, Field(description="the account number inside")] = None
    namespace_gid: Annotated[Count | None, CONTENT, Field(description="the group number inside")] = None
    seccomp: Annotated[Flag, CONTENT, Field(description="whether system calls are filtered")] = False
    netns: Annotated[Flag, CONTENT, Field(description="whether it has a network of its own")] = False
    cpuset: Annotated[CpuSet | None, CONTENT, Field(description="the processor cores it may use")] = None
    memory_limit: Annotated[Bytes | None, CONTENT, Field(description="the memory it may use")] = None
    overlay_lower: Annotated[
        AbsolutePath | None, CONTENT, Field(description="the folder below the overlay, only read")
    ] = None
    overlay_upper: Annotated[AbsolutePath | None, CONTENT, Field(description="the folder that takes the changes")] = (
        None
    )
    overlay_work: Annotated[AbsolutePath | None, CONTENT, Field(description="the folder that the overlay works in")] = (
        None
    )
    overlay_merged: Annotated[
        AbsolutePath | None, CONTENT, Field(description="the folder where the overlay is seen")
    ] = None
    description: Annotated[str, DOC, Field(description="a sentence for readers")] = ""
