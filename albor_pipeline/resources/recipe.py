"""Recipe: a named group of resources with inputs. Declares the fields of the place that uses one; expands nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from albor_pipeline.resources.fields import CONTENT, DOC, Fields, Free, Text


class Recipe(Fields):
    """The fields of a use: which recipe, and the values of its inputs."""

    recipe: Annotated[Text, CONTENT]
    inputs: Annotated[Mapping[str, Free], CONTENT] = Field(default_factory=dict[str, Any])
    description: Annotated[str, DOC] = ""
