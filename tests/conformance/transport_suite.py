"""What every transport must do, whatever lies between: a subclass gives `connect`. Not collected by itself."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from albor_pipeline.errors import UnreachableError
from albor_pipeline.transport.client import AgentClient, AgentError

Connect = Callable[[str], AgentClient]
ODD_NAMES = (
    "plain",
    "two words",
    "quo'te",
    'dou"ble',
    "new\nline",
    "dollar$HOME",
    "back\\slash",
    "semi;colon",
    "ünïcode",
    "-dash",
    "star*",
)


class TransportSuite:
    """The laws; a subclass brings the fixture `connect`, whose workdir is a folder on the machine that the test can also see."""

    @pytest.fixture
    def client(self, connect: Connect, tmp_path: Path) -> AgentClient:
        return connect(str(tmp_path))

    def sh(self, client: AgentClient, script: str, **args: Any) -> dict[str, Any]:
        return dict(client.request("sh", script=script, **args))

    def test_hello_says_where_and_what_this_is(self, client: AgentClient, tmp_path: Path) -> None:
        said = client.hello
        assert said["workdir"] == str(tmp_path.resolve()) and said["version"] == 1
        for key in ("python", "platform", "machine_id", "boot_id", "hostname", "user"):
            assert isinstance(said[key], str) and said[key]
        assert (
            said["cpus"] >= 1
            and said["memory_bytes"] > 1 << 20
            and said["disk_free_bytes"] >= 0
            and said["network_fs"] is False
        )

    def test_every_exit_code_comes_back(self, client: AgentClient) -> None:
        items = [{"op": "sh", "script": f"exit {code}"} for code in range(256)]
        assert [found["exit"] for found in client.request("probe", items=items)["results"]] == list(range(256))

    def test_ten_megabytes_come_whole(self, client: AgentClient, tmp_path: Path) -> None:
        data = bytes(range(256)) * 40_000
        (tmp_path / "big").write_bytes(data)
        assert client.request("get", path="big")["data"] == data

    def test_ten_megabytes_go_whole(self, client: AgentClient, tmp_path: Path) -> None:
        data = bytes(range(255, -1, -1)) * 40_000
        client.request("put", path="big", data=data)
        assert (tmp_path / "big").read_bytes() == data

    def test_both_sides_may_write_much_at_once(self, client: AgentClient, tmp_path: Path) -> None:
        data = b"0123456789abcdef" * 300_000
        (tmp_path / "down").write_bytes(data)
        gets = [client.submit("get", path="down") for _ in range(3)]
        puts = [client.submit("put", path=f"up{i}", data=data) for i in range(3)]
        sizes: dict[int, int] = dict.fromkeys(gets, 0)
        waiting, deadline = {*gets, *puts}, time.monotonic() + 60
        while waiting and time.monotonic() < deadline:
            for message in client.poll(1.0):
                assert message.error is None
                if message.kind == "data":
                    sizes[message.id] += len(message.data)
                if message.kind == "end" or (message.kind == "reply" and message.id in puts):
                    waiting.discard(message.id)
        assert set(sizes.values()) == {len(data)} and all((tmp_path / f"up{i}").read_bytes() == data for i in range(3))

    def test_a_message_of_many_megabytes_passes_both_ways(self, client: AgentClient) -> None:
        items = [{"op": "tree", "path": "x" * 50 + str(i)} for i in range(30_000)]
        assert len(client.request("probe", items=items)["results"]) == 30_000

    def test_a_short_request_does_not_wait_behind_a_long_one(self, client: AgentClient, tmp_path: Path) -> None:
        slow = client.submit("sh", script="sleep 1.5")
        (tmp_path / "big").write_bytes(b"x" * 20_000_000)
        client.submit("get", path="big")
        began = time.monotonic()
        client.request("code_has", digest="0" * 16)
        assert time.monotonic() - began < 1.0
        while not any(message.kind == "reply" and message.id == slow for message in client.poll(5.0)):
            pass

    def test_output_and_errors_come_apart_and_a_script_of_a_megabyte_runs(self, client: AgentClient) -> None:
        found = self.sh(client, "for i in 1 2 3; do echo out$i; echo err$i >&2; done")
        assert (found["stdout"], found["stderr"]) == ("out1\nout2\nout3\n", "err1\nerr2\nerr3\n")
        path = "long.sh"
        script = "".join(f"x={i}\n" for i in range(130_000)) + "echo $x\n"
        client.request("put", path=path, data=script.encode())
        assert self.sh(client, f"sh {path}")["stdout"] == "129999\n"

    def test_bytes_that_are_no_text_do_not_break_the_line(self, client: AgentClient) -> None:
        assert self.sh(client, r"printf '\377\000\376ok'")["stdout"].endswith("ok")
        assert self.sh(client, "cat; echo end")["stdout"] == "end\n"

    @pytest.mark.parametrize("name", ODD_NAMES)
    def test_any_file_name_is_only_a_name(self, client: AgentClient, tmp_path: Path, name: str) -> None:
        client.request("put", path=name, data=b"x")
        assert (tmp_path / name).read_bytes() == b"x"
        assert client.request("probe", items=[{"op": "stat", "path": name}])["results"][0]["size_bytes"] == 1

    def test_a_time_limit_ends_grandchildren_too(self, client: AgentClient, tmp_path: Path) -> None:
        found = self.sh(client, "sh -c 'sh -c \"sleep 1; touch late\" & wait' & wait", timeout_s=0.2)
        assert found["timed_out"]
        time.sleep(1.2)
        assert not (tmp_path / "late").exists()

    def test_many_requests_may_be_under_way(self, client: AgentClient) -> None:
        numbers = {client.submit("sh", script=f"echo {i}"): i for i in range(50)}
        found: dict[int, str] = {}
        while len(found) < 50:
            found.update({m.id: m.body["stdout"] for m in client.poll(5.0) if m.kind == "reply"})
        assert all(found[number] == f"{i}\n" for number, i in numbers.items())

    def test_a_refusal_is_an_error_with_a_code_and_the_line_stays_usable(self, client: AgentClient) -> None:
        for verb, args in (
            ("no-such-verb", {}),
            ("get", {"path": "none"}),
            ("probe", {}),
            ("ack", {"resource": "x", "number": 1}),
        ):
            with pytest.raises(AgentError) as refused:
                client.request(verb, **args)
            assert refused.value.code and refused.value.message
        assert self.sh(client, "echo fine")["stdout"] == "fine\n"

    def test_an_attempt_runs_to_its_proof_and_outlives_the_connection(self, connect: Connect, tmp_path: Path) -> None:
        spec = {"fingerprint": "ab" * 32, "lineage": "L", "run": "1", "cwd": ".", "env": {}, "outputs": [{"path": "o"}]}
        script = "until [ -e go ]; do sleep 0.02; done; echo 1 > o"
        first = connect(str(tmp_path))
        first.request("lease", holder="a test")
        assert first.request("start", resource="t", argv=["sh", "-c", script], **spec)["number"] == 1
        first.close()
        (tmp_path / "go").touch()
        second = connect(str(tmp_path))
        second.submit("attach", resource="t", number=1)
        for message in itertools.chain.from_iterable(second.poll(5.0) for _ in range(20)):
            if message.kind == "event":
                assert message.body["exit"]["class"] == "ok" and json.dumps(message.body)
                break
        else:
            raise AssertionError("no word of the end")

    def test_a_workdir_that_cannot_be_made_names_the_machine(self, connect: Connect, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("x")
        with pytest.raises(UnreachableError, match="box"):
            connect(str(tmp_path / "file" / "below"))

    def test_after_close_nothing_more_is_said(self, client: AgentClient) -> None:
        client.close()
        with pytest.raises(UnreachableError, match="box"):
            client.request("attempts")
        assert all(message.kind == "closed" for message in client.poll(0))
