"""What a measurement was made on, without names that belong to nobody else: no host, no folders."""

from __future__ import annotations

import os
import platform
import re
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

__all__ = ["describe_machine", "machine_line"]

_PACKAGES = (
    *("tensorflow", "keras", "ai-edge-litert", "openvino"),
    *("numpy", "pillow", "kafka-python", "crc32c"),
)
# What makes int8 and bfloat16 models fast.
_PROCESSOR_FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8")


def describe_machine() -> dict[str, Any]:
    """Return processor, memory, system, versions and date, ready for JSON."""
    cpuinfo = _text("/proc/cpuinfo")
    model = re.search(r"^model name\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    flags = re.search(r"^flags\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    known = flags[1].split() if flags else []
    memory = re.search(r"^MemTotal:\s*(\d+) kB", _text("/proc/meminfo"), re.MULTILINE)
    kernel = ".".join(platform.release().split(".")[:2])  # the rest may name the machine's owner
    return {
        "processor": model[1] if model else platform.machine(),
        "processor_features": [name for name in _PROCESSOR_FEATURES if name in known],
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(int(memory[1]) * 1024 / 1e9, 1) if memory else None,
        "system": f"{_distribution()}, {platform.system()} {kernel}",
        "python": platform.python_version(),
        "packages": {name: found for name in _PACKAGES if (found := _version(name))},
        "date": datetime.now(timezone.utc).isoformat(timespec="minutes"),
    }


def machine_line(machine: dict[str, Any]) -> str:
    """The description in a line for people."""
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    features = " ".join(machine["processor_features"])
    return (
        f"{machine['processor']} ({features}), {machine['cores']} cores, "
        f"{machine['memory_gb']} GB; {machine['system']}; Python {machine['python']}, "
        f"{packages}; {machine['date']}"
    )


def _distribution() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return "unknown distribution"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _text(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
