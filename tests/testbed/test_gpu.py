"""Drivers on a real machine with a real apt; the card is a program that answers as NVIDIA's does."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from testbed.conftest import Make
from testbed.machine import Machine
from testbed.packages import Package, source
from testbed.pipeline import Pipeline

pytestmark = pytest.mark.root
KEPT = "/var/lib/fake-gpu"
SMI = f"""#!/bin/bash
version=@VERSION@ kept={KEPT} cards="0 1"
mkdir -p $kept
if [ -e $kept/mismatch ]; then
  echo "Failed to initialize NVML: Driver/library version mismatch"; echo "NVML library version: ${{version%.*}}"; exit 18
fi
if [ "$1" = -i ]; then cards=$2; shift 2; fi
case $1 in
  -L) for card in $cards; do echo "GPU $card: a card of a test (UUID: GPU-$card)"; done ;;
  -pm) for card in $cards; do echo $2 > $kept/$card.pm; done ;;
  -c) for card in $cards; do echo $2 > $kept/$card.c; done ;;
  --query-gpu=index,driver_version,persistence_mode,compute_mode)
    for card in $cards; do
      case $(cat $kept/$card.pm 2>/dev/null) in 1) mode=Enabled ;; *) mode=Disabled ;; esac
      case $(cat $kept/$card.c 2>/dev/null) in EXCLUSIVE_PROCESS) c=Exclusive_Process ;; PROHIBITED) c=Prohibited ;; *) c=Default ;; esac
      echo "$card, $version, $mode, $c"
    done ;;
  *) echo "Invalid combination of input arguments. Please run 'nvidia-smi -h' for help."; exit 2 ;;
esac
"""
NVCC = """#!/bin/sh
echo 'nvcc: NVIDIA (R) Cuda compiler driver'
echo 'Cuda compilation tools, release 12.4, V12.4.131'
"""
SOURCE = "Source: nvidia-graphics-drivers-550"


def driver(version: str) -> list[Package]:
    """The packages of a driver."""
    full = f"{version}-0ubuntu1"
    smi = {"/usr/bin/nvidia-smi": SMI.replace("@VERSION@", version)}
    return [
        Package("nvidia-utils-550", full, smi, (SOURCE,)),
        Package("nvidia-driver-550", full, {}, (SOURCE, f"Depends: nvidia-utils-550 (= {full})")),
    ]


def next_branch() -> list[Package]:
    """A driver of another branch, what it needs in two versions, and a package that cannot be beside it."""
    smi = {"/usr/bin/nvidia-smi": SMI.replace("@VERSION@", "560.28.03")}
    needs = "Depends: bed-firmware\nConflicts: bed-nouveau, nvidia-driver-550, nvidia-utils-550"
    made = Package("nvidia-driver-560", "560.28.03-1", smi, ("Source: nvidia-graphics-drivers-560", needs))
    return [made, Package("bed-firmware", "1.0"), Package("bed-firmware", "2.0"), Package("bed-nouveau", "1.0")]


@pytest.fixture
def box(box: Machine) -> Iterator[Machine]:
    """The machine, whose apt knows two versions of a driver, and a toolkit."""
    toolkit = Package("cuda-toolkit-12-4", "12.4.1-1", {"/usr/local/cuda-12.4/bin/nvcc": NVCC})
    other = Package("nvidia-container-toolkit", "1.16.0-1")
    with source(box, "gpu", [*driver("550.54.15"), *driver("550.90.07"), *next_branch(), toolkit, other]):
        yield box
    box.do(f"rm -rf {KEPT}")


def cards(box: Machine) -> str:
    return box.do("nvidia-smi --query-gpu=index,driver_version,persistence_mode,compute_mode")


def project(make: Make, fields: str) -> Pipeline:
    return make().tasks(f"gpu: {{type: gpu, machine: lambda, {fields}}}\n")


def says_of_a_reboot(tale: Pipeline, box: Machine) -> None:
    """A driver that the kernel does not run: told, and the machine stays up."""
    up = box.do("cat /proc/sys/kernel/random/boot_id; systemctl show -p UserspaceTimestampMonotonic")
    box.do(f"touch {KEPT}/mismatch")
    said = tale.run("apply", "--yes")
    assert (said.exit, "needs a reboot" in said.err, "do it, then apply again" in said.err) == (3, True, True), said
    assert box.do("cat /proc/sys/kernel/random/boot_id; systemctl show -p UserspaceTimestampMonotonic") == up
    box.do(f"rm {KEPT}/mismatch")


@pytest.mark.soak
@pytest.mark.effect("gpu.driver_version", "gpu.cuda_version", "gpu.persistence_mode", "gpu.compute_mode", "gpu.devices", "gpu.state")
def test_a_driver_comes_in_its_version_is_set_healed_and_taken_away(make: Make, box: Machine) -> None:
    """6.3: the version was not enforced, any that worked was accepted; `absent` failed on an unset variable."""
    tale = project(make, "driver_version: 550.54.15, cuda_version: '12.4', compute_mode: exclusive_process")
    said = tale.run("apply", "--yes")
    assert said.exit == 0, said
    assert cards(box) == "0, 550.54.15, Enabled, Exclusive_Process\n1, 550.54.15, Enabled, Exclusive_Process\n"
    assert tale.run("apply").out == "Nothing to do: 1 unchanged.\n"
    box.do("nvidia-smi -i 1 -c DEFAULT; apt-get -q -y install nvidia-container-toolkit")
    drift = tale.run("drift")
    assert (drift.exit, "compute_mode: recorded exclusive_process, found default, exclusive_process" in drift.out) == (4, True), drift
    says_of_a_reboot(tale, box)
    tale.edit("550.54.15", "550.90")
    said = tale.run("apply", "--yes")
    assert said.exit == 0, said
    assert cards(box) == "0, 550.90.07, Enabled, Exclusive_Process\n1, 550.90.07, Enabled, Exclusive_Process\n"
    tale.edit("550.90", "550.54").edit("exclusive_process", "prohibited, devices: [1], persistence_mode: false")
    said = tale.run("apply", "--yes")
    assert said.exit == 0, said
    assert cards(box) == "0, 550.54.15, Enabled, Exclusive_Process\n1, 550.54.15, Disabled, Prohibited\n"
    tale.edit("type: gpu", "type: gpu, state: absent")
    said = tale.run("apply", "--yes")
    assert said.exit == 0, said
    left = box.do("dpkg-query -W -f '${db:Status-Abbrev} ${Package}\\n' '*nvidia*' 'cuda*' | grep ^i")
    assert left == "ii  nvidia-container-toolkit\n"
    assert tale.run("apply").out == "Nothing to do: 1 unchanged.\n"


def test_a_driver_that_no_package_brings_is_told_before_and_when_it_is_wanted(make: Make, box: Machine) -> None:
    tale = project(make, "driver_version: '470'")
    told = "apt knows no package for the NVIDIA driver 470 (it would be one of: nvidia-driver-470 cuda-drivers-470 nvidia-driver"
    plan = tale.run("provision", "plan")
    assert told in plan.out + plan.err, plan
    said = tale.run("apply", "--yes")
    assert (said.exit, told in said.err + said.out) == (3, True), said
    box.do("install -m 755 /dev/stdin /usr/bin/nvidia-smi <<'E'\n" + SMI.replace("@VERSION@", "545.23.08") + "E")
    said = tale.run("apply", "--yes")
    assert (said.exit, "the driver here is no package of apt" in said.err + said.out) == (3, True), said
    assert tale.edit("'470'", "'545'").run("apply", "--yes").exit == 0
    said = tale.edit("type: gpu", "type: gpu, state: absent").run("apply", "--yes")
    assert (said.exit, "/usr/bin/nvidia-smi is still here and is no package of apt" in said.err + said.out) == (3, True), said
    box.do("rm /usr/bin/nvidia-smi")


@pytest.mark.effect("gpu.gpu_memory_limit_mb", "gpu.gpu_backend")
def test_a_limit_of_memory_is_told_to_the_tasks_of_the_machine(make: Make, box: Machine) -> None:
    say = "echo limit ${ALBOR_GPU_MEMORY_LIMIT_MB:-none} > out"
    task = f"say: {{type: task, machine: lambda, command: '{say}', outputs: [out], depends_on: [gpu]}}\n"
    tale = make().tasks(f"gpu: {{type: gpu, machine: lambda, driver_version: '550', gpu_memory_limit_mb: 8000}}\n{task}")
    said = tale.run("apply", "--yes")
    assert said.exit == 0, said
    assert tale.there(box, "./out").read_text() == "limit 8000\n"
    tale.edit("driver_version: '550', gpu_memory_limit_mb: 8000", "driver_version: '550'").edit("echo limit", "echo a limit")
    said = tale.run("apply", "--yes")
    assert said.exit == 0, said
    assert tale.there(box, "./out").read_text() == "a limit none\n"
    tale.edit("driver_version: '550'", "driver_version: '550', gpu_backend: cpu")
    assert tale.run("apply", "--yes").exit == 0


def test_an_install_removes_no_package_of_others_and_keeps_to_what_is_pinned_on_the_machine(make: Make, box: Machine) -> None:
    """The known defect: apt might remove anything for a driver's sake, and took no notice of /etc/apt/preferences."""
    pins = "Package: bed-firmware\nPin: version 1.0\nPin-Priority: 900\n"
    old = "nvidia-driver-550=550.54.15-0ubuntu1 nvidia-utils-550=550.54.15-0ubuntu1"
    box.do(f"printf '%s' '{pins}' > /etc/apt/preferences; apt-get -q update; apt-get -q -y install {old} bed-nouveau")
    try:
        tale = project(make, "driver_version: '560', persistence_mode: false")
        said = tale.run("apply", "--yes")
        assert said.exit == 3 and "this would remove bed-nouveau" in said.err, said
        assert "bed-nouveau" in box.do("dpkg-query -W -f '${Package}\\n' 'bed-*'")
        box.do("apt-get -q -y remove bed-nouveau")
        said = tale.run("apply", "--yes")
        assert said.exit == 0, said
        left = box.do("dpkg-query -W -f '${db:Status-Abbrev}${Package} ${Version}\\n' 'nvidia-*' 'bed-*' | grep ^ii")
        assert left == "ii bed-firmware 1.0\nii nvidia-driver-560 560.28.03-1\n"
        assert box.do("cat /etc/apt/preferences") == pins
    finally:
        box.do("rm -f /etc/apt/preferences")
