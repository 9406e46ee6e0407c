"""Recipe: a named group of resources with inputs. Declares the fields of the place that uses one; expands nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from albor_pipeline.resources.fields import CONTENT, DOC, Fields, Free, Text


class Recipe(Fields):
    """The use of a recipe: a group of resources that is declared once, with inputs."""

    recipe: Annotated[Text, CONTENT, Field(description="the name of the recipe, a file in recipes/")]
    inputs: Annotated[Mapping[str, Free], CONTENT, Field(description="the values of its inputs")] = Field(
        default_factory=dict[str, Any]
    )
    description: Annotated[str, DOC, Field(description="a sentence for readers")] = ""
