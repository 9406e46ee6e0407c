"""User: an account of the machine. Declares the fields; makes no account."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from albor_pipeline.resources.fields import CONTENT, DOC, Count, Fields, Flag, Text
from albor_pipeline.resources.formats import AbsolutePath, Account


class User(Fields):
    """An account of the machine; `group` is its own group, `groups` are those it belongs to besides."""

    name: Annotated[Account, CONTENT, Field(description="the name of the account")]
    state: Annotated[Literal["present", "absent"], CONTENT, Field(description="whether it is there")] = "present"
    uid: Annotated[Count | None, CONTENT, Field(description="its number")] = None
    group: Annotated[Account | None, CONTENT, Field(description="its own group")] = None
    groups: Annotated[tuple[Account, ...], CONTENT, Field(description="the other groups it belongs to")] = ()
    shell: Annotated[AbsolutePath | None, CONTENT, Field(description="its login shell")] = None
    home: Annotated[AbsolutePath | None, CONTENT, Field(description="its home folder")] = None
    system_user: Annotated[
        Flag, CONTENT, Field(description="whether it is an account of the system, not of a person")
    ] = False
    ssh_authorized_keys: Annotated[tuple[Text, ...], CONTENT, Field(description="the public keys that may log in")] = ()
    description: Annotated[str, DOC, Field(description="a sentence for readers")] = ""
