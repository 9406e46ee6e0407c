"""The ways to a machine that need a block of their own: a container, an isolated place. Declares fields; opens nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, model_validator

from albor_pipeline.resources.fields import Count, Fields, Flag, Text, wrong
from albor_pipeline.resources.formats import Number, Word


class ContainerFields(Fields):
    """A machine that is a container; one that is made for the run has an image."""

    runtime: Literal["docker", "podman"] = "docker"
    image: Word | None = None
    name: Word | None = None
    ephemeral: Flag = True
    privileged: Flag = False
    init: Flag = True
    gpus: Text | None = None
    devices: tuple[Text, ...] = ()
    group_add: tuple[Text, ...] = ()
    env: Mapping[str, str] = Field(default_factory=dict)
    volumes: tuple[Text, ...] = ()

    @model_validator(mode="after")
    def _has_image(self) -> ContainerFields:
        if self.ephemeral and self.image is None:
            raise wrong("given an `image`, or `ephemeral: false`")
        return self


class PepitaFields(Fields):
    """A machine that is an isolated place on this one; `rootfs` is its file system."""

    rootfs: Text
    memory_mb: Count | None = None
    cpus: Number | None = None
    network: Literal["isolated", "host"] = "isolated"
    filesystem: Literal["overlay", "bind"] = "overlay"
    ephemeral: Flag = True
