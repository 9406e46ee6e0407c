"""What the store keeps and gives back: every kind of entry, on every kind of file system; what is corrupt is named and never used."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support_faults import failing

from albor_pipeline.agent import store, trees
from albor_pipeline.agent.attempts import AttemptError
from albor_pipeline.agent.layout import Layout
from albor_pipeline.agent.probe import new_cache
from albor_pipeline.agent.results import Results
from albor_pipeline.agent.store import Store, StoreError
from albor_pipeline.transport.client import AgentError

OLD_FP, NEW_FP = "0d" * 32, "11" * 32
MAKE = """
mkdir -p o/deep/er o/empty s; echo 1 > o/a; echo x > o/deep/er/b; chmod 755 o/deep/er/b; ln -s ../a o/deep/l
touch 'o/name with
newline'; echo s1 > s/1.bin; echo s2 > s/2.bin; echo single > one; chmod 600 one
"""
OUTPUTS = [{"path": "o"}, {"path": "s/*.bin"}, {"path": "one"}]


def made(box: Any, script: str = MAKE, fingerprint: str = OLD_FP, outputs: Any = OUTPUTS, **more: Any) -> dict[str, Any]:
    end = box.run(script, outputs=outputs, fingerprint=fingerprint, keep="cheap", **more)
    assert end["exit"]["class"] == "ok", end
    return dict(end["exit"]["outputs"])


def results(box: Any, fingerprint: str | None = None) -> list[dict[str, Any]]:
    item = {"op": "results", "resource": "t", "fingerprint": fingerprint}
    return list(box.client.request("probe", items=[item])["results"][0]["results"])


def restore(box: Any, fingerprint: str = OLD_FP, which: int = -1) -> dict[str, Any]:
    found = results(box, fingerprint)[which]["id"]
    return dict(box.lead(box.client).request("restore", resource="t", fingerprint=fingerprint, result=found, run="0009"))


def roots(box: Any, outputs: Any = OUTPUTS) -> dict[str, str]:
    items = [{"op": "tree", "path": item["path"], "deep": True} for item in outputs]
    answers = box.client.request("probe", items=items)["results"]
    return {item["path"]: answer["root"] for item, answer in zip(outputs, answers, strict=True)}


def proven(outputs: dict[str, Any]) -> dict[str, str]:
    return {path: proof["root"] for path, proof in outputs.items()}


def test_a_result_comes_back_with_every_kind_of_entry(box: Any) -> None:
    first = made(box)
    second = made(box, MAKE + "echo more >> o/a; rm s/1.bin; echo s3 > s/3.bin; rm one; echo 2 > one", NEW_FP)
    assert roots(box) == proven(second)
    reply = restore(box)
    assert roots(box) == proven(first) == proven(reply["outputs"]) and reply["kept"] == []
    assert (box.root / "o/deep/l").readlink() == Path("../a") and (box.root / "o/empty").is_dir()
    assert (box.root / "o/deep/er/b").stat().st_mode & 0o111 and (box.root / "one").stat().st_mode & 0o077 == 0
    assert sorted(path.name for path in (box.root / "s").iterdir()) == ["1.bin", "2.bin"]
    assert restore(box, NEW_FP)["outputs"] == second and roots(box) == proven(second)
    assert not list(box.root.rglob("*.tmp")), "nothing half built is left"


def test_only_what_is_not_as_it_was_is_put_back_and_edits_are_kept_aside(box: Any) -> None:
    made(box)
    inode = (box.root / "o" / "a").stat().st_ino
    (box.root / "one").unlink()
    (box.root / "one").write_text("mine")
    (box.root / "s" / "1.bin").unlink()
    reply = restore(box)
    assert (box.root / "o" / "a").stat().st_ino == inode, "o was as recorded"
    assert [(box.root / path).read_text() for path in reply["kept"]] == ["mine"]
    assert (box.root / "s" / "1.bin").read_text() == "s1\n" and (box.root / "one").read_text() == "single\n"


def test_what_was_restored_may_be_cleared_by_the_next_run_and_the_store_is_not_written_through(box: Any) -> None:
    made(box)
    made(box, "echo new > one; mkdir o s; echo n > o/a; echo n > s/n.bin", NEW_FP)
    restore(box)
    end = box.run("echo 3 > one; mkdir o; echo n > o/a; echo n > s/n.bin", outputs=OUTPUTS, fingerprint="33" * 32)
    assert end["kept"] == []
    assert restore(box)["kept"] == [] and (box.root / "one").read_text() == "single\n"


def test_a_corrupt_object_is_named_set_aside_and_never_used(box: Any) -> None:
    outputs = [{"path": "one"}]
    made(box, "echo good > one", outputs=outputs)
    made(box, "echo other > one", NEW_FP, outputs)
    path = next(path for path in (box.root / ".albor/store/objects").rglob("*") if path.is_file() and path.read_text() == "good\n")
    path.chmod(0o644)
    path.write_text("evil\n")
    with pytest.raises(AgentError, match=f"the object {path.name} is corrupt and was set aside") as refused:
        restore(box)
    assert refused.value.code == "not-kept" and (box.root / "one").read_text() == "other\n"
    assert path.with_name(path.name + ".corrupt").read_text() == "evil\n"
    assert results(box, OLD_FP)[0]["missing"] == "one: it is gone from the store"
    with pytest.raises(AgentError, match="is missing"):
        restore(box)


def test_a_corrupt_object_is_replaced_when_its_bytes_are_made_again(box: Any) -> None:
    outputs = [{"path": "one"}]
    made(box, "echo good > one", outputs=outputs)
    path = next(path for path in (box.root / ".albor/store/objects").rglob("*") if path.is_file())
    path.chmod(0o644)
    path.write_text("evil\n")
    made(box, "echo good > one", NEW_FP, outputs)
    assert path.read_text() == "good\n" and results(box, OLD_FP)[0]["missing"] == ""


def test_results_of_one_fingerprint_are_told_apart_and_the_one_last_in_force_is_last(box: Any) -> None:
    outputs = [{"path": "one"}]
    for text in ("a", "b", "a"):
        made(box, f"echo {text} > one", outputs=outputs)
    ids = [result["id"] for result in results(box, OLD_FP)]
    assert len(ids) == 2 and (box.root / "one").read_text() == "a\n"
    restore(box, which=0)
    assert (box.root / "one").read_text() == "b\n" and [result["id"] for result in results(box, OLD_FP)] == ids[::-1]


def test_what_says_keep_false_or_has_no_outputs_leaves_no_result(box: Any) -> None:
    box.run("echo 1 > one", outputs=[{"path": "one"}])
    box.run("true", keep="cheap")
    box.run("echo 1 > v", outputs=[{"path": "v", "volatile": True}], keep="cheap")
    box.run("echo 1 > one; exit 1", outputs=[{"path": "one"}], keep="cheap")
    assert results(box) == [] and not (box.root / ".albor/store/objects").exists()


def test_a_volatile_output_that_is_gone_stands_in_the_way(box: Any) -> None:
    outputs = [{"path": "v", "volatile": True}, {"path": "one"}]
    made(box, "echo 1 > one; date > v", outputs=outputs)
    assert results(box, OLD_FP)[0]["missing"] == ""
    objects = [path for path in (box.root / ".albor/store/objects").rglob("*") if path.is_file()]
    objects[0].rename(box.root / "aside")
    assert results(box, OLD_FP)[0]["missing"] == "one: it is gone from the store"
    (box.root / "aside").rename(objects[0])
    (box.root / "v").unlink()
    assert results(box, OLD_FP)[0]["missing"] == "v is volatile"


def test_nothing_is_restored_under_a_running_attempt(box: Any) -> None:
    made(box)
    found = results(box, OLD_FP)[0]["id"]
    box.start("sleep 60", fingerprint=NEW_FP)
    with pytest.raises(AgentError, match="an attempt of t runs") as refused:
        box.client.request("restore", resource="t", fingerprint=OLD_FP, result=found, run="0009")
    assert refused.value.code == "busy"


def test_a_socket_among_the_outputs_costs_only_the_way_back(box: Any) -> None:
    made(box, "mkdir o; mkfifo o/pipe; echo 1 > o/a", outputs=[{"path": "o"}])
    assert results(box, OLD_FP)[0]["missing"] == "o is not kept"
    assert "o is not kept: it holds a device, a socket or a pipe" in box.log()


@pytest.fixture
def small(box: Any) -> Iterator[Path]:
    """A folder of the workdir on a file system of its own, of 2 MB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system takes root")
    folder = box.root / "far"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.root
def test_an_output_on_another_file_system_is_copied(box: Any, small: Path) -> None:
    outputs = [{"path": "far/o"}]
    first = made(box, "mkdir far/o; echo 1 > far/o/a; chmod 755 far/o/a", outputs=outputs)
    assert results(box, OLD_FP)[0]["kept"] == {"far/o": "copy"}
    assert (small / "o" / "a").stat().st_nlink == 1 and (small / "o" / "a").stat().st_mode & 0o200
    made(box, "mkdir far/o; echo 2 > far/o/a", NEW_FP, outputs)
    restore(box)
    assert roots(box, outputs) == proven(first)


@pytest.mark.root
def test_a_disk_that_is_full_during_a_restore_takes_nothing_away(box: Any, small: Path) -> None:
    outputs = [{"path": "far/o"}]
    made(box, "head -c 900000 /dev/urandom > far/o", outputs=outputs)
    made(box, "head -c 1500000 /dev/zero > far/o", NEW_FP, outputs)
    with pytest.raises(AgentError, match=r"no room to put far/o back: up to 900000 bytes are needed, .* are free") as refused:
        restore(box)
    assert refused.value.code == "io" and [path.name for path in small.iterdir()] == ["o"]
    assert (small / "o").stat().st_size == 1_500_000
    (small / "o").unlink()
    restore(box)
    assert (small / "o").stat().st_size == 900_000


class Bare:
    """A store under a folder, without an agent."""

    def __init__(self, root: Path) -> None:
        self.layout = Layout(str(root))
        self.cache = new_cache(self.layout)
        self.results = Results(self.layout, self.cache)
        self.root = root

    def tree(self, name: str) -> trees.Tree:
        tree = trees.read_tree(str(self.root / name), self.cache.digest)
        assert tree is not None
        trees.record(self.layout, tree)
        return tree

    def keep(self, name: str) -> str:
        tree = self.tree(name)
        spec = {"resource": "t", "fingerprint": OLD_FP, "parts": {}, "lineage": "L", "run": "0001", "number": 1, "keep": "cheap"}
        return self.results.keep(spec, {"outputs": {name: tree.summary()}, "seconds": 1.0, "at_utc": "", "summary": {}}, {name: tree})

    def back(self, name: str) -> str:
        result = self.results.listing("t", OLD_FP)[0]["id"]
        self.results.restore({"resource": "t", "fingerprint": OLD_FP, "result": result, "run": "0002", "lineage": "L"})
        return (self.root / name).read_text()


@pytest.fixture
def bare(tmp_path: Path) -> Bare:
    return Bare(tmp_path)


def test_blocks_are_shared_where_the_file_system_can(bare: Bare, monkeypatch: pytest.MonkeyPatch) -> None:
    cloned: list[str] = []

    def clone(source: str, target: str, mode: int) -> bool:
        cloned.append(source)
        Path(target).write_bytes(Path(source).read_bytes())
        Path(target).chmod(mode)
        return True

    monkeypatch.setattr(store, "clone", clone)
    (bare.root / "f").write_text("bytes")
    assert bare.keep("f") == "" and bare.results.listing("t")[0]["kept"] == {"f": "reflink"}
    assert (bare.root / "f").stat().st_mode & 0o200 and (bare.root / "f").stat().st_nlink == 1
    (bare.root / "f").write_text("other")
    assert bare.back("f") == "bytes" and (bare.root / "f").stat().st_mode & 0o200 and len(cloned) == 2


def test_copies_above_the_limit_are_made_only_when_asked_for(bare: Bare, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*_args: Any, **_more: Any) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", link)
    monkeypatch.setattr(store, "COPY_LIMIT_BYTES", 8)
    (bare.root / "d").mkdir()
    for name in ("a", "b"):
        (bare.root / "d" / name).write_text(name * 5)
    assert "copies over 1 GiB are made only where `store: true` says so" in bare.keep("d")
    assert bare.results.listing("t")[0]["missing"] == "d is not kept"
    kept = Store(bare.layout, bare.cache)
    assert kept.keep(str(bare.root / "d"), bare.tree("d"), big=True) == "copy" and kept.missing(bare.tree("d")) == ""


def test_what_can_only_be_copied_is_digested_while_it_is_copied(bare: Bare, monkeypatch: pytest.MonkeyPatch) -> None:
    (bare.root / "d").mkdir()
    for name in "abc":
        (bare.root / "d" / name).write_bytes(os.urandom(3 << 20))
    want = bare.tree("d").root
    bare.keep("d")
    monkeypatch.setattr(Store, "is_near", lambda _self, _folder: False)
    (bare.root / "d" / "a").unlink()
    with contextlib.suppress(UnicodeDecodeError):
        bare.back("d/a")
    assert bare.tree("d").root == want and (bare.root / "d" / "a").stat().st_nlink == 1
    objects = [path for path in (bare.root / ".albor/store/objects").rglob("*") if path.is_file()]
    objects[0].chmod(0o644)
    with objects[0].open("r+b") as file:
        file.write(b"evil")
    (bare.root / "d" / "b").unlink()
    with pytest.raises(AttemptError, match=f"the object {objects[0].name} is corrupt and was set aside"):
        bare.back("d/b")
    assert sorted(path.name for path in (bare.root / "d").iterdir()) == ["a", "c"] and not list(bare.root.rglob("*.tmp"))
    assert objects[0].with_name(objects[0].name + ".corrupt").exists() and not objects[0].exists()


def test_a_copy_whose_source_changed_meanwhile_is_not_kept(bare: Bare, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*_args: Any, **_more: Any) -> None:
        (bare.root / "f").chmod(0o644)
        (bare.root / "f").write_text("other")
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    (bare.root / "f").write_text("bytes")
    tree = bare.tree("f")
    monkeypatch.setattr(os, "link", link)
    with pytest.raises(StoreError, match="changed while it was copied"):
        Store(bare.layout, bare.cache).keep(str(bare.root / "f"), tree)
    assert not [path for path in (bare.root / ".albor/store/objects").rglob("*") if path.is_file()]


def test_a_file_that_changes_while_it_is_kept_is_not_kept(bare: Bare, monkeypatch: pytest.MonkeyPatch) -> None:
    (bare.root / "f").write_text("bytes")
    tree, link = bare.tree("f"), os.link

    def slow(source: str, target: str) -> None:
        link(source, target)
        Path(source).chmod(0o644)
        Path(source).write_text("other bytes")

    monkeypatch.setattr(os, "link", slow)
    with pytest.raises(StoreError, match="changed while it was kept"):
        Store(bare.layout, bare.cache).keep(str(bare.root / "f"), tree)
    assert not [path for path in (bare.root / ".albor/store/objects").rglob("*") if path.is_file()]


def test_bytes_that_another_attempt_keeps_at_the_same_moment_are_shared(bare: Bare, monkeypatch: pytest.MonkeyPatch) -> None:
    (bare.root / "f").write_text("bytes")
    (bare.root / "other").write_text("bytes")
    link = os.link

    def late(source: str, target: str) -> None:
        if not Path(target).exists():
            link(bare.root / "other", target)
        link(source, target)

    monkeypatch.setattr(os, "link", late)
    assert bare.keep("f") == "" and bare.results.listing("t", OLD_FP)[0]["missing"] == ""
    assert bare.results.listing("t")[0]["kept"] == {"f": "shared"} and (bare.root / "f").stat().st_mode & 0o200


def only_by(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a store keep and give back in one way alone."""
    if way == "copy":
        make_folder = Store._make_folder
        monkeypatch.setattr(Store, "_make_folder", lambda self, target: make_folder(self, target) and -1)
        monkeypatch.setattr(Store, "is_near", lambda _self, _folder: False)
    if way == "reflink":

        def clone(source: str, target: str, mode: int) -> bool:
            descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            try:
                os.write(descriptor, Path(source).read_bytes())
            finally:
                os.close(descriptor)
            return True

        monkeypatch.setattr(store, "clone", clone)


@pytest.mark.parametrize("output", ["d", "d/*"])
@pytest.mark.parametrize("way", ["link", "copy", "reflink"])
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_an_error_of_any_call_loses_nothing_and_the_next_try_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, way: str, output: str
) -> None:
    """Every call of keep and restore fails once; the outputs stay what they were, and without the error all is well."""
    only_by(way, monkeypatch)
    stopped = 0
    for step in range(1, 400):
        bare = Bare(tmp_path / str(step))
        bare.root.mkdir()
        (bare.root / "d").mkdir()
        (bare.root / "d" / "a").write_text("one")
        (bare.root / "d" / "l").symlink_to("a")
        bare.tree(output)
        failed = failing(monkeypatch, step, code, lambda bare=bare: bare.keep(output))  # type: ignore[misc]
        assert (bare.root / "d" / "a").read_text() == "one"
        bare.keep(output)
        assert bare.results.listing("t")[0]["kept"][output] in (way, "shared")
        (bare.root / "d" / "a").unlink()
        (bare.root / "d" / "a").write_text("two")
        failed = failing(monkeypatch, step, code, lambda bare=bare: bare.back("d/a")) or failed  # type: ignore[misc]
        found = [path.read_text() for path in bare.root.rglob("*a") if ".tmp" not in str(path) and path.is_file()]
        assert "two" in found, "what a user wrote is where it was, or kept aside"
        assert bare.back("d/a") == "one"
        stopped += failed
        if not failed:
            break
    assert stopped > 30
