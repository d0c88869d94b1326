"""Arguments of `enable`: what goes together, and nothing else does."""

from __future__ import annotations

from itertools import combinations

import pytest

from adaptive_diffusion import PolicyError
from adaptive_diffusion.arguments import check_together

NAMES = ("policy", "tolerance", "quality", "profile", "nfe", "target_psnr", "learn")
TOGETHER = [
    *((), ("policy",), ("tolerance",), ("quality",), ("profile",), ("nfe",)),
    *(("profile", "nfe"), ("profile", "target_psnr"), ("nfe", "learn")),
]
SETS = [given for size in range(len(NAMES) + 1) for given in combinations(NAMES, size)]


@pytest.mark.parametrize("given", TOGETHER, ids=str)
def test_what_goes_together(given: tuple[str, ...]) -> None:
    check_together(given)


def test_everything_else_is_refused_in_the_words_of_the_user() -> None:
    for given in sorted({*SETS} - {*TOGETHER}):
        with pytest.raises(PolicyError, match=r"\[\w+\]") as refused:
            check_together(given, lambda name: f"[{name}]")
        assert any(f"[{name}]" in str(refused.value) for name in given)
