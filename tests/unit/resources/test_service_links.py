"""What taking a service away does to its unit, with a systemctl that only writes down what it is told."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from albor_pipeline.manifest.load import load
from albor_pipeline.resources.base import Instance
from albor_pipeline.resources.registry import convergent

SYSTEMCTL = '#!/bin/sh\ncase $1 in show) echo loaded ;; is-enabled) echo {word} ;; *) echo "$*" >>"{told}" ;; esac\n'


@pytest.mark.parametrize(
    ("word", "disabled"), [("enabled", "disable -- app\n"), ("linked", ""), ("linked-runtime", ""), ("static", "")]
)
def test_a_unit_that_is_only_linked_keeps_its_link(tmp_path: Path, word: str, disabled: str) -> None:
    (tmp_path / "m.yaml").write_text("version: '1.0'\nname: t\nresources: {it: {type: service, name: app}}\n")
    manifest = load(tmp_path / "m.yaml")
    one = Instance(manifest.resources["it"], manifest.machines["localhost"], tmp_path)
    program, told = tmp_path / "systemctl", tmp_path / "told"
    program.write_text(SYSTEMCTL.format(word=word, told=told))
    program.chmod(0o755)
    text = convergent("service").remove(one)[0]["script"].replace("/run/systemd/system", str(tmp_path)).replace("$(id -u)", "0")
    subprocess.run(["/bin/sh", "-euc", text], check=True, env={"PATH": f"{tmp_path}:/usr/bin:/bin"})
    assert told.read_text() == f"stop -- app\n{disabled}"
