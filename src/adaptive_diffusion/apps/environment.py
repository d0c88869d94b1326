"""What the work runs on: versions, device, extras."""

from __future__ import annotations

import platform
from collections import defaultdict
from importlib import metadata
from pathlib import Path

import torch
from packaging.requirements import Requirement

from adaptive_diffusion.version import __version__

__all__ = ["describe_device", "extras", "versions"]

_OWN = "adaptive-diffusion"
_PACKAGES = ("torch", "diffusers", "transformers")


def versions() -> dict[str, str | None]:
    """The versions that a result depends on; None for what is not installed."""
    own = {"python": platform.python_version(), "adaptive_diffusion": __version__}
    return own | {package: _version(package) for package in _PACKAGES}


def describe_device(device: torch.device | None = None) -> str:
    """The name of a device, by default of the one that would be used: `cuda (NVIDIA H100)`."""
    if device is None:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    if device.type == "cpu":
        threads = torch.get_num_threads()
        return f"cpu ({_processor()}, {threads} thread{'s' if threads > 1 else ''})"
    return str(device)


def _processor() -> str:
    """The processor's name where the system tells it, else its architecture."""
    listing = Path("/proc/cpuinfo")
    lines = listing.read_text().splitlines() if listing.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def extras() -> dict[str, dict[str, str | None]]:
    """For every extra of this package, what it brings: versions, None for what is missing."""
    found: dict[str, dict[str, str | None]] = defaultdict(dict)
    for text in metadata.requires(_OWN) or []:
        requirement = Requirement(text)
        for extra in metadata.metadata(_OWN).get_all("Provides-Extra") or []:
            if requirement.marker and requirement.marker.evaluate({"extra": extra}):
                found[extra][requirement.name] = _version(requirement.name)
    return dict(found)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
