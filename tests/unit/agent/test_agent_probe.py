"""One probe answers everything in order, one bad item spoils no other; files are written whole with owner and mode."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from albor_pipeline.agent import facts, hashing, logs
from albor_pipeline.transport.client import AgentError


def probe(box: Any, *items: dict[str, Any]) -> list[Any]:
    return list(box.client.request("probe", items=list(items))["results"])


def test_items_are_answered_in_order_and_a_bad_one_spoils_no_other(box: Any) -> None:
    (box.root / "f").write_text("x")
    found = probe(
        box,
        {"op": "nonsense"},
        {"op": "tree", "path": "f"},
        {"op": "tree"},
        {"op": "sh", "script": "echo hi"},
        {"op": "tree", "path": "no"},
    )
    assert [sorted(item)[0] for item in (found[0], found[2])] == ["error", "error"]
    assert found[1]["found"] and found[1]["type"] == "file" and found[1]["files"] == 1 and found[1]["size_bytes"] == 1
    assert found[3]["stdout"] == "hi\n" and found[3]["exit"] == 0
    assert found[4] == {"found": False, "type": None, "root": None, "files": 0, "size_bytes": 0, "sig": None}


def test_verify_through_the_agent_names_the_changed_file(box: Any) -> None:
    end = box.run("mkdir d; echo 1 > d/a; echo 2 > d/b", outputs=[{"path": "d"}])
    root = end["exit"]["outputs"]["d"]["root"]
    assert probe(box, {"op": "verify", "path": "d", "root": root})[0]["same"]
    (box.root / "d" / "b").write_text("3\n")
    assert [change["path"] for change in probe(box, {"op": "verify", "path": "d", "root": root})[0]["changes"]] == ["b"]


def test_a_deep_look_sees_what_stamps_cannot(box: Any) -> None:
    file = box.root / "f"
    file.write_text("one")
    stamp = time.time_ns() - 10**10
    os.utime(file, ns=(stamp, stamp))
    time.sleep(2.1)
    first = probe(box, {"op": "tree", "path": "f"})[0]["root"]
    cache = box.root / ".albor" / "stat-cache"
    cache.write_text(cache.read_text().replace(hashing.digest_bytes(b"one"), "0" * 64))
    box.connect()
    assert probe(box, {"op": "tree", "path": "f"})[0]["root"] != first, "the cache is what plain looks trust"
    assert probe(box, {"op": "tree", "path": "f", "deep": True})[0]["root"] == first


def test_a_script_is_bounded_in_time_and_output_and_leaves_nothing(box: Any) -> None:
    began = time.monotonic()
    slow, loud, lingering = probe(
        box,
        {"op": "sh", "script": "sleep 60 & sleep 60", "timeout_s": 0.3},
        {"op": "sh", "script": "head -c 3000000 /dev/zero; exit 4"},
        {"op": "sh", "script": "sleep 50 & echo $!; cat"},
    )
    assert time.monotonic() - began < 5
    assert slow["timed_out"] and slow["exit"] is None
    assert loud["exit"] == 4 and loud["truncated"] and len(loud["stdout"]) == 1 << 20
    assert lingering["exit"] == 0
    box.until(
        lambda: (
            not Path("/proc", lingering["stdout"].strip(), "cmdline").exists()
            or "Z" in stat(lingering["stdout"].strip())
        )
    )


def stat(pid: str) -> str:
    try:
        return Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


def test_a_script_killed_by_a_signal_says_so_and_bytes_that_are_no_text_pass(box: Any) -> None:
    killed, bytes_ = probe(box, {"op": "sh", "script": "kill -9 $$"}, {"op": "sh", "script": r"printf '\377a'"})
    assert killed["exit"] is None and killed["signal"] == 9
    assert bytes_["stdout"] == "\ufffda"


def test_stat_tells_what_is_there_without_following_links(box: Any) -> None:
    (box.root / "f").write_text("x")
    (box.root / "f").chmod(0o640)
    (box.root / "l").symlink_to("f")
    file, link, none = probe(box, *({"op": "stat", "path": name} for name in ("f", "l", "none")))
    assert (file["type"], file["mode"], file["size_bytes"], file["digest"]) == (
        "file",
        "0640",
        1,
        hashing.digest_bytes(b"x"),
    )
    assert (link["type"], link["target"], link["digest"]) == ("link", "f", None)
    assert none == {"found": False}


def test_distributions_are_read_without_starting_the_interpreter(box: Any, tmp_path: Path) -> None:
    own = probe(box, {"op": "python", "python": None})[0]
    assert own["python"] == ".".join(map(str, sys.version_info[:3])) and own["dists"]["blake3"]
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "env")], check=True)
    python = tmp_path / "env" / "bin" / "python"
    site = next((tmp_path / "env" / "lib").glob("python*/site-packages"))
    (site / "My_Package.x-1.2.dist-info").mkdir()
    (site / "old-0.1-py3.11.egg-info").mkdir()
    found, missing = probe(
        box, {"op": "python", "python": str(python)}, {"op": "python", "python": str(tmp_path / "none")}
    )
    assert found == {"python": own["python"], "dists": {"my-package-x": "1.2", "old": "0.1"}}
    assert missing["error"]["code"] == "io"


def test_put_writes_whole_files_with_mode_and_get_gives_them_back(box: Any) -> None:
    data = os.urandom(3_000_000)
    done = box.client.request("put", path="deep/er/f", mode="0600", data=data)
    assert done["digest"] == hashing.digest_bytes(data) and (box.root / "deep/er/f").stat().st_mode & 0o777 == 0o600
    assert box.client.request("get", path="deep/er/f")["data"] == data
    assert box.client.request("get", path="deep/er/f", **{"from": 10, "max": 5})["data"] == data[10:15]
    box.client.request("put", path="deep/er/f", data=b"")
    assert (box.root / "deep/er/f").read_bytes() == b"" and (box.root / "deep/er/f").stat().st_mode & 0o777 == 0o644
    assert [entry["name"] for entry in box.client.request("list", path="deep/er")["entries"]] == ["f"]


def test_put_makes_folders_and_links_and_removes(box: Any) -> None:
    box.client.request("put", path="d", type="dir", mode="0700")
    box.client.request("put", path="l", type="link", target="d")
    box.client.request("put", path="l", type="link", target="elsewhere")
    assert (box.root / "d").stat().st_mode & 0o777 == 0o700 and (box.root / "l").readlink() == Path("elsewhere")
    with pytest.raises(AgentError, match="is a folder"):
        box.client.request("put", path="d", data=b"x")
    with pytest.raises(AgentError, match="no user"):
        box.client.request("put", path="f", owner="nobody-at-all", data=b"x")
    assert not list(box.root.glob("*.tmp")) and not list(box.root.glob(".f*"))
    for name in ("d", "l", "gone"):
        box.client.request("put", path=name, type="absent")
    assert sorted(path.name for path in box.root.iterdir()) == [".albor"]


def test_a_code_folder_appears_whole_and_verified_or_not_at_all(box: Any) -> None:
    files = {"stages/a.py": b"print(1)\n", "run.sh": b"#!/bin/sh\n"}
    folder = box.root / box.client.put_code("c0de" * 16, files, executable=["run.sh"])
    assert {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()} == files
    assert (folder / "run.sh").stat().st_mode & 0o111 and not (folder / "stages/a.py").stat().st_mode & 0o222
    assert box.root / box.client.put_code("c0de" * 16, {}) == folder
    for item, error in (
        ({"path": "a", "digest": "0" * 64, "size_bytes": 1}, "announced"),
        ({"path": "../a", "digest": "", "size_bytes": 1}, "must lie in"),
    ):
        with pytest.raises(AgentError, match=error):
            box.client.request("code_put", digest="bad0" * 16, files=[item], data=b"x")
    assert [path.name for path in (box.root / ".albor" / "code").iterdir()] == ["c0de" * 16]


def test_the_head_is_kept_per_lineage(box: Any) -> None:
    assert box.client.hello["head"] is None
    box.client.request("head", count=3, digest="abc")
    other = box.connect("other")
    assert other.hello["head"] is None and other.hello["heads"]["L"]["count"] == 3
    other.request("head", count=1, digest="x")
    assert box.connect().hello["head"]["digest"] == "abc"


def test_hello_lists_its_lineage_and_open_ones_when_asked(box: Any) -> None:
    box.run("true", "a")
    box.run("true", "b")
    box.client.request("ack", resource="a", number=1)
    assert [item["resource"] for item in box.connect(attempts="open").hello["attempts"]] == ["b"]
    assert [(item["resource"], item["acked"]) for item in box.connect().hello["attempts"]] == [
        ("a", True),
        ("b", False),
    ]
    assert len(box.connect("").hello["attempts"]) == 2


def test_hello_lists_of_another_lineage_what_came_after_the_last_of_its_own(box: Any) -> None:
    def listed(lineage: str) -> list[tuple[str, int]]:
        client = box.connect(lineage)
        box.clients.remove(client)
        client.close()
        return [(item["resource"], item["number"]) for item in client.hello["attempts"]]

    box.run("true", "a")
    box.run("true", "b")
    assert listed("L") == listed("other") == [("a", 1), ("b", 1)]
    box.run("true", "a", lineage="other")
    assert listed("L") == [("a", 1), ("a", 2), ("b", 1)] and listed("other") == [("a", 2), ("b", 1)]
    box.run("true", "a")
    assert listed("L") == [("a", 1), ("a", 3), ("b", 1)] and listed("other") == [("a", 2), ("a", 3), ("b", 1)]


def test_an_attempt_on_record_is_only_named_while_it_is_the_newest_and_acknowledged(box: Any) -> None:
    for name in "abc":
        box.run("true", name)
    for name in "ac":
        box.client.request("ack", resource=name, number=1)
    box.run("true", "c", expected=2)
    made = (1, box.spec("true")["fingerprint"][:12])
    attempts = {"a": made, "b": made, "c": made, "gone": (1, "0" * 12)}
    here = box.client.hello["machine_id"]

    def asked(known: dict[str, Any]) -> tuple[list[str], list[str]]:
        found = box.client.request("hello", known=known)
        return found["unchanged"], [item["resource"] for item in found["attempts"]]

    assert asked({"machine_id": here, "attempts": attempts}) == (["a"], ["b", "c", "c"])
    other = {**attempts, "a": (1, "0" * 12)}
    assert asked({"machine_id": here, "attempts": other}) == ([], ["a", "b", "c", "c"])
    assert asked({"machine_id": "another", "attempts": attempts}) == ([], ["a", "b", "c", "c"])


def test_answers_are_found_in_any_order(box: Any) -> None:
    first, second = (box.client.submit("probe", items=[{"op": "stat", "path": path}]) for path in (".", "no-such-file"))
    assert box.client.answer(second)["results"] != box.client.answer(first)["results"]


def test_an_unknown_verb_is_refused_by_name(box: Any) -> None:
    with pytest.raises(AgentError, match="'dance'"):
        box.client.request("dance")


def test_a_log_keeps_its_head_and_tail_and_reads_over_the_hole(tmp_path: Path) -> None:
    path = tmp_path / "log"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
    try:
        cap = logs.Cap(descriptor, head=1 << 16, tail=1 << 16, step=1 << 16)
        for _ in range(64):
            os.write(descriptor, b"x" * (1 << 16))
            cap.apply()
        size = os.fstat(descriptor).st_size
        assert size == 64 << 16 and os.fstat(descriptor).st_blocks * 512 <= 5 << 16
        begin, data = logs.read_from(descriptor, 1 << 17, 100)
        assert begin >= size - (3 << 16) and data == b"x" * 100
        assert logs.read_from(descriptor, size, 100) == (size, b"")
    finally:
        os.close(descriptor)


def test_a_log_is_read_from_any_offset_and_from_the_end(box: Any) -> None:
    box.run("printf 0123456789")
    assert box.client.request("log", resource="t", number=1, **{"from": 4, "max": 3})["data"] == b"456"
    assert box.client.request("log", resource="t", number=1, **{"from": -2})["data"] == b"89"
    assert box.client.request("log", resource="t", number=1, **{"from": 99})["data"] == b""


def test_owner_and_group_are_set_by_name_or_number_and_shown_by_name(box: Any) -> None:
    me = pwd.getpwuid(os.getuid()).pw_name
    for owner in (me, str(os.getuid())):
        box.client.request("put", path="f", owner=owner, group=str(os.getgid()), data=b"x")
        assert probe(box, {"op": "stat", "path": "f"})[0]["owner"] == me
    with pytest.raises(AgentError, match="no group"):
        box.client.request("put", path="f", group="no-such-group", data=b"x")


def test_what_no_account_owns_is_shown_by_number(box: Any) -> None:
    if os.getuid() != 0:
        pytest.skip("only root may give files away")
    (box.root / "f").write_text("x")
    os.chown(box.root / "f", 54321, 54321)
    found = probe(box, {"op": "stat", "path": "f"})[0]
    assert (found["owner"], found["group"]) == ("54321", "54321")


def test_put_refuses_what_would_hide_or_destroy(box: Any) -> None:
    (box.root / "f").write_text("x")
    for args, text in (
        ({"path": "f", "type": "dir"}, "not a folder"),
        ({"path": "g", "type": "soup"}, "soup"),
        ({"path": "/", "type": "absent"}, "not removed"),
    ):
        with pytest.raises(AgentError, match=text):
            box.client.request("put", data=b"", **args)
    with pytest.raises(AgentError, match="other bytes"):
        box.client.request("put", path="g", digest="0" * 64, data=b"x")
    assert [path.name for path in box.root.iterdir() if path.name != ".albor"] == ["f"]


def test_a_transfer_that_is_cut_leaves_nothing(box: Any) -> None:
    client = box.connect()
    client.submit("put", path="half", data=b"x" * 50_000_000)
    box.clients.pop().close()
    box.connect()
    box.until(lambda: [path.name for path in box.root.iterdir()] == [".albor"])


def test_code_that_comes_short_is_refused(box: Any) -> None:
    item = {"path": "a", "digest": hashing.digest_bytes(b"xx"), "size_bytes": 2}
    with pytest.raises(AgentError, match="fewer bytes"):
        box.client.request("code_put", digest="bad0" * 16, files=[item], data=b"x")
    with pytest.raises(AgentError, match="hex"):
        box.client.request("code_has", digest="../../x")


def test_a_machine_without_an_id_gets_one_that_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = facts.read_bytes
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(facts, "read_bytes", lambda path: None if path.startswith("/etc/") else real(path))
    first = facts.machine_id()
    assert (
        len(first) == 32
        and facts.machine_id() == first
        and (tmp_path / "albor" / "machine-id").read_text() == first + "\n"
    )


def test_gpus_are_asked_of_the_driver_program_where_proc_does_not_tell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(
        "#!/bin/sh\necho 'GPU 0: NVIDIA H200 (UUID: GPU-1)'\necho noise\necho 'GPU 1: NVIDIA H200 (UUID: GPU-2)'\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert facts.ask_driver() == ["NVIDIA H200 (UUID: GPU-1)", "NVIDIA H200 (UUID: GPU-2)"]
    program.write_text("#!/bin/sh\nexit 9\n")
    assert facts.ask_driver() == []


def test_an_interpreter_outside_an_environment_is_asked_and_a_broken_one_is_an_error(box: Any, tmp_path: Path) -> None:
    base = Path(sys.base_prefix, "bin", "python3")
    broken = tmp_path / "bin" / "python"
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    good, bad = probe(box, {"op": "python", "python": str(base)}, {"op": "python", "python": str(broken)})
    assert good["python"] == ".".join(map(str, sys.version_info[:3])) and "error" in bad
