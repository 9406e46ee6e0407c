"""The kind `package` on a real machine: apt and pip, from nothing and after what people do by hand."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from wheels import wheel

from testbed.conftest import Make
from testbed.debs import Debs
from testbed.machine import Machine
from testbed.pipeline import Pipeline

pytestmark = pytest.mark.root
WHEELS = "/usr/share/python-wheels"


@pytest.fixture
def debs(box: Machine) -> Iterator[Debs]:
    """A package source of the machine's own."""
    with Debs(box) as made:
        yield made


@pytest.fixture
def pip(box: Machine) -> Iterator[Path]:
    """The machine's python3 has pip, which installs from this folder of wheels alone."""
    run = f"cd {WHEELS} && python3 $(echo pip-*.whl)/pip"
    box.do(f"{run} install -q --break-system-packages --no-index ./pip-*.whl && mkdir -p /srv/wheels /root/.config/pip")
    config = "[global]\nno-index = true\nfind-links = /srv/wheels\n"
    Path(f"/proc/{box.init}/root/root/.config/pip/pip.conf").write_text(config)
    yield Path(f"/proc/{box.init}/root/srv/wheels")
    box.do(f"{run} uninstall -q -y --break-system-packages bed_wheel pip; rm -r /srv/wheels /root/.config/pip")


def packages(project: Pipeline, **resources: str) -> Pipeline:
    """Package resources on lambda, each with its fields as a flow mapping."""
    lines = (f"{name}: {{type: package, machine: lambda, {fields}}}\n" for name, fields in resources.items())
    head = f"policy: {{failure: continue_independent}}\nmachines: {{lambda: {{addr: lambda, workdir: ~/runs/{project.name}}}}}\n"
    return project.manifest("".join(lines), head)


@pytest.mark.soak
@pytest.mark.effect("package.provider", "package.packages", "package.version", "package.state")
def test_packages_are_installed_held_healed_and_removed(make: Make, debs: Debs, box: Machine, pip: Path) -> None:
    for name in ("bed-one", "bed-pin", "bed-late", "bed-gone"):
        debs.offer(name, "1.0")
        debs.offer(name, "1.1")
    debs.offer("bed-two", "1.0", "Depends: bed-one")
    debs.offer("bed-cut", "1.0", postinst="test -e /srv/debs/ready")
    for version in ("1.0", "2.0"):
        wheel(pip, "bed_wheel", version)
    by_hand = "dpkg -i {pin}_1.1.deb {late}_1.0.deb {gone}_1.0.deb".format(pin="bed-pin", late="bed-late", gone="bed-gone")
    box.do(f"cd /srv/debs && {by_hand} >/dev/null; dpkg -i bed-cut_1.0.deb >/dev/null 2>&1; touch ready /var/lib/dpkg/updates/0001")
    resources = {
        "two": "provider: apt, packages: [bed-two, bed-one]",
        "pin": "provider: apt, packages: [bed-pin], version: '1.0'",
        "late": "provider: apt, packages: [bed-late], state: latest, depends_on: [two]",
        "gone": "provider: apt, packages: [bed-gone, bed-never], state: absent",
        "cut": "provider: apt, packages: [bed-cut]",
        "pip": "provider: pip, packages: [Bed-Wheel], version: '1.0'",
    }
    project = packages(make(), **resources)
    said = project.run("apply", "--yes")
    assert said.exit == 0, said
    there = {name: debs.installed(name) for name in ("bed-one", "bed-two", "bed-pin", "bed-late", "bed-gone", "bed-cut")}
    assert there == {
        "bed-one": "ii 1.1", "bed-two": "ii 1.0", "bed-pin": "ii 1.0", "bed-late": "ii 1.1", "bed-gone": "", "bed-cut": "ii 1.0",
    }  # fmt: skip
    assert box.do("python3 -c 'import importlib.metadata as m; print(m.version(\"bed_wheel\"))'") == "1.0\n"
    assert project.run("apply").out == "Nothing to do: 6 unchanged.\n"
    debs.offer("bed-new", "1.0")
    box.do(f"cd /srv/debs && {by_hand} >/dev/null 2>&1; dpkg --purge bed-two >/dev/null")
    box.do("python3 -m pip install -q -U bed_wheel --break-system-packages")
    said = project.run("drift", "--json")
    assert said.exit == 4, said
    assert sorted(finding["detail"] for finding in json.loads(said.out)["findings"]) == [
        "Bed-Wheel: recorded 1.0, found 2.0",
        "bed-late: recorded latest, found 1.0; 1.1 is there",
        "bed-pin: recorded 1.0, found 1.1, newer: apt-get goes back",
        "bed-two: recorded present, found absent",
        "state: recorded absent, found present: bed-gone",
    ]
    heal = packages(project, **{name: fields for name, fields in resources.items() if name != "late"}).run("apply", "--yes")
    assert heal.exit == 0, heal
    assert [debs.installed(name) for name in ("bed-two", "bed-pin", "bed-gone")] == ["ii 1.0", "ii 1.0", ""]
    assert "bed-new" not in box.do("apt-cache pkgnames"), "the lists are fetched only for what apt does not know"
    gone = {name: fields.replace(", version: '1.0'", "") + ", state: absent" for name, fields in resources.items() if "state" not in fields}
    said = packages(project, **gone).run("apply", "--yes")
    assert said.exit == 0, said
    assert {debs.installed(name) for name in ("bed-one", "bed-two", "bed-pin", "bed-cut")} == {""}
    assert "No module named" in box.do("python3 -c 'import bed_wheel' 2>&1 || true")


def test_what_cannot_be_meant_changes_nothing_and_says_why(make: Make, debs: Debs) -> None:
    debs.offer("bed-one", "1.0", "Provides: bed-any")
    debs.offer("bed-two", "1.0", "Conflicts: bed-one")
    debs.offer("bed-three", "1.0", "Depends: bed-one")
    project = packages(make(), three="provider: apt, packages: [bed-three]")
    assert project.run("apply").exit == 0
    resources = {
        "unknown": "provider: apt, packages: [bed-none]",
        "version": "provider: apt, packages: [bed-one], version: '3'",
        "pattern": "provider: apt, packages: [bed.one]",
        "virtual": "provider: apt, packages: [bed-any]",
        "conflict": "provider: apt, packages: [bed-two]",
        "needed": "provider: apt, packages: [bed-one], state: absent",
        "pip": "provider: pip, packages: [wheel]",
        "uv": "provider: uv, packages: [ruff]",
        "cargo": "provider: cargo, packages: [ripgrep]",
    }
    said = packages(project, **resources).run("apply", "--yes")
    assert said.exit == 3, said
    for text in (
        "Unable to locate package bed-none",
        "Version '3' for 'bed-one' was not found",
        "Unable to locate package bed.one",
        "bed-any is a virtual package: name one that provides it",
        "this would remove bed-three bed-one: a package resource with `state: absent` before it says that it is meant",
        "removing bed-one would remove bed-three too, which needs it: name it among the packages, or keep both",
        "python3 has no pip here: add a package resource for it",
        "uv is not installed here: add a package resource for it",
        "cargo is not installed here: add a package resource for it",
    ):
        assert text in said.err, said.err
    assert [debs.installed(name) for name in ("bed-one", "bed-two", "bed-three")] == ["ii 1.0", "", "ii 1.0"]


def test_pip_and_the_pip_that_python_brings_are_asked_before_anything_is_made(make: Make, pip: Path) -> None:
    wheel(pip, "bed_wheel", "1.0")
    project = packages(make(), one="provider: pip, packages: [bed-wheel, bed-none]", two="provider: pip, packages: [bed_wheel==3]")
    said = project.run("provision", "plan")
    assert said.exit == 1 and "2 to converge, 2 that cannot" in said.err, said
    assert "`one` on lambda: no package index has `bed-none`\n" in said.err, said
    assert "`two` on lambda: no package index has version 3 of `bed_wheel` for this Python: there is 1.0\n" in said.err, said


def test_what_a_package_of_the_same_plan_may_bring_is_not_lacking(make: Make, debs: Debs, box: Machine) -> None:
    debs.offer("bed-one", "1.0")
    box.do("apt-get -qq update")
    lacking = {"pip": "provider: pip, packages: [wheel]", "uv": "provider: uv, packages: [ruff]"}
    said = packages(make(), one="provider: apt, packages: [bed-one]", **lacking).run("provision", "plan")
    assert said.exit == 1 and "3 to converge, 2 that cannot" in said.err and "`pip` on lambda: python3 has no pip here" in said.err, said
    waiting = {name: f"{fields}, depends_on: [one]" for name, fields in lacking.items()}
    said = packages(make(), one="provider: apt, packages: [bed-one]", **waiting).run("provision", "plan")
    assert said.exit == 0 and "3 to converge, 0 that cannot" in said.err, said


def test_packages_that_do_not_fit_are_told_before_and_what_two_need_counts_once(make: Make, debs: Debs, box: Machine) -> None:
    room = int(box.do("df --output=avail -k /usr | tail -1"))
    debs.offer("bed-base", "1.0", f"Installed-Size: {room * 6 // 10}")
    debs.offer("bed-one", "1.0", "Installed-Size: 1000", "Depends: bed-base")
    debs.offer("bed-two", "1.0", "Installed-Size: 1000", "Depends: bed-base")
    debs.offer("bed-huge", "1.0", f"Installed-Size: {room * 2}")
    box.do("apt-get -qq update")
    project = packages(make(), one="provider: apt, packages: [bed-one]", two="provider: apt, packages: [bed-two]")
    said = project.run("provision", "plan")
    assert said.exit == 0 and " MB to be brought\n" in said.err, said
    said = packages(project, huge="provider: apt, packages: [bed-huge]").run("provision", "plan")
    assert said.exit == 1 and "error[no-space]: lambda, where /usr is, has " in said.err and " MB: huge " in said.err, said
