"""model: fetched from a hub, an address and a path of this machine, over good lines and bad ones."""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakehub import Hub, gguf, safetensors
from support_kinds import Bench

from albor_pipeline.agent.files import FileError
from albor_pipeline.agent.hashing import digest_bytes
from albor_pipeline.errors import ManifestError
from albor_pipeline.model.observed import Observation

Q4, Q8 = gguf("Q4_K_M"), gguf("Q8_0")
REPOSITORY = {
    "tiny-Q4_K_M__gguf": Q4, "tiny-Q8_0__gguf": Q8, "model__safetensors": safetensors(), "config__json": b"{}", "__gitattributes": b"x",
}  # fmt: skip


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A hub that programs of this machine take for the real one."""
    with Hub() as made:
        monkeypatch.setenv("HF_ENDPOINT", made.url)
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("ALBOR_TEST_PAUSE_S", "0.01")
        made.offer("ann/tiny", "c1", **REPOSITORY)
        yield made


def model(root: Path, how: dict[str, Any] | None = None, **fields: Any) -> Bench:
    return Bench(root, "model", {"name": "tiny", **fields}, **(how or {}))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def ranges(hub: Hub) -> list[str]:
    """The parts of files that were asked for, without the looks at their size."""
    return [wanted for _path, wanted in hub.asked if wanted and wanted != "bytes=0-0"]


@pytest.mark.effect("model.source", "model.path", "model.format", "model.quantization", "model.state")
def test_one_file_of_the_hub_is_chosen_fetched_and_seen_for_what_it_is(hub: Hub, tmp_path: Path) -> None:
    fields = {"source": "ann/tiny", "path": "models/tiny.gguf", "format": "gguf", "quantization": "q4_k_m"}
    made = model(tmp_path, **fields)
    assert made.seen.values == {"state": "absent"} and made.converge() == "" and made.off == {}
    assert (tmp_path / "models/tiny.gguf").read_bytes() == Q4
    assert names(tmp_path / "models") == ["tiny.gguf", "tiny.gguf.albor.json"]
    other = model(tmp_path, **{**fields, "quantization": "Q8_0"})
    assert other.off == {"quantization": "Q4_K_M"} and other.converge() == "" and other.off == {}
    assert (tmp_path / "models/tiny.gguf").read_bytes() == Q8
    gone = model(tmp_path, path="models/tiny.gguf", state="absent")
    assert gone.off == {"state": "present"} and gone.converge() == "" and gone.off == {}
    assert names(tmp_path / "models") == []


@pytest.mark.effect("model.revision", "model.name")
def test_a_revision_is_one_commit_for_all_files_and_another_one_is_another_model(hub: Hub, tmp_path: Path) -> None:
    made = model(tmp_path, source="ann/tiny", format="safetensors", revision="c1", quantization="bf16")
    assert made.converge() == "" and made.off == {}
    folder = tmp_path / ".albor/models/tiny"
    assert names(folder) == ["config.json", "model.safetensors"]
    hub.offer("ann/tiny", "c2", model__safetensors=safetensors("F16"), config__json=b"{}")
    assert made.off == {}
    later = model(tmp_path, source="ann/tiny", format="safetensors", revision="c2", quantization="f16")
    assert later.off == {"revision": "c1", "quantization": "BF16"} and later.converge() == "" and later.off == {}
    assert (folder / "model.safetensors").read_bytes() == safetensors("F16")
    lost = model(tmp_path, source="ann/tiny", revision="c3")
    assert "/api/models/ann/tiny/revision/c3: HTTP 404: there is no such file, model or revision" in lost.converge()
    assert later.off == {}


def test_a_download_that_was_cut_goes_on_at_its_byte(hub: Hub, tmp_path: Path) -> None:
    fields = {"source": f"{hub.url}/ann/tiny/resolve/c1/tiny-Q8_0.gguf", "path": "m.gguf"}
    hub.cut_after = [30_000, 20_000]
    assert model(tmp_path, **fields).converge() == ""
    assert (tmp_path / "m.gguf").read_bytes() == Q8
    assert ranges(hub) == ["bytes=30000-", "bytes=50000-"]


def test_what_was_fetched_before_the_machine_went_away_is_shown_and_kept(hub: Hub, tmp_path: Path) -> None:
    made = model(tmp_path, source="ann/tiny", path="m.gguf", quantization="q8_0", format="gguf")
    hub.cut_after = [60_000, 0, 0, 0, 0, 0, 0]
    assert "the download failed 6 times, the last time with: the connection ended after 0 of" in made.converge()
    assert made.off["state"] == "a part of it, 0.0 GB"
    hub.asked.clear()
    assert made.converge() == "" and made.off == {}
    assert ranges(hub) == ["bytes=60000-"]


def test_a_listing_that_was_cut_is_asked_for_again(hub: Hub, tmp_path: Path) -> None:
    hub.cut_listings = [10]
    made = model(tmp_path, source="ann/tiny", path="m.gguf", quantization="q8_0", format="gguf")
    assert made.converge() == "" and made.off == {}


@pytest.mark.parametrize("etags", [True, False])
def test_a_server_that_cannot_go_on_begins_again(hub: Hub, tmp_path: Path, etags: bool) -> None:
    hub.ranges, hub.etags, hub.cut_after = False, etags, [30_000]
    assert model(tmp_path, source=f"{hub.url}/ann/tiny/resolve/c1/tiny-Q8_0.gguf", path="m.gguf").converge() == ""
    assert (tmp_path / "m.gguf").read_bytes() == Q8


def test_a_file_that_changed_on_the_server_meanwhile_is_not_mixed(hub: Hub, tmp_path: Path) -> None:
    made = model(tmp_path, source=f"{hub.url}/ann/tiny/resolve/c1/tiny-Q8_0.gguf", path="m.gguf")
    hub.cut_after = [60_000, 0, 0, 0, 0, 0, 0]
    made.converge()
    hub.cut_after = []
    hub.repositories["ann/tiny"]["c1"]["tiny-Q8_0.gguf"] = gguf("F16", 120_000)
    assert made.converge() == "" and (tmp_path / "m.gguf").read_bytes() == gguf("F16", 120_000)


def test_other_bytes_than_the_hub_announced_are_refused_and_removed(hub: Hub, tmp_path: Path) -> None:
    hub.lies["tiny-Q8_0.gguf"] = "0" * 64
    made = model(tmp_path, source="ann/tiny", path="m.gguf", quantization="q8_0", format="gguf")
    assert "/tiny-Q8_0.gguf: its SHA-256 is not 0000" in made.converge()
    assert made.off["state"] == "absent" and not (tmp_path / "m.gguf").exists()
    hub.lies.clear()
    assert made.converge() == "" and made.off == {}


@pytest.mark.effect("model.checksum")
def test_a_checksum_is_seen_before_the_model_is_in_its_place(hub: Hub, tmp_path: Path) -> None:
    address = f"{hub.url}/ann/tiny/resolve/c1/tiny-Q8_0.gguf"
    made = model(tmp_path, source=address, path="m.gguf", checksum=f"blake3:{digest_bytes(Q8).upper()}")
    assert made.converge() == "" and made.off == {}
    wrong = model(tmp_path, source=address, path="m.gguf", checksum="0" * 64)
    assert wrong.off == {"checksum": digest_bytes(Q8)}
    with pytest.raises(FileError, match=f"m.gguf has the BLAKE3 digest {digest_bytes(Q8)}, and {'0' * 64} is declared; it was removed"):
        wrong.converge()
    assert (tmp_path / "m.gguf").read_bytes() == Q8 and not (tmp_path / "m.gguf.part").exists()


def test_a_model_that_somebody_brought_is_taken_where_its_checksum_proves_it_and_asked_about_else(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(Q8)
    assert model(tmp_path, source="ann/tiny", path="m.gguf", checksum=digest_bytes(Q8)).off == {}
    other = model(tmp_path, source="ann/tiny", path="m.gguf", format="gguf")
    assert other.off == {"source": "unknown", "files": "not fetched for this resource"}
    assert other.kind.precious == ("source", "files")


def test_a_folder_has_the_checksum_of_its_tree(hub: Hub, tmp_path: Path) -> None:
    made = model(tmp_path, source="ann/tiny", format="safetensors", path="t")
    assert made.converge() == ""
    root = model(tmp_path, source="ann/tiny", format="safetensors", path="t", checksum="0" * 64).seen.values["checksum"]
    assert model(tmp_path, source="ann/tiny", format="safetensors", path="t", checksum=root).off == {}
    made.remove()
    assert model(tmp_path, source="ann/tiny", format="safetensors", path="t", checksum=root).converge() == ""


def test_a_later_change_of_a_file_is_seen_and_healed(hub: Hub, tmp_path: Path) -> None:
    made = model(tmp_path, source="ann/tiny", format="safetensors", path="t")
    assert made.converge() == "" and made.off == {}
    (tmp_path / "t/config.json").write_text("{ }")
    assert made.off == {"files": "changed: config.json"} and made.converge() == "" and made.off == {}
    path = tmp_path / "t/config.json"
    before = path.stat()
    path.write_bytes(b"[]")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert made.off == {}
    assert model(tmp_path, {"deep": True}, source="ann/tiny", format="safetensors", path="t").off == {"files": "changed: config.json"}


def test_what_somebody_added_is_no_change_and_stays(hub: Hub, tmp_path: Path) -> None:
    fields = {"source": "ann/tiny", "format": "safetensors", "path": "t"}
    made = model(tmp_path, **fields)
    assert made.converge() == ""
    (tmp_path / "t/mine").mkdir()
    (tmp_path / "t/mine/adapter.gguf").write_bytes(Q8)
    assert made.off == {}
    (tmp_path / "t/config.json").write_text("{ }")
    assert made.converge() == "" and made.off == {} and (tmp_path / "t/config.json").read_text() == "{}"
    assert (tmp_path / "t/mine/adapter.gguf").read_bytes() == Q8
    proven = model(tmp_path, **fields, checksum="0" * 64)
    assert "t would be replaced, and holds what was not fetched: mine/adapter.gguf: move it away" in proven.converge()
    assert "holds what was not fetched: mine/adapter.gguf" in model(tmp_path, path="t", state="absent").converge()
    assert made.remove() == "" and names(tmp_path / "t") == ["mine"] and (tmp_path / "t/mine/adapter.gguf").read_bytes() == Q8
    assert "t is a folder that was not fetched for this resource: remove it by hand" in made.remove()


@pytest.mark.effect("model.cache_dir")
def test_what_is_kept_in_the_cache_is_not_fetched_again(hub: Hub, tmp_path: Path) -> None:
    fields = {"source": "ann/tiny", "format": "gguf", "quantization": "q4_k_m", "path": "m.gguf", "cache_dir": "kept"}
    made = model(tmp_path, **fields)
    assert made.converge() == "" and made.remove() == ""
    assert [path.read_bytes() for path in (tmp_path / "kept").rglob("*") if path.is_file()] == [Q4]
    hub.asked.clear()
    assert made.converge() == "" and made.off == {}
    assert not [path for path, _range in hub.asked if path.endswith(".gguf")]


def test_writing_to_the_model_leaves_the_cache_as_it_is(hub: Hub, tmp_path: Path) -> None:
    made = model(tmp_path, source="ann/tiny", format="gguf", quantization="q4_k_m", path="m.gguf", cache_dir="kept")
    assert made.converge() == ""
    with (tmp_path / "m.gguf").open("r+b") as file:
        file.write(b"BROKEN")
    assert [path.read_bytes() for path in (tmp_path / "kept").rglob("*") if path.is_file()] == [Q4]
    assert made.off["files"] == "changed: m.gguf" and made.converge() == "" and (tmp_path / "m.gguf").read_bytes() == Q4


@pytest.mark.parametrize("cache", [{}, {"cache_dir": "kept"}])
def test_a_branch_that_moved_meanwhile_is_not_mixed(hub: Hub, tmp_path: Path, cache: dict[str, str]) -> None:
    made = model(tmp_path, source="ann/two", path="t", **cache)
    hub.offer("ann/two", "c1", a__gguf=Q4, b__gguf=Q4)
    hub.cut_after = [200_000, 0, 0, 0, 0, 0, 0]
    assert "the download failed" in made.converge()
    hub.cut_after = []
    hub.offer("ann/two", "c2", a__gguf=Q8, b__gguf=Q8)
    assert made.converge() == "" and made.off == {}
    assert [(tmp_path / "t" / name).read_bytes() for name in ("a.gguf", "b.gguf")] == [Q8, Q8]


@pytest.mark.effect("model.token")
def test_a_token_opens_the_hub_and_is_in_no_list_of_processes(hub: Hub, tmp_path: Path) -> None:
    hub.token = "hf_very_secret"
    fields = {"source": "ann/tiny", "path": "m.gguf", "quantization": "q8_0", "format": "gguf"}
    assert "HTTP 401: a token is needed" in model(tmp_path, **fields).converge()
    made = model(tmp_path, **fields, token="hf_very_secret")
    assert made.converge() == "" and made.off == {}
    assert "secret" not in str(made.kind.wanted(made.one)) + str(made.kind.remove(made.one)) + (tmp_path / "m.gguf.albor.json").read_text()
    (line,) = [line for line in made.kind.converge(made.one, Observation(False))[0]["script"].splitlines() if "hf_very" in line]
    assert line.startswith("printf %s '{")
    (tmp_path / ".cache/huggingface").mkdir(parents=True)
    (tmp_path / ".cache/huggingface/token").write_text("hf_very_secret\n")
    assert model(tmp_path, **{**fields, "path": "n.gguf"}).converge() == ""


def test_a_path_of_the_machine_is_copied_and_a_missing_one_makes_no_stub(tmp_path: Path) -> None:
    """forjar 6.3: a missing source left an empty file and was called a success."""
    made = model(tmp_path, source=f"{tmp_path}/from.gguf", path="deep/m.gguf")
    said = f"there is no {tmp_path}/from.gguf on this machine to take it from"
    assert made.says() == [said] and made.converge().strip() == said
    assert not (tmp_path / "deep/m.gguf").exists() and made.seen.values == {"state": "absent"}
    (tmp_path / "from.gguf").write_bytes(Q8)
    assert made.says() == [] and made.converge() == "" and made.off == {}
    assert (tmp_path / "deep/m.gguf").read_bytes() == Q8
    (tmp_path / "from").mkdir()
    (tmp_path / "from/a.bin").write_bytes(b"x")
    folder = model(tmp_path, source="./from", path="all/")
    assert folder.converge() == "" and folder.off == {} and (tmp_path / "all/a.bin").read_bytes() == b"x"


def test_other_formats_and_quantizations_than_declared_are_refused_before_they_are_in_place(hub: Hub, tmp_path: Path) -> None:
    address = f"{hub.url}/ann/tiny/resolve/c1/tiny-Q8_0.gguf"
    for fields in ({"format": "safetensors"}, {"quantization": "q4_k_m"}, {"format": "gguf", "quantization": "f16"}):
        made = model(tmp_path, source=address, path="m.gguf", **fields)
        assert made.converge().strip() == "what was fetched is gguf, quantization Q8_0; it was removed"
        assert made.off["state"] == "absent"
    (tmp_path / "tiny-int8.apr").write_bytes(b"APR2")
    assert model(tmp_path, source=f"{tmp_path}/tiny-int8.apr", path="t/", format="apr", quantization="int8").converge() == ""


def test_a_choice_that_is_none_or_several_is_told_with_what_is_there(hub: Hub, tmp_path: Path) -> None:
    said = model(tmp_path, source="ann/tiny", path="m.gguf", format="gguf").converge()
    assert "ann/tiny has 2 such files, and one is to be at m.gguf: tiny-Q4_K_M.gguf, tiny-Q8_0.gguf" in said
    assert "ann/tiny has no file of format onnx: there is tiny-Q4_K_M.gguf," in model(tmp_path, source="ann/tiny", format="onnx").converge()


def test_a_disk_that_is_too_small_is_told_before_anything_is_fetched(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.repositories["ann/tiny"]["c1"]["tiny-Q8_0.gguf"] = b"x"
    listing = hub._listing

    def huge(handler: Any, name: str, revision: str) -> None:
        data = hub.repositories["ann/tiny"]["c1"]
        kept, data["tiny-Q8_0.gguf"] = data["tiny-Q8_0.gguf"], Long()
        try:
            listing(handler, name, revision)
        finally:
            data["tiny-Q8_0.gguf"] = kept

    monkeypatch.setattr(hub, "_listing", huge)
    said = model(tmp_path, source="ann/tiny", path="m.gguf", format="gguf", quantization="q8_0").converge()
    assert "9000000.0 GB are to be fetched, and" in said and "GB are free in" in said
    assert not [path for path, _range in hub.asked if path.endswith(".gguf")]


class Long(bytes):
    """A file that says that it has nine petabytes."""

    def __len__(self) -> int:
        return 9 * 10**15


@pytest.mark.effect("model.owner")
def test_the_owner_is_seen_and_set_before_the_model_is_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "from").write_bytes(b"x")
    made = model(tmp_path, source=f"{tmp_path}/from", path="m", owner="daemon")
    operations = made.kind.converge(made.one, made.seen)
    assert "chown -R -- daemon m.part/result" in operations[1]["script"] and operations[2]["verb"] == "place"
    if os.geteuid() == 0:
        assert made.converge() == "" and made.off == {}
        os.chown(tmp_path / "m", 0, 0)
        assert made.off == {"owner": "root"}
        (fix,) = made.kind.converge(made.one, made.seen)
        assert fix["script"].endswith("chown -R -- daemon m\n") and made.do([fix]) == "" and made.off == {}


def test_an_end_between_fetching_and_placing_fetches_nothing_again(hub: Hub, tmp_path: Path) -> None:
    for fields in ({"path": "m.gguf", "format": "gguf", "quantization": "q8_0"}, {"path": "t", "format": "safetensors"}):
        made = model(tmp_path, source="ann/tiny", **fields)
        fetch, *_rest = made.kind.converge(made.one, made.seen)
        assert made.do([fetch]) == "" and made.off["state"].startswith("a part of it")
        hub.asked.clear()
        assert made.converge() == "" and made.off == {}
        assert [path for path, _range in hub.asked if "resolve" in path] == []


def test_a_model_without_a_source_is_refused_with_its_place(tmp_path: Path) -> None:
    made = model(tmp_path)
    with pytest.raises(ManifestError) as caught:
        made.kind.wanted(made.one)
    assert caught.value.diagnostics[0].message == "`it` does not say where the model comes from"
    assert "m.yaml:4" in str(caught.value.diagnostics[0].span)




def test_a_path_in_the_home_folder_is_found_there_by_all_of_it(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    fields = {"source": "ann/tiny", "path": "~/models/it's tiny", "format": "gguf", "quantization": "q4_k_m", "cache_dir": "~/kept"}
    made = model(tmp_path, owner=str(getpass.getuser()), checksum="0" * 64, **fields)
    with pytest.raises(FileError, match="it was removed"):
        made.converge()
    assert not (home / "models/it's tiny").exists() and not list((home / "kept").iterdir())
    made = model(tmp_path, owner=str(getpass.getuser()), **fields)
    assert made.converge() == "" and made.off == {}
    assert names(home / "models") == ["it's tiny", "it's tiny.albor.json"] and names(home) == ["kept", "models"]
    assert not (tmp_path / "~").exists()
    assert made.remove() == "" and not list((home / "models").iterdir())
