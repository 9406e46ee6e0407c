"""Containers that are machines, as an engine is told to look at them, make them and enter them. The engine is a stand-in."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from albor_pipeline.model.manifest import Container
from albor_pipeline.transport import engine
from albor_pipeline.transport.faults import Unusable

BOX = Container("docker", "forjar-box", "ubuntu:22.04")
RICH = replace(
    BOX, privileged=True, gpus="all", devices=("/dev/kfd", "/dev/dri"), group_add=("video",), env={"TOKEN": "s3cret", "A": "x y"},
    volumes=("/data:/data:ro",),
)  # fmt: skip
# It notes its words and one variable, and answers by what lies beside it.
ENGINE = r"""#!/bin/sh
here=$(dirname "$0")
printf '%s\n' "$*" >>"$here/asked"
printf '%s\n' "$TOKEN" >>"$here/token"
case $1 in
  container) [ ! -e "$here/down" ] || { echo "Cannot connect to the Docker daemon" >&2; exit 1; }
    cat "$here/seen" 2>/dev/null || { echo "Error response from daemon: No such container: $3" >&2; exit 1; } ;;
  run) [ ! -e "$here/left" ] || { mv "$here/left" "$here/seen"; echo "starting it failed" >&2; exit 125; }
    [ ! -e "$here/broken" ] || { printf 'docker: Error: no such image.\nSee docker run --help.\n' >&2; exit 125; } ;;
  rm) rm "$here/seen" ;;
  *) echo "it says no" >&2; exit 1 ;;
esac
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of an engine that is called docker."""
    (tmp_path / "docker").write_text(ENGINE)
    (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path


def seen(*, running: bool, labels: dict[str, str] | None = None) -> str:
    return json.dumps([{"Id": "abc", "State": {"Running": running}, "Config": {"Labels": labels}}])


def test_all_settings_reach_the_engine_and_values_of_variables_by_its_environment() -> None:
    made_with = f"albor-pipeline.made-with={engine.digest(RICH)}"
    assert engine.words(RICH, "tale") == [
        "run", "-d", "--name=forjar-box", "--init", "--privileged", "--label=albor-pipeline=tale", f"--label={made_with}", "--gpus=all",
        "--device=/dev/kfd", "--device=/dev/dri", "--group-add=video", "--env=A", "--env=TOKEN", "--volume=/data:/data:ro",
        "--entrypoint=sleep", "ubuntu:22.04", "infinity",
    ]  # fmt: skip
    assert "--init" not in engine.words(replace(RICH, init=False), "tale")


def test_no_value_of_a_variable_is_in_a_command_line(here: Path) -> None:
    engine.make(RICH, "tale")
    assert "s3cret" not in (here / "asked").read_text()
    assert (here / "token").read_text() == "s3cret\n"


def test_what_is_made_otherwise_has_another_digest_and_its_fate_has_not() -> None:
    assert engine.digest(replace(BOX, ephemeral=False, name="other")) == engine.digest(BOX)
    others = [replace(BOX, image="other"), replace(BOX, init=False), replace(BOX, env={"A": "1"}), replace(BOX, gpus="all")]
    assert len({engine.digest(one) for one in [BOX, *others]}) == 5


def test_a_container_as_it_is(here: Path) -> None:
    assert engine.look(BOX) is None
    (here / "seen").write_text(seen(running=False, labels=None))
    assert engine.look(BOX) == engine.Seen("abc", False)
    (here / "seen").write_text(seen(running=True, labels={"albor-pipeline": "tale", "albor-pipeline.made-with": "d"}))
    assert engine.look(BOX) == engine.Seen("abc", True, "tale", "d")


def test_an_engine_that_is_not_there_or_does_not_answer_is_said(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "down").touch()
    with pytest.raises(Unusable, match="docker does not work here: Cannot connect to the Docker daemon"):
        engine.look(BOX)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(Unusable, match="docker, which its container runs by, is not installed here"):
        engine.look(BOX)


def test_one_of_ours_that_was_made_and_could_not_be_started_is_removed(here: Path) -> None:
    (here / "left").write_text(seen(running=False, labels={"albor-pipeline": "tale"}))
    with pytest.raises(Unusable, match=r"its container forjar-box cannot be made from ubuntu:22.04: starting it failed"):
        engine.make(BOX, "tale")
    assert "rm -f -v forjar-box" in (here / "asked").read_text()


@pytest.mark.parametrize("there", [seen(running=False), seen(running=True, labels={"albor-pipeline": "tale"})])
def test_another_one_of_that_name_is_left_alone(here: Path, there: str) -> None:
    (here / "left").write_text(there)
    with pytest.raises(Unusable):
        engine.make(BOX, "tale")
    assert "rm" not in (here / "asked").read_text().split()


def test_one_made_with_other_settings_is_refused_with_the_way_out() -> None:
    with pytest.raises(Unusable, match="was made with other settings") as caught:
        engine.check(BOX, engine.Seen("abc", True, "tale", engine.digest(RICH)))
    assert caught.value.ways == ("to make it anew, without what is in it now: docker rm -f forjar-box",)
    engine.check(BOX, engine.Seen("abc", True, "tale", engine.digest(BOX)))
    engine.check(BOX, engine.Seen("abc", True))


def test_what_a_container_refuses_is_said_with_its_last_words(here: Path) -> None:
    with pytest.raises(Unusable, match="cannot be started: it says no"):
        engine.start(BOX)
    with pytest.raises(Unusable, match="python3 cannot be installed in its container forjar-box: it says no"):
        engine.provide(BOX, "python3")
    with pytest.raises(Unusable, match="cannot be removed"):
        (here / "seen").unlink(missing_ok=True)
        engine.remove(BOX)


def test_the_error_of_docker_is_said_and_not_its_advice(here: Path) -> None:
    (here / "broken").touch()
    with pytest.raises(Unusable, match=r"cannot be made from ubuntu:22.04: docker: Error: no such image\.$"):
        engine.make(BOX, "tale")


@pytest.mark.parametrize(
    ("has", "asked"),
    [
        ("b3sum", ["install b3sum"]),
        ("python3-pip", ["install b3sum", "install python3-pip", "-m pip install -q --break-system-packages blake3"]),
    ],
)
def test_blake3_comes_as_a_package_where_there_is_one_and_else_by_pip(tmp_path: Path, has: str, asked: list[str]) -> None:
    (tmp_path / "apt-get").write_text(
        f'#!/bin/sh\nfor last; do :; done\n[ "$last" = update ] && exit\necho "install $last" >>{tmp_path}/asked\n[ "$last" = {has} ]\n'
    )
    (tmp_path / "python3").write_text(f'#!/bin/sh\necho "$*" >>{tmp_path}/asked\n')
    for program in ("apt-get", "python3"):
        (tmp_path / program).chmod(0o755)
    environ = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    done = subprocess.run(["/bin/sh", "-c", engine.PROVIDE, "sh", "blake3"], env=environ, capture_output=True, text=True, check=False)
    assert (done.returncode, (tmp_path / "asked").read_text().splitlines()) == (0, asked), done


def test_the_way_in(here: Path) -> None:
    program = str(here / "docker")
    assert engine.enter(BOX, None) == [program, "exec", "-i", "forjar-box"]
    assert engine.enter(BOX, "ann", variables=["A=1"], terminal=True) == [program, "exec", "-it", "-u", "ann", "-e", "A=1", "forjar-box"]
