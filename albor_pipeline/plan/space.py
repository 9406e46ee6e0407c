"""Space: whether what is to be written fits where it goes. Pure; asks no machine."""

from __future__ import annotations

from collections.abc import Mapping

from albor_pipeline.errors import Diagnostic

SHOWN = 5


def short(place: str, free_bytes: int, sure: Mapping[str, float], most: Mapping[str, float], note: str) -> Diagnostic | None:
    """An error where what is to be made does not fit, a warning where only all that may have to be would not; bytes by resource."""
    for level, what, sizes in (("error", "is", sure), ("warning", "may have", most)):
        if sum(sizes.values()) > free_bytes:
            parts = ", ".join(f"{name} {megabytes(sizes[name])}" for name in sorted(sizes, key=lambda name: -sizes[name])[:SHOWN])
            about = megabytes(sum(sizes.values()))
            message = f"{place} has {megabytes(free_bytes)} free, and what {what} to be made takes about {about}: {parts}"
            return Diagnostic(level, "no-space", message, notes=(note,))
    return None


def megabytes(size_bytes: float) -> str:
    """`1,234.5 MB`."""
    return f"{size_bytes / 1e6:,.1f} MB"
