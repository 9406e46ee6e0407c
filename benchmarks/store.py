"""Digests of big files and of many small ones, and what storing and restoring them adds; beside b3sum, cp and (with --dvc) DVC.

Data: 4 GiB in 4 files, and 50,000 files of 84 KiB (--quick: a sixteenth of each), made once and removed at the end. A digest is
taken first, again unchanged, and with every mtime touched, each in a process of its own, as an agent would take it. Storing is
by hard link, then by copy, as if the store were on another file system; restoring reads and digests every object again. Everything is
in the page cache and nothing waits to be written, for all alike. Copies are emptied and removed only at the end: for minutes ext4
passes over each inode that was freed, and whoever copies next would pay for the clean-up of the one before.
Limits: 1.1 times b3sum; 1.2 times the digest for store and restore by hard link; 0.8 of the rate of cp for copies; 5 times
(unchanged) and 4 times (touched) as fast as `dvc status`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.common import folder, in_turns, peer, row, seconds

SMALL_BYTES = 84 * 1024
NEEDED = 3
ROUNDS = 3
AGENT = """
import os, sys, time
from albor_pipeline.agent import results, store, trees
from albor_pipeline.agent.layout import Layout
from albor_pipeline.agent.probe import new_cache

what, path, out = sys.argv[1:]
layout = Layout("{workdir}")
cache = new_cache(layout)
began = time.perf_counter()
tree = trees.read_tree(path, cache.digest)
cache.save()
if what != "digest":
    kept = store.Store(layout, cache)
    if what == "copy":
        make_folder = kept._make_folder
        kept._make_folder = lambda target: make_folder(target) and -1
        kept.is_near = lambda _folder: False
    began = time.perf_counter()
    kept.keep(path, tree, big=True)
    results.build(out, tree, kept)
    cache.save()
print(time.perf_counter() - began)
"""


def make(where: Path, count: int, size: int) -> Path:
    """A folder of files of random bytes, older than the stat cache's two seconds."""
    where.mkdir()
    for index in range(count):
        with (where / f"{index:06}.bin").open("wb") as file:
            for at in range(0, size, 1 << 24):
                file.write(os.urandom(min(1 << 24, size - at)))
    time.sleep(2.1)
    return where


def agent(base: Path, what: str, path: Path, out: str = "") -> float:
    """Seconds of a digest, or of a store and a restore, inside a process of its own."""
    code = AGENT.format(workdir=base)
    (base / ".albor").mkdir(exist_ok=True)
    done = subprocess.run([sys.executable, "-c", code, what, str(path), out], capture_output=True, text=True, check=True)
    return float(done.stdout)


def forget(base: Path) -> None:
    """Remove what the agent remembers."""
    shutil.rmtree(base / ".albor", ignore_errors=True)


def discard(base: Path, path: Path) -> None:
    """Free the bytes of copies without freeing their inodes; what is a second name of something else goes."""
    for file in [file for file in path.rglob("*") if file.is_file()]:
        if file.stat().st_nlink > 1:
            file.unlink()
        else:
            file.chmod(0o600)
            os.truncate(file, 0)
    path.rename(Path(tempfile.mkdtemp(dir=base)) / "discarded")


def touch(path: Path) -> None:
    """Give every file a new mtime, older than two seconds when it is looked at."""
    for file in sorted(path.iterdir()):
        os.utime(file)
    time.sleep(2.1)


def digests(base: Path, name: str, path: Path) -> dict[str, float]:
    """First, unchanged and touched beside b3sum; the seconds of each."""
    files = [str(file) for file in sorted(path.iterdir())]
    listed = base / "files"
    listed.write_text("\0".join(files))
    others: dict[str, Callable[[], float]] = {}
    if shutil.which("b3sum"):
        others["b3sum"] = lambda: seconds(["sh", "-c", 'xargs -0 b3sum < "$1" > /dev/null', "sh", str(listed)], base)

    def first() -> float:
        forget(base)
        return agent(base, "digest", path)

    def touched() -> float:
        touch(path)
        return agent(base, "digest", path)

    ours = {"first": first, "unchanged": lambda: agent(base, "digest", path), "touched": touched}
    times = in_turns({**others, **ours}, ROUNDS)
    floor = times.get("b3sum")
    for what in ours:
        beside = f"{times[what] / floor:.2f} x b3sum ({floor:.2f} s)" if floor else "no b3sum"
        row(f"{name}, digest, {what}", f"{times[what]:.2f} s", beside)
    return times


def keeping(base: Path, name: str, path: Path) -> None:
    """Store and restore by link and by copy, beside the digest, cp -l and cp of the same turn."""
    size = sum(file.stat().st_size for file in path.iterdir())

    def digest() -> float:
        forget(base)
        return agent(base, "digest", path)

    def kept(what: str) -> float:
        for file in path.iterdir():
            file.chmod(0o644)
        time.sleep(2.1)
        os.sync()
        took = agent(base, what, path, str(base / "out"))
        discard(base, base / "out")
        discard(base, base / ".albor" / "store")
        return took

    def twice(*command: str) -> float:
        os.sync()
        took = seconds([*command, str(path), str(base / "one")], base) + seconds([*command, str(base / "one"), str(base / "two")], base)
        discard(base, base / "one")
        discard(base, base / "two")
        return took

    ours = {"digest": digest, "link": lambda: kept("link"), "copy": lambda: kept("copy")}
    times = in_turns({"cp": lambda: twice("cp", "-r"), "cp -l": lambda: twice("cp", "-rl"), **ours}, ROUNDS)
    links, beside = times["cp -l"], f"{times['link'] / times['digest']:.2f} x the digest ({times['digest']:.2f} s)"
    floor = f"; digest and two cp -l {1 + links / times['digest']:.2f} x"
    row(f"{name}, store + restore by link", f"{times['link']:.2f} s", beside + floor)
    rate = 2 * size / times["copy"] / 1e6
    beside = f"{rate:.0f} MB/s, {times['cp'] / times['copy']:.2f} of the rate of cp ({times['cp']:.2f} s)"
    row(f"{name}, store + restore by copy", f"{times['copy']:.2f} s", beside)


def dvc_status(base: Path, name: str, path: Path, ours: dict[str, float]) -> None:
    """`dvc status` of the same, unchanged and touched, as a multiple of ours."""
    command = str(peer("dvc"))
    seconds([command, "init", "--no-scm", "--quiet", "--force"], base)
    seconds([command, "add", "--quiet", str(path)], base)
    for what in ("unchanged", "touched"):
        if what == "touched":
            touch(path)
        took = seconds([command, "status", "--quiet"], base)
        row(f"{name}, dvc status, {what}", f"{took:.2f} s", f"{took / ours[what]:.1f} x ours")
    path.with_name(f"{path.name}.dvc").unlink()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a sixteenth of the data")
    parser.add_argument("--digests", action="store_true", help="only the digests")
    parser.add_argument("--dvc", action="store_true", help="only the digests, beside `dvc status`")
    args = parser.parse_args()
    part = 16 if args.quick else 1
    sets = {"4 files": (4, (1 << 30) // part), "small files": (50_000 // part, SMALL_BYTES)}
    with folder() as base:
        for name, (count, size) in sets.items():
            if shutil.disk_usage(base).free < NEEDED * count * size:
                row(name, "not measured", f"{NEEDED * count * size >> 30} GiB of free disk are needed")
                continue
            path = make(base / name.replace(" ", "-"), count, size)
            what = f"{count:,} files of {size >> 10:,} KiB"
            times = digests(base, what, path)
            if args.dvc:
                dvc_status(base, what, path, times)
            elif not args.digests:
                keeping(base, what, path)
            shutil.rmtree(path)


if __name__ == "__main__":
    main()
