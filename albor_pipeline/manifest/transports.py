"""The ways to a machine that need a block of their own: a container, an isolated place. Declares fields; opens nothing."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from albor_pipeline.resources.fields import Count, Fields, Flag, Text, Variables, wrong
from albor_pipeline.resources.formats import ContainerName, Number, Volume, Word


class ContainerFields(Fields):
    """A machine that is a container of this one; one that goes with `destroy` has an image to be made from."""

    runtime: Annotated[Literal["docker", "podman"], Field(description="the program that runs it")] = "docker"
    image: Annotated[Word | None, Field(description="the image it is made from")] = None
    name: Annotated[ContainerName | None, Field(description="its name; `forjar-HOSTNAME` when nothing is said")] = None
    ephemeral: Annotated[Flag, Field(description="whether `destroy` removes it, with all that is in it")] = True
    privileged: Annotated[Flag, Field(description="whether it has all rights of the host")] = False
    init: Annotated[Flag, Field(description="whether a first process reaps its children")] = True
    gpus: Annotated[Text | None, Field(description="the graphics cards it sees")] = None
    devices: Annotated[tuple[Text, ...], Field(description="the devices it sees")] = ()
    group_add: Annotated[tuple[Text, ...], Field(description="further groups of its account")] = ()
    env: Annotated[Variables, Field(description="its environment variables")] = Field(default_factory=dict)
    volumes: Annotated[tuple[Volume, ...], Field(description="what is mounted in it, each SOURCE:TARGET")] = ()

    @model_validator(mode="after")
    def _has_image(self) -> ContainerFields:
        if self.ephemeral and self.image is None:
            raise wrong("given an `image`, or `ephemeral: false`")
        return self


class PepitaFields(Fields):
    """A machine that is an isolated place on this one; `rootfs` is its file system."""

    rootfs: Annotated[Text, Field(description="the folder that is its root, or how to make one")]
    memory_mb: Annotated[Count | None, Field(description="the memory it may use, in MB")] = None
    cpus: Annotated[Number | None, Field(description="how many processor cores it may use")] = None
    network: Annotated[Literal["isolated", "host"], Field(description="whether it has a network of its own")] = (
        "isolated"
    )
    filesystem: Annotated[Literal["overlay", "bind"], Field(description="how its root is made")] = "overlay"
    ephemeral: Annotated[Flag, Field(description="whether it is made for the run and removed after it")] = True
