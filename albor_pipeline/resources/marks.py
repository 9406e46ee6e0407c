"""Marks: how a line or a rule that several of us may add to one place says whose it is. Knows no place."""

from __future__ import annotations

from albor_pipeline.resources.base import Instance

PREFIX = "albor-pipeline "
SEPARATOR = ": "
POLYNOMIAL = 0x04C11DB7


def mark(one: Instance, name: str) -> str:
    """`albor-pipeline RESOURCE: NAME`; without a name only the resource."""
    return f"{PREFIX}{one.resource.id}" + (f"{SEPARATOR}{name}" if name else "")


def parse(text: str) -> tuple[str, str] | None:
    """The resource and the name of a mark; None for what is none."""
    if not text.startswith(PREFIX):
        return None
    resource, _separator, name = text.removeprefix(PREFIX).partition(SEPARATOR)
    return resource, name


def cksum(data: bytes) -> int:
    """What the program `cksum` says of these bytes, so that a script can check what a mark was written for."""
    check = 0
    for byte in data + len(data).to_bytes((len(data).bit_length() + 7) // 8, "little"):
        check ^= byte << 24
        for _bit in range(8):
            check = (check << 1 ^ (POLYNOMIAL if check & 0x80000000 else 0)) & 0xFFFFFFFF
    return check ^ 0xFFFFFFFF
