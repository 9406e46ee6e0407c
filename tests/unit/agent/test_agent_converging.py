"""Operations in order until one fails, one at a time where they share something, and scripts that no list of processes shows."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from albor_pipeline.agent import converging, files, scripts
from albor_pipeline.agent.layout import Layout


def do(folder: Path, *operations: dict[str, Any], data: bytes = b"", **more: Any) -> dict[str, Any]:
    body = {"operations": list(operations), "probes": [{"op": "stat"}], **more}
    return converging.converge(Layout(str(folder)), lambda items: [{"seen": len(items)}], body, iter([data] if data else []))


def sh(script: str) -> dict[str, Any]:
    return {"verb": "sh", "script": script}


def test_the_first_that_fails_ends_it_with_what_it_said(tmp_path: Path) -> None:
    failing = {**sh("echo why >&2; exit 3"), "label": "pre_apply"}
    failed = do(tmp_path, sh("touch one"), failing, sh("touch two"))["failed"]
    assert (failed["exit"], failed["stderr"], failed["label"]) == (3, "why\n", "pre_apply")
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


def test_bytes_go_to_their_files_and_what_came_of_it_is_looked_at(tmp_path: Path) -> None:
    put = {"verb": "put", "path": "a/b", "size_bytes": 3}
    reply = do(tmp_path, put, {**put, "path": "c", "size_bytes": 0}, {**put, "path": "d", "mode": "0600"}, data=b"onetwo")
    assert reply == {"results": [{"seen": 1}]}
    assert [(tmp_path / name).read_bytes() for name in ("a/b", "c", "d")] == [b"one", b"", b"two"]
    assert (tmp_path / "d").stat().st_mode & 0o777 == 0o600


def test_an_operation_that_this_agent_does_not_know_is_refused(tmp_path: Path) -> None:
    with pytest.raises(files.FileError, match="knows no operation 'fly'"):
        do(tmp_path, {"verb": "fly"})


@pytest.mark.parametrize("word", ["apt", ""])
def test_what_shares_something_is_done_one_after_the_other(tmp_path: Path, word: str) -> None:
    script = "mkdir lock 2>/dev/null || echo twice >> told; sleep 0.2; rmdir lock 2>/dev/null; true"
    threads = [threading.Thread(target=do, args=(tmp_path, sh(script)), kwargs={"exclusive": word}) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "told").exists() == (word == "")


def test_a_script_is_in_no_list_of_arguments_and_may_be_long(tmp_path: Path) -> None:
    secret = "hunter2" * 40_000
    result = scripts.run_script(f": {secret}\ntr '\\0' ' ' < /proc/$$/cmdline", None, None, str(tmp_path))
    assert result["exit"] == 0 and result["stdout"].startswith("/bin/sh /dev/fd/") and "hunter2" not in result["stdout"]


def test_a_script_that_fails_is_named_without_the_place_it_was_read_from(tmp_path: Path) -> None:
    result = scripts.run_script("no-such-program", None, None, str(tmp_path))
    assert result["exit"] == 127 and "/dev/fd" not in result["stderr"] and "no-such-program" in result["stderr"]


def test_a_folder_goes_only_when_it_is_empty(tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir/theirs").touch()
    with pytest.raises(files.FileError, match="dir stays: it holds theirs, which is not ours"):
        do(tmp_path, {"verb": "put", "path": "dir", "type": "vacant"})
    (tmp_path / "dir/theirs").unlink()
    do(tmp_path, *[{"verb": "put", "path": "dir", "type": "vacant"}] * 2)
    assert not (tmp_path / "dir").exists()


@pytest.mark.parametrize("left", ["sleep 60", "exec >&- 2>&-; sleep 60", "(trap '' TERM; sleep 60)"])
def test_a_script_that_is_ended_at_its_limit_clears_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: str) -> None:
    monkeypatch.setattr(scripts, "GRACE_S", 0.5 if "trap" in left else 30.0)
    script = f"kept=$(mktemp ./kept.XXXXXX); trap 'rm -f \"$kept\"; touch cleared' EXIT; {left}; touch never"
    result = scripts.run_script(script, 0.3, None, str(tmp_path))
    assert result["timed_out"] and result["exit"] is None
    stubborn = "trap" in left
    assert (tmp_path / "cleared").exists() != stubborn, "what does not end when it is asked to is killed"
    assert not (tmp_path / "never").exists() and bool(list(tmp_path.glob("kept.*"))) == stubborn


def test_a_script_that_is_left_behind_by_an_agent_that_goes_clears_up(tmp_path: Path) -> None:
    script = "trap 'touch cleared' EXIT; touch began; sleep 60"
    thread = threading.Thread(target=scripts.run_script, args=(script, None, None, str(tmp_path)))
    thread.start()
    while not (tmp_path / "began").exists():
        thread.join(0.01)
    scripts.kill_all()
    thread.join()
    assert (tmp_path / "cleared").exists()
