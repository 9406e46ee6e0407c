"""docker, gpu, apt: what is done again, what an engine adds by itself, and what is never taken along."""

from __future__ import annotations

from pathlib import Path

from support_kinds import Bench

from albor_pipeline.model.observed import Observation
from albor_pipeline.resources import drivers, engines
from albor_pipeline.resources.package_apt import INSTALL


def test_a_container_that_differs_is_made_afresh_by_a_trigger_and_else_restarted(tmp_path: Path) -> None:
    made = Bench(tmp_path, "docker", {"name": "web", "image": "nginx:2"})
    wanted = dict(made.kind.wanted(made.one))
    restart = made.kind.again(made.one, Observation(True, wanted))
    other = made.kind.again(made.one, Observation(True, {**wanted, "image": "nginx:1"}))
    assert [" restart " in item["script"] for item in (*restart, *other)] == [True, False]
    assert " create " in other[0]["script"]


def test_a_trigger_does_not_install_a_driver_anew(tmp_path: Path) -> None:
    made = Bench(tmp_path, "gpu", {"driver_version": "550"})
    assert made.kind.again(made.one, Observation(True, dict(made.kind.wanted(made.one)))) == []


def test_the_proxy_of_an_engine_is_no_variable_of_a_container() -> None:
    assert {"HTTP_PROXY", "https_proxy", "no_proxy", "ALL_PROXY"} <= engines.OF_ENGINES


def test_apt_takes_nothing_along_that_was_not_rehearsed() -> None:
    assert INSTALL.count("get --no-remove install") == 2 and "get install" not in INSTALL
    assert "rehearse remove" in drivers.REMOVE and "apt-get -q -y -o DPkg::Lock::Timeout=300 remove" not in drivers.REMOVE
    assert "NEEDRESTART_MODE=l" in drivers.INSTALL and "dpkg --configure -a" in drivers.INSTALL
    assert drivers.toolkits("nvidia", "12.4") == ("cuda-toolkit-12-4", "nvidia-cuda-toolkit=12.4")
