"""Gpu: the driver and the toolkit of the machine's GPUs, and their settings. Declares the fields; installs nothing."""

from __future__ import annotations

from typing import Annotated, Literal

from albor_pipeline.resources.fields import CONTENT, DOC, Count, Fields, Flag, Text
from albor_pipeline.resources.formats import matching

Version = Annotated[str, matching(r"\S*", "a version, without spaces; empty for any")]


class Gpu(Fields):
    """The fields of a GPU setup; `devices` are indices, all of them when none is named."""

    driver_version: Annotated[Version, CONTENT]
    state: Annotated[Literal["present", "absent"], CONTENT] = "present"
    name: Annotated[Text | None, CONTENT] = None
    gpu_backend: Annotated[Literal["nvidia", "rocm", "cpu"], CONTENT] = "nvidia"
    cuda_version: Annotated[Version | None, CONTENT] = None
    rocm_version: Annotated[Version | None, CONTENT] = None
    devices: Annotated[tuple[Count, ...], CONTENT] = ()
    persistence_mode: Annotated[Flag, CONTENT] = True
    compute_mode: Annotated[Literal["default", "exclusive_process", "prohibited"] | None, CONTENT] = None
    gpu_memory_limit_mb: Annotated[Count | None, CONTENT] = None
    description: Annotated[str, DOC] = ""
