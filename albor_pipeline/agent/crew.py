"""Doing one thing to many items with several threads, which all have ended when the call returns. Knows no files and no digests."""

from __future__ import annotations

import threading
from collections import deque

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import TypeVar

    Item = TypeVar("Item")

_of = threading.local()


def each(act: Callable[[Item], object], items: Iterable[Item], size: int) -> None:
    """Do `act` to every item, this thread and at most `size` - 1 others; the first error stops all of them and is raised."""
    left = deque(items)
    size = min(size, len(left))
    errors: list[BaseException] = []

    def work() -> None:
        _of.size = size
        while not errors:
            try:
                item = left.popleft()
            except IndexError:
                return
            try:
                act(item)
            except BaseException as error:
                errors.append(error)

    others: list[threading.Thread] = []
    outer = members()
    try:
        for _n in range(size - 1):
            other = threading.Thread(target=work, daemon=True)
            other.start()
            others.append(other)
    except RuntimeError:  # no more threads are allowed here: those that are do it
        pass
    try:
        work()
    finally:
        _of.size = outer
        for other in others:
            other.join()
    if errors:
        raise errors[0]


def members() -> int:
    """How many threads the crew has that this thread works in; 1 outside of any."""
    return max(1, getattr(_of, "size", 1))
