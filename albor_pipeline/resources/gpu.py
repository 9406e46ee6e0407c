"""Gpu: the driver and the toolkit of the machine's GPUs, and their settings. Declares the fields; installs nothing."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from albor_pipeline.resources.fields import CONTENT, DOC, Count, Fields, Flag, Text
from albor_pipeline.resources.formats import matching

Version = Annotated[str, matching(r"\S*", "a version, without spaces; empty for any")]


class Gpu(Fields):
    """The driver and the toolkit of the graphics cards, and their settings."""

    driver_version: Annotated[Version, CONTENT, Field(description="the version of the driver")]
    state: Annotated[Literal["present", "absent"], CONTENT, Field(description="whether they are installed")] = "present"
    name: Annotated[Text | None, CONTENT, Field(description="a name for readers")] = None
    gpu_backend: Annotated[
        Literal["nvidia", "rocm", "cpu"], CONTENT, Field(description="the maker's software stack")
    ] = "nvidia"
    cuda_version: Annotated[Version | None, CONTENT, Field(description="the version of the CUDA toolkit")] = None
    rocm_version: Annotated[Version | None, CONTENT, Field(description="the version of ROCm")] = None
    devices: Annotated[
        tuple[Count, ...], CONTENT, Field(description="the indices of the cards; all when none is named")
    ] = ()
    persistence_mode: Annotated[Flag, CONTENT, Field(description="whether the driver stays loaded")] = True
    compute_mode: Annotated[
        Literal["default", "exclusive_process", "prohibited"] | None,
        CONTENT,
        Field(description="who may compute on a card at once"),
    ] = None
    gpu_memory_limit_mb: Annotated[
        Count | None, CONTENT, Field(description="the memory of a card that may be used, in MB")
    ] = None
    description: Annotated[str, DOC, Field(description="a sentence for readers")] = ""
