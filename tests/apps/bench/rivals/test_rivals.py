"""Every rival on tiny pipelines: it saves work, and leaves no trace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tiny_pipelines import TINY_PIPELINES, run
from torch.nn import functional

from adaptive_diffusion.adapters.diffusers.components import denoisers
from adaptive_diffusion.apps.bench.rivals import RIVALS, Rival
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

STEPS = 8

STRONG: dict[str, Rival] = {
    "first block": FirstBlockCache(0.9),
    "taylor": TaylorSeer(3, order=1),
    "taylor lite": TaylorSeer(3, order=1, lite=True),
    "mag": MagCache(5.0, 4),
    "pyramid": PyramidAttention(4),
    "faster": FasterCache(4, 4),
    "deep": DeepCache(4),
    "db": DBCache(0.9, None),
    "db taylor": DBCache(0.9, None, taylor=True),
    "sada": Sada(interval=4, terms=2, start=0.2, multistep=0.5),
    "spectrum": Spectrum(2, 0.75, share=0.5, ridge=0.1, degree=4, memory=None),
    "easy": EasyCache(0.9),
    "lazy": LazyCache(0.9),
}
UNETS = ["sd15", "sdxl", "ddim", "controlnet", "kandinsky2_2"]
CACHED = ["flux", "flux_cfg", "wan22", "ltx"]
DB = ["flux", "flux_cfg", "wan", "ltx"]  # wan22's models have but its four steps of warm-up each
UNCACHED = ["dit", "pixart", "sd3"]
PACKAGES = {"deep": "DeepCache", "db": "cache_dit", "db taylor": "cache_dit"}
FITTING = [
    *(("deep", name) for name in UNETS),
    *((rival, name) for rival in ("db", "db taylor") for name in [*DB, *UNCACHED]),
    *(
        (rival, name)
        for rival in ("first block", "taylor", "taylor lite", "mag", "pyramid", "faster")
        for name in CACHED
    ),
    *(
        (rival, name)
        for rival in ("sada", "spectrum", "easy", "lazy")
        for name in ["sd15", "sdxl", "ddim", *CACHED, *UNCACHED]
    ),
]


def _traces(pipe: Any) -> list[Any]:
    """Whatever a method could leave behind: attributes, hooks, classes, functions."""
    modules = [module for model in denoisers(pipe) for module in model.modules()]
    return [
        *((type(module), {**vars(module)}) for module in modules),
        *(list(module._forward_hooks) for module in modules),
        *(list(module._forward_pre_hooks) for module in modules),
        type(pipe),
        dict(vars(type(pipe))),
        sorted(vars(pipe)),
        dict(vars(type(pipe.scheduler))),
        functional.scaled_dot_product_attention,
    ]


@pytest.mark.parametrize(("rival", "name"), FITTING)
def test_saves_work_and_leaves_no_trace(tiny: Callable[[str], Any], rival: str, name: str) -> None:
    if rival in PACKAGES:
        pytest.importorskip(PACKAGES[rival])
    pipe, inputs, method = tiny(name), TINY_PIPELINES[name].inputs(1), STRONG[rival]
    assert method.reason_against(pipe) is None
    full = run(pipe, inputs, steps=STEPS)
    before = _traces(pipe)

    with method.applied(pipe, STEPS) as work:
        picture = run(pipe, inputs, steps=STEPS)
    after = _traces(pipe)
    with method.applied(pipe, STEPS) as again:
        repeated = run(pipe, inputs, steps=STEPS)

    assert picture.isfinite().all()
    assert len(work.per_step) == STEPS
    assert all(0 <= share <= 1 for share in work.per_step)
    assert work.per_step[0] == 1
    assert work.nfe < STEPS
    assert after == before
    assert torch.equal(run(pipe, inputs, steps=STEPS), full)
    assert torch.equal(repeated, picture)
    assert again.per_step == work.per_step


@pytest.mark.parametrize(
    ("rival", "name"),
    [
        ("first block", "ltx"),
        ("mag", "ltx"),
        ("deep", "sd15"),
        ("db", "flux"),
        ("sada", "sd15"),
        ("easy", "sd15"),
    ],
)
def test_leaves_no_trace_of_a_call_that_failed(
    tiny: Callable[[str], Any], rival: str, name: str
) -> None:
    if rival in PACKAGES:
        pytest.importorskip(PACKAGES[rival])
    pipe, inputs = tiny(name), TINY_PIPELINES[name].inputs(1)
    full = run(pipe, inputs, steps=4)
    before = _traces(pipe)

    def fail(*_: Any) -> Any:
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"), STRONG[rival].applied(pipe, 4):
        run(pipe, inputs, steps=4, callback_on_step_end=fail)

    assert _traces(pipe) == before
    assert torch.equal(run(pipe, inputs, steps=4), full)


@pytest.mark.parametrize(
    ("rival", "name", "reason"),
    [
        ("first block", "sd15", "UNet2DConditionModel has no enable_cache"),
        ("taylor", "dit", "DiTTransformer2DModel has no enable_cache"),
        ("mag", "pixart", "PixArtTransformer2DModel has no enable_cache"),
        ("taylor lite", "wan22", None),
        ("deep", "flux", "FluxPipeline has none"),
        ("db", "sd15", "cache-dit has no adapter for StableDiffusionPipeline"),
    ],
)
def test_says_why_it_does_not_fit(
    tiny: Callable[[str], Any], rival: str, name: str, reason: str | None
) -> None:
    if rival in PACKAGES:
        pytest.importorskip(PACKAGES[rival])
    found = STRONG[rival].reason_against(tiny(name))
    assert (found is None) if reason is None else (found is not None and reason in found)


@pytest.mark.parametrize(
    ("rival", "name", "package"), [("deep", "sd15", "DeepCache"), ("db", "flux", "cache-dit")]
)
def test_says_which_package_is_missing(
    tiny: Callable[[str], Any],
    monkeypatch: pytest.MonkeyPatch,
    rival: str,
    name: str,
    package: str,
) -> None:
    pipe = tiny(name)
    monkeypatch.setattr("adaptive_diffusion.apps.bench.rivals.base.find_spec", lambda _: None)
    assert f'pip install "{package}"' in str(STRONG[rival].reason_against(pipe))


def test_says_that_diffusers_is_too_old(
    tiny: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MagCache, "settings", "NoSuchConfig")
    assert "no NoSuchConfig: pip install --upgrade diffusers" in str(
        STRONG["mag"].reason_against(tiny("ltx"))
    )


def test_families_have_a_few_settings_each_with_names_of_their_own() -> None:
    names = [rival.name for rival in RIVALS]
    assert len(set(names)) == len(names)
    families = [rival.family for rival in RIVALS]
    assert all(2 <= families.count(family) <= 10 for family in set(families))
    assert {rival.family for rival in STRONG.values()} == set(families)


def test_deep_cache_leaves_layers_over_time_alone(tiny):
    reason = DeepCache(2).reason_against(tiny("text_to_video"))
    assert reason is not None
    assert "layers over time" in reason
