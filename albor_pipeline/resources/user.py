"""User: an account of the machine. Declares the fields; makes no account."""

from __future__ import annotations

from typing import Annotated, Literal

from albor_pipeline.resources.fields import CONTENT, DOC, Count, Fields, Flag, Text
from albor_pipeline.resources.formats import AbsolutePath, Account


class User(Fields):
    """The fields of an account; `group` is its own group, `groups` are those it belongs to besides."""

    name: Annotated[Account, CONTENT]
    state: Annotated[Literal["present", "absent"], CONTENT] = "present"
    uid: Annotated[Count | None, CONTENT] = None
    group: Annotated[Account | None, CONTENT] = None
    groups: Annotated[tuple[Account, ...], CONTENT] = ()
    shell: Annotated[AbsolutePath | None, CONTENT] = None
    home: Annotated[AbsolutePath | None, CONTENT] = None
    system_user: Annotated[Flag, CONTENT] = False
    ssh_authorized_keys: Annotated[tuple[Text, ...], CONTENT] = ()
    description: Annotated[str, DOC] = ""
