"""Two workdirs and the whole dialog that brings a tree from one to the other, without a wire. Tests nothing."""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from albor_pipeline.agent import hashing, trees
from albor_pipeline.agent.giving import Giver
from albor_pipeline.agent.layout import Layout
from albor_pipeline.agent.probe import Prober
from albor_pipeline.agent.taking import Taker

BIG = os.urandom(700_000)


class End:
    """One workdir, as its agent sees it."""

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True)
        self.root = root
        self.layout = Layout(str(root))
        (root / ".albor").mkdir()
        self.asked: list[dict[str, Any]] = []

    @property
    def incoming(self) -> list[str]:
        """What lies among what is on its way, by name."""
        folder = self.root / ".albor/incoming"
        return sorted(path.name for path in folder.rglob("*") if path.name != ".lock" and not path.is_dir()) if folder.exists() else []

    def tree(self, path: str, record: bool = False) -> trees.Tree:
        """What lies at a path, every byte read."""
        found = trees.read_tree(self.layout.path(path), lambda where, _info: hashing.digest_file(where))
        assert found is not None
        if record:
            trees.record(self.layout, found)
        return found

    def shape(self, path: str) -> dict[str, tuple[Any, ...]]:
        """Every entry with its bytes or its link's text, and whether it can be run."""
        walked = trees.walk(self.layout.path(path))
        assert walked is not None
        found: dict[str, tuple[Any, ...]] = {}
        for name, where, info in walked[1]:
            kind = trees.letter(info)
            body = Path(where).read_bytes() if kind == "f" else Path(where).readlink() if kind == "l" else None
            found[name] = (kind, body, bool(info.st_mode & 0o111) and kind == "f")
        return found


def move(
    source: End, target: End, path: str, root: str | None = None, spoil: Callable[[bytes], bytes] = bytes, **more: Any
) -> dict[str, Any]:
    """The whole dialog, without a wire between the two; `spoil` sees every part that goes by."""
    giver = Giver(source.layout, Prober(source.layout), path, root or source.tree(path).root)
    on_their_way: deque[bytes] = deque([giver.listing()])

    def parts() -> Iterator[bytes]:
        while on_their_way:
            yield spoil(on_their_way.popleft())

    def say(reply: dict[str, Any]) -> None:
        target.asked.append(reply)
        giver.serve([json.dumps(reply["wants"]).encode() + b"\n"], on_their_way.append)

    request = {"path": path, "root": giver.tree.root, "resource": "use", "run": "0007", **more}
    return Taker(target.layout, Prober(target.layout), request, parts(), say).run()


def fill(end: End, name: str = "d") -> None:
    """A folder with every kind of entry."""
    base = end.root / name
    (base / "deep/er").mkdir(parents=True)
    (base / "empty").mkdir()
    (base / "a").write_text("one\n")
    (base / "deep/er/b").write_bytes(BIG)
    (base / "deep/er/b").chmod(0o755)
    (base / "deep/link").symlink_to("../a")
    (base / "none").touch()
    (base / "twin").write_text("one\n")
    (base / "runs").write_text("one\n")
    (base / "runs").chmod(0o755)
    Path(os.fsdecode(os.fsencode(base) + b"/odd \xff\nname")).write_text("odd")


def change(end: End) -> None:
    """Every way in which a folder becomes another: a name of another kind, other bytes, another mode, something less, something more."""
    base = end.root / "d"
    (base / "a").write_text("two two\n")
    (base / "none").unlink(), (base / "none").mkdir(), (base / "none/inside").write_text("new")
    (base / "deep/er/b").rename(base / "moved")
    (base / "deep/er").rmdir(), (base / "deep/er").write_text("a file now")
    (base / "deep/link").unlink(), (base / "deep/link").symlink_to("er")
    (base / "twin").chmod(0o755)
    (base / "empty").rmdir()
