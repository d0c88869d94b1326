"""The other training-free ways to save denoiser work, behind one interface.

Most are called from their libraries: diffusers' own caches, DeepCache, cache-dit. SADA, Spectrum,
EasyCache and LazyCache have none for diffusers, and are written from what is published of them.
"""

from __future__ import annotations

from typing import Any

from adaptive_diffusion.apps.bench.rivals.base import Rival, Work
from adaptive_diffusion.apps.bench.rivals.db_cache import DBCache
from adaptive_diffusion.apps.bench.rivals.deep_cache import DeepCache
from adaptive_diffusion.apps.bench.rivals.easy_cache import EasyCache
from adaptive_diffusion.apps.bench.rivals.faster_cache import FasterCache
from adaptive_diffusion.apps.bench.rivals.first_block_cache import FirstBlockCache
from adaptive_diffusion.apps.bench.rivals.lazy_cache import LazyCache
from adaptive_diffusion.apps.bench.rivals.mag_cache import MagCache
from adaptive_diffusion.apps.bench.rivals.pyramid_attention import PyramidAttention
from adaptive_diffusion.apps.bench.rivals.sada import Sada
from adaptive_diffusion.apps.bench.rivals.spectrum import Spectrum
from adaptive_diffusion.apps.bench.rivals.taylor_seer import TaylorSeer

__all__ = ["RIVALS", "Rival", "Work"]

# threshold, longest run
_DB_CACHE: tuple[tuple[float, int | None], ...] = ((0.05, 3), (0.2, 3), (0.2, 5), (0.4, None))

# Spectrum's
_LOCAL: dict[str, Any] = {"ridge": 0.01, "memory": 6}


RIVALS: tuple[Rival, ...] = (
    *(FirstBlockCache(threshold) for threshold in (0.05, 0.1, 0.2, 0.4)),
    *(TaylorSeer(interval, order=1) for interval in (2, 3, 5)),
    *(TaylorSeer(interval, order=1, lite=True) for interval in (2, 3, 5)),
    *(
        MagCache(threshold, longest)
        for threshold, longest in ((0.06, 3), (0.24, 5), (0.5, 6), (1.0, 8))
    ),
    *(PyramidAttention(interval) for interval in (2, 4)),
    *(FasterCache(attention, guidance) for attention, guidance in ((2, 5), (4, 8))),
    *(DeepCache(interval) for interval in (2, 3, 5)),
    *(DBCache(threshold, longest) for threshold, longest in _DB_CACHE),
    *(DBCache(threshold, longest, taylor=True) for threshold, longest in _DB_CACHE),
    Sada(interval=4, terms=4, start=0.2, multistep=0.48),  # the authors' setting
    Sada(interval=2, terms=2, start=0.2, multistep=0.48),
    Sada(interval=4, terms=2, start=0.12, multistep=0.3),
    Sada(interval=6, terms=2, start=0.12, multistep=0.3),
    Spectrum(2, 0.75, share=0.5, ridge=0.1, degree=4, memory=None),  # the authors' setting
    Spectrum(2, 0, end=0.96, share=0.25, degree=3, **_LOCAL),
    Spectrum(2, 0.1, end=0.96, share=0.25, degree=3, **_LOCAL),
    Spectrum(2, 0.25, end=0.96, share=0.25, degree=3, **_LOCAL),
    Spectrum(4, 0, end=0.98, share=0.25, degree=4, **_LOCAL),
    Spectrum(2, 0.75, end=0.96, share=0.25, degree=3, **_LOCAL),
    Spectrum(2, 0.75, share=0.5, degree=4, **_LOCAL),
    Spectrum(5, 0.25, end=0.98, share=0.25, degree=4, **_LOCAL),
    Spectrum(3, 1, end=0.98, share=0.25, degree=3, **_LOCAL),
    Spectrum(7, 0, end=0.98, share=0.25, degree=4, **_LOCAL),
    *(EasyCache(threshold) for threshold in (0.1, 0.2, 0.5, 1.0, 3.0)),
    *(LazyCache(threshold) for threshold in (0.05, 0.1, 0.2, 0.5, 1.0)),
)
"""Every method with a few settings each."""
