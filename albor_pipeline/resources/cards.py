"""Cards: what a machine says of its graphics cards and their software, read. Knows no declaration and changes nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# One script for every gpu resource of a machine; a part that has nothing to say is empty.
PROBE = """\
echo '[nvidia-smi]'
nvidia-smi --query-gpu=index,driver_version,persistence_mode,compute_mode --format=csv,noheader 2>&1 || echo "exit $?"
echo '[nvidia-module]'
cat /proc/driver/nvidia/version 2>/dev/null
echo '[nvcc]'
for nvcc in "$(command -v nvcc)" /usr/local/cuda-*/bin/nvcc; do
  [ -x "$nvcc" ] && "$nvcc" --version 2>/dev/null | sed -n 's/.*release .*, V//p'
done
echo '[amdgpu]'
if [ -f /sys/module/amdgpu/version ]; then cat /sys/module/amdgpu/version
elif [ -e /sys/module/amdgpu ]; then echo "kernel-$(uname -r)"; fi
echo '[amd-cards]'
grep -l -x 0x1002 /sys/class/drm/card[0-9]*/device/vendor 2>/dev/null | grep -v -- -
echo '[rocm]'
cat /opt/rocm/.info/version 2>/dev/null
echo '[packages]'
dpkg-query -W -f '${db:Status-Abbrev}|${Package}|${Version}|${source:Package}\\n' 2>/dev/null | awk -F'|' '$1 ~ /^i/ &&
  ($4 ~ /^nvidia-graphics-drivers/ || $2 ~ /^(nvidia-(driver|open)|cuda-drivers|amdgpu-dkms|rocm(-core|-hip-runtime)?)(-[0-9]+)?$/) \\
  { print $2, $3 }'
echo '[limits]'
for file in .albor/gpu/*; do [ -f "$file" ] && printf '%s ' "$file" && head -n 1 "$file"; done
echo '[end]'
"""
PARTS = ("nvidia-smi", "nvidia-module", "nvcc", "amdgpu", "amd-cards", "rocm", "packages", "limits", "end")
MODULE = re.compile(r"Kernel Module(?: for \S+)?\s+(\d+(?:\.\d+)+)")
LIBRARY = re.compile(r"NVML library version: (\S+)")
DRIVER = re.compile(r"(nvidia-driver|nvidia-open|cuda-drivers|nvidia-headless)(-\d+)?(-open|-server)*")
ON = {"enabled": "true", "disabled": "false"}


@dataclass(frozen=True)
class Card:
    """A card as NVIDIA's driver tells of it; what it cannot tell of a setting is `unknown`."""

    index: int
    version: str
    persistence: str
    compute: str


@dataclass(frozen=True)
class Cards:
    """What PROBE printed, in its parts."""

    parts: Mapping[str, Sequence[str]]

    @classmethod
    def of(cls, text: str) -> Cards:
        """Read it; a part that is not there is missing from `parts`."""
        parts: dict[str, list[str]] = {}
        lines: list[str] = []
        for line in text.splitlines():
            if line.startswith("[") and line[1:-1] in PARTS:
                lines = parts.setdefault(line[1:-1], [])
            elif line.strip():
                lines.append(line.strip())
        return cls(parts)

    @property
    def complete(self) -> bool:
        """Whether the script came to its end."""
        return all(name in self.parts for name in PARTS)

    @property
    def nvidia(self) -> list[Card]:
        """The cards of NVIDIA's driver, none when it does not answer."""
        rows = [[word.strip() for word in line.split(",")] for line in self.parts["nvidia-smi"]]
        return [
            Card(int(row[0]), row[1], ON.get(row[2].lower(), "unknown"), row[3].lower() if row[3][:1].isalpha() else "unknown")
            for row in rows
            if len(row) == 4 and row[0].isdecimal() and row[0].isascii()
        ]

    @property
    def packages(self) -> Mapping[str, str]:
        """The installed packages of drivers, by name."""
        return dict(line.split(" ", 1) for line in self.parts["packages"] if " " in line)

    @property
    def nvidia_state(self) -> str:
        """present, absent, or what is between the two."""
        if self.nvidia:
            return "present"
        said = " ".join(self.parts["nvidia-smi"])
        module = self._module
        if "version mismatch" in said:
            library = LIBRARY.search(said)
            newer = f"{library[1]} is installed" if library else "another version is installed"
            return f"needs a reboot: the kernel runs {module or 'another version'}, {newer}"
        if "No devices were found" in said:
            return "no card"
        if "exit 127" in said:
            return "installed without nvidia-smi" if any(DRIVER.fullmatch(name) for name in self.packages) else "absent"
        return "installed, and the kernel does not run it"

    @property
    def nvidia_version(self) -> str:
        """The version that runs, else the one that is installed; empty when there is none."""
        if self.nvidia:
            return self.nvidia[0].version
        found = (version for name, version in self.packages.items() if DRIVER.fullmatch(name))
        return self._module or next((_upstream(version) for version in found), "")

    @property
    def _module(self) -> str:
        found = MODULE.search(" ".join(self.parts["nvidia-module"]))
        return found[1] if found else ""

    @property
    def toolkits(self) -> list[str]:
        """The versions of CUDA's compilers, that of the search path first."""
        return list(dict.fromkeys(self.parts["nvcc"]))

    @property
    def amd(self) -> int:
        """How many cards of AMD there are."""
        return len(self.parts["amd-cards"])

    @property
    def amd_state(self) -> str:
        """present when the kernel runs amdgpu and sees a card."""
        if not self.parts["amdgpu"]:
            return "installed, and the kernel does not run it" if "amdgpu-dkms" in self.packages else "absent"
        return "present" if self.amd else "no card"

    @property
    def amd_version(self) -> str:
        """amdgpu's own version, `kernel-RELEASE` for the one that came with the kernel, else that of the package."""
        running = next(iter(self.parts["amdgpu"]), "")
        return running or _upstream(self.packages.get("amdgpu-dkms", ""))

    @property
    def rocm_version(self) -> str:
        """ROCm's version, such as 6.1.2-119; empty when there is none."""
        return next(iter(self.parts["rocm"]), "")

    @property
    def limits(self) -> Mapping[str, str]:
        """Our files of limits, by path: their first line."""
        return dict(line.split(" ", 1) for line in self.parts["limits"] if " " in line)


def as_wanted(found: Sequence[str], wanted: str) -> str:
    """The wanted version where one that was found is it or begins with it, else the first that was found."""
    for version in found:
        if version == wanted or version.startswith(tuple(wanted + mark for mark in ".-")):
            return wanted
    return found[0]


def _upstream(version: str) -> str:
    """`1:550.54.15-0ubuntu1` is 550.54.15."""
    return version.split(":", 1)[-1].split("-")[0].split("~")[0]
