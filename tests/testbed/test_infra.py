"""manifests/infra.yaml on two bare machines: provisioned, left alone, disturbed, healed and taken away again.

What the test bed has not is replaced: the card by a program that answers as NVIDIA's does, Debian's packages by small ones of the same
names, the indexes and the hub by folders and a server on the machines, the NFS share by a folder that is bound.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import fakehub
import pytest
from rules.project import ROOT
from wheels import wheel

from testbed.bed import Bed
from testbed.conftest import Make
from testbed.machine import Machine
from testbed.packages import Package, source
from testbed.test_gpu import KEPT, driver

pytestmark = [pytest.mark.root, pytest.mark.slow]
UNIT = "[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n"
SERVER = {"/lib/systemd/system/nfs-kernel-server.service": UNIT}
TORCH = """class cuda:
    is_available = staticmethod(lambda: True)
    device_count = staticmethod(lambda: 1)
"""
INDEX = '<a href="../torch-2.6.0-py3-none-any.whl">torch</a>'
TEXTS = {
    "training_box: 10.0.0.11": "training_box: lambda",
    "teacher_box: 10.0.0.12": "teacher_box: intel",
    "https://download.pytorch.org/whl/cu126": "file:///srv/bed/simple",
    "https://download.pytorch.org/whl/cpu": "file:///srv/bed/simple",
    "teacher: Qwen/Qwen2.5-Coder-7B-Instruct": "teacher: ann/tiny",
    "teacher_revision: c03e6d358207e414f1eca0bb1891e29f1db0e242": "teacher_revision: main",
    "format: safetensors": "format: gguf",
    'source: "{{params.teacher_box}}:{{params.data}}"': "source: /srv/bed/simple",
    "fstype: nfs4": "fstype: none",
    "options: ro,soft,timeo=50,_netdev": "options: bind,ro",
}


@pytest.fixture
def machines(bed: Bed, tmp_path: Path) -> Iterator[tuple[Machine, Machine]]:
    """The training box and the teacher box, with all that the manifest asks the outside for."""
    training, teacher = bed.machines["lambda"], bed.machines["intel"]
    names = {training: ["git", "rsync", "build-essential", "nfs-common"], teacher: ["git", "rsync", "build-essential", "vulkan-tools"]}
    names[teacher] += ["mesa-vulkan-drivers", "firmware-amd-graphics"]
    data = wheel(tmp_path, "torch", "2.6.0", TORCH).read_bytes()
    with ExitStack() as stack:
        for box in (training, teacher):
            more = driver("550.54.15") if box is training else [Package("nfs-kernel-server", "1:9.0", SERVER)]
            stack.enter_context(source(box, "bed-debs", [*(Package(name, "1:9.0") for name in names[box]), *more]))
            folder = Path(f"/proc/{box.init}/root/srv/bed")
            (folder / "simple/torch").mkdir(parents=True)
            (folder / "simple/torch-2.6.0-py3-none-any.whl").write_bytes(data)
            (folder / "simple/torch/index.html").write_text(INDEX)
            box.do("apt-get -q update")
        (folder / "fakehub.py").write_text(Path(fakehub.__file__).read_text())
        teacher.do("cd /srv/bed && { setsid python3 fakehub.py hub.url >/dev/null 2>&1 & echo $! > hub.pid; }")
        teacher.do("until [ -s /srv/bed/hub.url ]; do sleep 0.1; done; cp /etc/environment /srv/bed/kept || : > /srv/bed/kept")
        teacher.do("echo HF_ENDPOINT=$(cat /srv/bed/hub.url) >> /etc/environment")
        yield training, teacher
        teacher.do("cat /srv/bed/kept > /etc/environment; kill $(cat /srv/bed/hub.pid)")
        for box in (training, teacher):
            box.do(f"umount -l /mnt/teacher 2>/dev/null; rm -rf /srv/bed /srv/albor /mnt/teacher /etc/exports.d {KEPT}")


def test_two_bare_machines_are_provisioned_disturbed_and_healed(make: Make, machines: tuple[Machine, Machine]) -> None:
    training, teacher = machines
    project = make()
    text = (ROOT / "manifests/infra.yaml").read_text()
    for old, new in TEXTS.items():
        assert old in text, old
        text = text.replace(old, new)
    project.file("manifests/albor.yaml", text)
    said = project.run("provision", "plan")
    assert said.exit == 0 and "14 to create, 4 to update" in said.out and said.err.count(", 0 that cannot") == 2, said
    said = project.run("provision", "apply", "--yes")
    assert said.exit == 0, said
    said = project.run("provision", "apply")
    assert said.exit == 0 and said.out.startswith("Nothing to do: "), said
    assert training.do("nvidia-smi -L | head -1").startswith("GPU 0") and "torch" in training.do("ls /mnt/teacher")
    assert training.do("crontab -l -u albor | grep -c 'rsync -a --delete /srv/albor/runs/models/'").strip() == "1"
    assert teacher.do("stat -c '%U %a' /srv/albor; systemctl is-active nfs-kernel-server").split() == ["albor", "750", "active"]
    assert "tiny-Q4_K_M.gguf" in teacher.do("ls /srv/albor/teacher")
    training.do("umount /mnt/teacher; crontab -r -u albor; chmod 777 /srv/albor; nvidia-smi -c PROHIBITED")
    teacher.do("systemctl stop nfs-kernel-server; usermod -s /bin/sh albor; rm -rf /srv/albor/env/bin")
    drift = project.run("drift")
    assert drift.exit == 4, drift
    for name in ("teacher-share", "nightly-backup", "data-dir", "cuda-driver", "nfs-service", "albor-user", "torch-cpu"):
        assert f"drifted  {name} " in drift.out, drift
    assert project.run("provision", "apply", "--yes").exit == 0
    said = project.run("drift")
    assert said.exit == 0, said
    assert teacher.do("systemctl is-active nfs-kernel-server; getent passwd albor | cut -d: -f7").split() == ["active", "/bin/bash"]
    said = project.run("destroy", "--yes")
    assert said.exit == 0, said
    for box in machines:
        assert box.do("getent passwd albor || echo gone").strip() == "gone"
