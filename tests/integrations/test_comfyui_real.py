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
    *("uni_pc_bh2", "exp_heun_2_x0", "exp_heun_2_x0_sde"),
)
IN_FULL = ("dpm_adaptive", "lcm", "dpmpp_3m_sde")
NOT_SKIPPED = (  # by default, of those that add noise
    *("euler_ancestral", "euler_ancestral_cfg_pp", "dpmpp_2s_ancestral_cfg_pp", "dpmpp_sde"),
    *("dpmpp_2m_sde", "dpmpp_2m_sde_heun", "ddpm", "res_multistep_ancestral"),
    *("res_multistep_ancestral_cfg_pp", "seeds_2"),
)


def accelerated(miniature: Any, quality: str, before: Any = None, **options: Any) -> Any:
    node = headless.nodes().NODE_CLASS_MAPPINGS["AdaptiveDiffusion"]
    return node().accelerate(before or miniature.patcher, quality, **options)[0]


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
        assert "ran in full" not in str(report(fast))
        assert report(fast).nfe_reduction > 1 or name in NOT_SKIPPED
        assert psnr(miniature, result, full) > 25


@pytest.mark.parametrize("name", ["dpm_2_ancestral", "dpmpp_sde", "seeds_2"])
def test_under_noise_a_hard_model_keeps_its_picture(name: str) -> None:
    """By what is predicted of errors alone these make 40 of 99 calls and another picture."""
    miniature = headless.loaded("scenes")
    picture = {"prompt": "a red ball and a cat on grass", "seeds": [0], "scheduler": "simple"}
    fast = accelerated(miniature, "balanced")
    full = headless.sample(miniature.patcher, miniature, name, **picture)
    result = headless.sample(fast, miniature, name, **picture)
    assert report(fast).nfe_reduction > 1
    assert psnr(miniature, result, full) > 30


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


def check_alike(model: str, sampler: str = "euler", before: Any = None, **options: Any) -> Any:
    """The same run in full and accelerated; returns the full one's latent."""
    miniature = headless.loaded(model)
    fast = accelerated(miniature, "balanced", before)
    full, result = (
        headless.sample(patcher, miniature, sampler, **options)
        for patcher in (before or miniature.patcher, fast)
    )
    assert report(fast).nfe_reduction > 1.2
    for a, b in zip(*(x.unbind() if x.is_nested else [x] for x in (result, full)), strict=True):
        assert psnr(miniature, a, b) > 35
    return full


def test_a_control_network() -> None:
    """One that pulls the sample to a picture, in the first half of the run."""
    headless.load()
    with headless.stood_in():
        from comfy.controlnet import ControlBase

    class Pull(ControlBase):
        def get_control(self, x: Tensor, t: Tensor, *_: Any) -> Any:
            if t[0] < self.timestep_range[1]:
                return None
            pull = 0.3 * torch.linspace(-1, 1, 8).expand(x.shape)
            return self.control_merge({"input": [pull.clone()]}, None, x.dtype)

        def copy(self) -> Pull:
            made = Pull()
            self.copy_to(made)
            return made

    control = Pull().set_cond_hint(torch.zeros(1), 1.0, (0.0, 0.5))
    [[states, _]] = headless.loaded("digits").conditioning("")
    positive = [[states, {"control": control, "control_apply_to_uncond": True}]]
    led, free = check_alike("digits", positive=positive), check_alike("digits")
    assert (led - free).abs().mean() > 0.05


def test_regional_prompts() -> None:
    miniature = headless.loaded("emoji")
    (whole,), (left,), (right,) = map(
        miniature.conditioning, ("a red apple", "a banana", "a red heart")
    )
    mask = torch.linspace(0, 1, 8).expand(1, 8, 8)
    positive = [
        whole,
        [left[0], {"area": (8, 4, 0, 0), "strength": 1.0}],
        [right[0], {"mask": mask, "mask_strength": 1.0}],
    ]
    check_alike("emoji", "dpmpp_2m", positive=positive)


def test_context_windows() -> None:
    headless.load()
    import comfy.context_windows as windows

    before = headless.loaded("digits").patcher.clone()
    before.model_options["context_handler"] = windows.IndexListContextHandler(
        windows.get_matching_context_schedule("standard_static"),
        windows.get_matching_fuse_method("pyramid"),
        context_length=8,
        context_overlap=4,
        dim=2,
    )
    check_alike("digits", before=before, latent=torch.zeros(1, 1, 12, 8), seeds=[2])


def test_packed_streams() -> None:
    headless.load()
    from comfy.nested_tensor import NestedTensor

    latent = NestedTensor([torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 12)])
    check_alike("digits", "dpmpp_2m", latent=latent)


def test_runs_leave_no_state_behind() -> None:
    """A second sampler, another size, number of steps and batch: as on a fresh model."""
    miniature = headless.loaded("digits")
    used = accelerated(miniature, "balanced")
    runs: list[dict[str, Any]] = [
        {"sampler": "euler"},
        {"sampler": "dpmpp_2m", "steps": 30},
        {"sampler": "euler", "latent": torch.zeros(1, 1, 12, 16)},
        {"sampler": "euler_ancestral", "seeds": [4, 5, 6]},
        {"sampler": "euler"},
    ]
    for run in runs:
        fresh = accelerated(miniature, "balanced")
        results = [headless.sample(each, miniature, **run) for each in (used, fresh)]
        assert torch.equal(*results)
        assert report(used).mask == report(fresh).mask


@pytest.mark.parametrize(
    ("sampler", "calls"), [("dpmpp_2m", 10), ("dpmpp_2m", 17), ("deis", 15), ("dpmpp_2m_sde", 25)]
)
def test_a_profile_that_was_measured_in_diffusers(sampler: str, calls: int) -> None:
    """The miniature has one without noise and one under noise."""
    miniature = headless.loaded("emoji")
    folder = str(ad.miniatures.miniatures()["emoji"])
    picture = {"prompt": "a red apple", "seeds": [3]}
    full = headless.sample(miniature.patcher, miniature, sampler, **picture)
    close = []
    for profile in ("", folder):
        fast = accelerated(miniature, "balanced", calls=calls, profile=profile)
        result = headless.sample(fast, miniature, sampler, **picture)
        assert report(fast).nfe == [calls]
        assert not report(fast).notes
        close.append(psnr(miniature, result, full))
    assert close[1] > close[0] + 3


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
