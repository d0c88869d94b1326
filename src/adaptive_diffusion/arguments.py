"""Which arguments of `enable` go together; options of the command line follow the same rules."""

from __future__ import annotations

from collections.abc import Callable, Collection

from adaptive_diffusion.errors import PolicyError
from adaptive_diffusion.policies.error_controlled import QUALITIES

__all__ = ["check_together", "tolerance_of"]

_WAYS = ("policy", "tolerance", "quality", "profile")
"""What decides which denoiser calls are skipped."""


def check_together(given: Collection[str], spelled: Callable[[str], str] = str) -> None:
    """Raises `PolicyError` if these arguments do not go together.

    Args:
        given: their names.
        spelled: how the user writes a name.
    """
    ways = [spelled(way) for way in _WAYS if way in given]
    has_profile = ways == [spelled("profile")]
    nfe, target, learn = map(spelled, ("nfe", "target_psnr", "learn"))
    if len(ways) > 1:
        raise PolicyError(f"give only one of {', '.join(ways)}")
    if "nfe" in given and ways and not has_profile:
        raise PolicyError(f"give {nfe} alone or with {spelled('profile')}, not with {ways[0]}")
    if "nfe" in given and "target_psnr" in given:
        raise PolicyError(f"give {nfe} or {target}, not both")
    if "target_psnr" in given and not has_profile:
        raise PolicyError(
            f"{target} needs a {spelled('profile')}, which says what is reached: see calibrate"
        )
    if "learn" in given and ways:
        raise PolicyError(f"give {learn} with {nfe}, not with {ways[0]}")
    if "learn" in given and "nfe" not in given:
        raise PolicyError(
            f"{learn} needs {nfe}: how many denoiser calls later samples make, such as a third of "
            "their steps"
        )


def tolerance_of(quality: str) -> float:
    """The tolerance that a quality stands for; raises `PolicyError` if there is none."""
    if quality not in QUALITIES:
        raise PolicyError(f"no quality {quality!r}: choose from {', '.join(QUALITIES)}")
    return QUALITIES[quality]
