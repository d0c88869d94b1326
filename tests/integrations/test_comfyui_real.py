"""The nodes in the real ComfyUI, headless, with miniatures as its models.

`COMFYUI_PATH` names a checkout of it; without one these tests are skipped.
"""

from __future__ import annotations

import io
import os
from typing import Any

import comfyui_headless as headless
import comfyui_server
import numpy as np
import pytest
import torch
from torch import Tensor

import adaptive_diffusion as ad

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("COMFYUI_PATH" not in os.environ, reason="COMFYUI_PATH is not set"),
]

SAMPLERS = (
    *("euler", "euler_cfg_pp", "euler_ancestral", "euler_ancestral_cfg_pp", "heun", "heunpp2"),
    *("dpm_2", "dpm_2_ancestral", "lms", "dpm_fast", "dpm_adaptive", "dpmpp_2s_ancestral"),
    *("dpmpp_2s_ancestral_cfg_pp", "dpmpp_sde", "dpmpp_2m", "dpmpp_2m_cfg_pp", "dpmpp_2m_sde"),
    *("dpmpp_2m_sde_heun", "dpmpp_3m_sde", "ddpm", "lcm", "ipndm", "ipndm_v", "deis"),
    *("res_multistep", "res_multistep_cfg_pp", "res_multistep_ancestral"),
    *("res_multistep_ancestral_cfg_pp", "gradient_estimation", "gradient_estimation_cfg_pp"),
    *("er_sde", "seeds_2", "seeds_3", "sa_solver", "sa_solver_pece", "ddim", "uni_pc"),
    "uni_pc_bh2",
)
IN_FULL = ("dpm_adaptive", "lcm", "dpmpp_3m_sde")


def accelerated(miniature: Any, quality: str, **options: Any) -> Any:
    node = headless.nodes().NODE_CLASS_MAPPINGS["AdaptiveDiffusion"]
    return node().accelerate(miniature.patcher, quality, **options)[0]


def psnr(miniature: Any, result: Tensor, full: Tensor) -> float:
    a, b = (miniature.pixels(each).clamp(-1, 1) for each in (result, full))
    return float(ad.psnr(a, b, data_range=2.0).mean())


def report(patcher: Any) -> Any:
    return patcher.get_attachment("adaptive_diffusion").report


def test_all_samplers_are_here() -> None:
    names = headless.load().SAMPLER_NAMES
    assert {name for name in names if not name.endswith("_gpu")} <= set(SAMPLERS)


@pytest.mark.parametrize("name", SAMPLERS)
def test_tolerance_zero_is_identical_and_the_default_close(name: str) -> None:
    miniature = headless.loaded("digits")
    if name not in headless.load().SAMPLER_NAMES:
        pytest.skip("this version has no such sampler")
    full = headless.sample(miniature.patcher, miniature, name, seeds=[0, 1])
    exact = accelerated(miniature, "custom", tolerance=0.0)
    assert torch.equal(headless.sample(exact, miniature, name, seeds=[0, 1]), full)
    fast = accelerated(miniature, "balanced")
    result = headless.sample(fast, miniature, name, seeds=[0, 1])
    if name in IN_FULL:
        assert torch.equal(result, full)
        assert "ran in full" in str(report(fast))
    else:
        assert not report(fast).notes
        assert psnr(miniature, result, full) > 25


@pytest.mark.parametrize("model", ["digits", "emoji", "emoji-dit"])
def test_noise_velocity_and_flow(model: str) -> None:
    miniature = headless.loaded(model)
    fast = accelerated(miniature, "balanced")
    picture = {"prompt": "" if model == "digits" else "a red apple", "seeds": [3]}
    full = headless.sample(miniature.patcher, miniature, "euler", **picture)
    result = headless.sample(fast, miniature, "euler", **picture)
    assert report(fast).nfe_reduction > 2
    assert psnr(miniature, result, full) > 40


@pytest.mark.parametrize("differential", [False, True])
def test_inpainting(differential: bool) -> None:
    miniature = headless.loaded("emoji")
    before, fast = miniature.patcher.clone(), accelerated(miniature, "balanced")
    if differential:
        with headless.stood_in():
            import comfy_extras.nodes_differential_diffusion as module

        before, fast = (
            module.DifferentialDiffusion.execute(each).result[0] for each in (before, fast)
        )
    picture = {"prompt": "a red apple", "seeds": [3]}
    latent = headless.sample(miniature.patcher, miniature, "euler", prompt="a banana", seeds=[1])
    picture |= {"latent": latent, "mask": torch.linspace(0, 1, 64).view(1, 1, 8, 8)}
    full = headless.sample(before, miniature, "dpmpp_2m", **picture)
    result = headless.sample(fast, miniature, "dpmpp_2m", **picture)
    assert report(fast).nfe_reduction > 1.2
    assert psnr(miniature, result, full) > 35


def test_an_interrupt_leaves_nothing_behind() -> None:
    headless.load()
    import comfy.model_management as management

    miniature = headless.loaded("digits")
    fast = accelerated(miniature, "balanced")
    expected = headless.sample(fast, miniature, "euler")

    def interrupt(step: int, *_: Any) -> None:
        if step == 9:
            raise management.InterruptProcessingException

    with pytest.raises(management.InterruptProcessingException):
        headless.sample(fast, miniature, "euler", callback=interrupt)
    assert torch.equal(headless.sample(fast, miniature, "euler"), expected)


def test_beside_its_own_cache_it_refuses() -> None:
    miniature = headless.loaded("digits")
    with headless.stood_in():
        import comfy_extras.nodes_easycache as caches
    for cache in (caches.EasyCacheNode, caches.LazyCacheNode):
        fast = accelerated(miniature, "balanced")
        (both,) = cache.execute(fast, 0.2, 0.15, 0.95, False).result
        with pytest.raises(ValueError, match="Cache"):
            headless.sample(both, miniature, "euler")


def test_the_server_runs_a_posted_workflow() -> None:
    from PIL import Image

    with comfyui_server.server() as address:
        plain = comfyui_server.post(address, comfyui_server.workflow(0, "euler", None))
        fast = comfyui_server.post(address, comfyui_server.workflow(0, "euler", "balanced"))
    pictures = [
        np.asarray(Image.open(io.BytesIO(run["picture"])), dtype=float) for run in (plain, fast)
    ]
    assert np.abs(pictures[0] - pictures[1]).mean() < 1
    assert "x fewer" in fast["report"]
