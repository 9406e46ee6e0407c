"""Batches made ahead by a thread, the same to the bit as without it; knows how a loader is asked and not what it reads."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from threading import Condition, Thread
from typing import TYPE_CHECKING, Any

from stages.lib.loader import Loader, Place

if TYPE_CHECKING:
    import numpy as np
    import torch

    Batch = tuple[torch.Tensor, torch.Tensor]

DEPTH = 2


class Prefetch:
    """A loader that has the next steps' batches ready, in pinned memory for a GPU.

    Steps are expected one after another; asked for another one (a roll-back), it begins anew there. A fault while a
    step's batches are made is raised when that step is asked for. Close it, or use it in a `with` block.
    """

    def __init__(self, loader: Loader, *, pinned: bool = False, depth: int = DEPTH) -> None:
        self.loader, self._pinned, self._depth = loader, pinned, depth
        self._changed = Condition()
        self._ready: deque[list[Batch] | BaseException] = deque()
        self._thread: Thread | None = None
        self._stopped = False
        self._expected = (0, 0)

    def __enter__(self) -> Prefetch:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def place(self, step: int) -> Place:
        """As the loader's."""
        return self.loader.place(step)

    def position(self, step: int) -> tuple[int, int]:
        """As the loader's."""
        return self.loader.position(step)

    def rows_of(self, step: int) -> np.ndarray[Any, Any]:
        """As the loader's."""
        return self.loader.rows_of(step)

    def micro_batches(self, step: int, size: int) -> Iterator[Batch]:
        """As the loader's."""
        if self._thread is None or self._expected != (step, size):
            self.close()
            self._stopped = False
            self._thread = Thread(target=self._fill, args=(step, size), name="prefetch", daemon=True)
            self._thread.start()
        with self._changed:
            self._changed.wait_for(lambda: self._ready)
            found = self._ready.popleft()
            self._changed.notify_all()
        self._expected = (step + 1, size)
        if isinstance(found, BaseException):
            self.close()
            raise found
        return iter(found)

    def close(self) -> None:
        """Ends the thread and drops what it made; asking again starts it again."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
        self._thread = None
        self._ready.clear()

    def _fill(self, step: int, size: int) -> None:
        made: list[Batch] | BaseException
        while True:
            try:
                made = [self._settled(batch) for batch in self.loader.micro_batches(step, size)]
            except BaseException as fault:
                made = fault
            with self._changed:
                self._changed.wait_for(lambda: self._stopped or len(self._ready) < self._depth)
                if self._stopped:
                    return
                self._ready.append(made)
                self._changed.notify_all()
            if isinstance(made, BaseException):
                return
            step += 1

    def _settled(self, batch: Batch) -> Batch:
        return (batch[0].pin_memory(), batch[1].pin_memory()) if self._pinned else batch
