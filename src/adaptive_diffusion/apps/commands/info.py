"""`adaptive-diffusion info`."""

from __future__ import annotations

__all__ = ["info"]


def info() -> None:
    """Shows versions, device, installed extras and the miniatures at hand."""
    from rich.console import Console

    from adaptive_diffusion.apps.display import info_table
    from adaptive_diffusion.apps.environment import describe_device, extras, versions
    from adaptive_diffusion.miniatures import miniatures

    Console().print(info_table(versions(), describe_device(), extras(), miniatures()))
