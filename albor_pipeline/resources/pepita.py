"""Pepita: a place of its own on the machine: namespaces, cgroup limits, an overlay. Declares the fields; makes none."""

from __future__ import annotations

from typing import Annotated, Literal

from albor_pipeline.resources.fields import CONTENT, DOC, Bytes, Count, Fields, Flag
from albor_pipeline.resources.formats import AbsolutePath, Word, matching

CpuSet = Annotated[str, matching("[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*", "CPUs such as 0-3 or 0,2,4")]


class Pepita(Fields):
    """The fields of an isolated place."""

    name: Annotated[Word, CONTENT]
    state: Annotated[Literal["present", "absent"], CONTENT] = "present"
    chroot_dir: Annotated[AbsolutePath | None, CONTENT] = None
    namespace_uid: Annotated[Count | None, CONTENT] = None
    namespace_gid: Annotated[Count | None, CONTENT] = None
    seccomp: Annotated[Flag, CONTENT] = False
    netns: Annotated[Flag, CONTENT] = False
    cpuset: Annotated[CpuSet | None, CONTENT] = None
    memory_limit: Annotated[Bytes | None, CONTENT] = None
    overlay_lower: Annotated[AbsolutePath | None, CONTENT] = None
    overlay_upper: Annotated[AbsolutePath | None, CONTENT] = None
    overlay_work: Annotated[AbsolutePath | None, CONTENT] = None
    overlay_merged: Annotated[AbsolutePath | None, CONTENT] = None
    description: Annotated[str, DOC] = ""
