"""The nodes, in a small program with the hooks that they use."""

from __future__ import annotations

import itertools
import logging
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from comfyui_headless import nodes
from comfyui_stand_in import Guider, Patcher, euler_plus
from profiles import measured_profile
from samplers import SAMPLERS, Mixture, Sampler, ancestral, consistency, euler, sigmas
from torch import Tensor

from adaptive_diffusion import ProfileError

LEVELS = sigmas(30)
NODE = nodes().NODE_CLASS_MAPPINGS["AdaptiveDiffusion"]
REPORT = nodes().NODE_CLASS_MAPPINGS["AdaptiveDiffusionReport"]


def accelerated(patcher: Patcher | None = None, quality: str = "balanced", **options: Any) -> Any:
    return NODE().accelerate(patcher or Patcher(), quality, **options)[0]


def noise(samples: int = 2, seed: int = 0, *shape: int) -> Tensor:
    return torch.randn(
        samples, *(shape or (1, 4, 4)), generator=torch.Generator().manual_seed(seed)
    )


def sample(patcher: Any, sampler: Sampler = euler, cfg: float = 1.0, **options: Any) -> Tensor:
    settings = {"sigmas": LEVELS.clone(), "noise": noise(), **options}
    return Guider(patcher, cfg).sample(sampler, **settings)


def report(patcher: Any) -> Any:
    return patcher.get_attachment("adaptive_diffusion").report


def psnr(result: Tensor, expected: Tensor) -> float:
    return -10 * math.log10((result - expected).square().mean() / 4 + 1e-30)


ALL = {**SAMPLERS, "euler_plus": euler_plus}


@pytest.mark.parametrize("name", ALL)
def test_tolerance_zero_is_the_plain_run_to_the_bit(name: str) -> None:
    patcher = accelerated(quality="custom", tolerance=0.0)
    expected = sample(Patcher(), ALL[name], cfg=1.5)
    patcher.denoiser.calls = 0
    assert torch.equal(sample(patcher, ALL[name], cfg=1.5), expected)
    assert patcher.denoiser.calls == report(patcher).steps == report(patcher).nfe[0]


@pytest.mark.parametrize("name", ALL)
def test_it_is_close_with_fewer_calls(name: str) -> None:
    patcher = accelerated(quality="custom", tolerance=0.1)
    expected = sample(Patcher(), ALL[name], cfg=1.5)
    patcher.denoiser.calls = 0
    result = sample(patcher, ALL[name], cfg=1.5)
    assert psnr(result, expected) > 35
    assert patcher.denoiser.calls == report(patcher).nfe[0] < report(patcher).steps


def test_backfill_is_closer() -> None:
    expected = sample(Patcher())
    without, with_it = (sample(accelerated(backfill=choice)) for choice in (False, True))
    assert psnr(with_it, expected) > psnr(without, expected) + 3


def test_runs_leave_no_state_behind() -> None:
    """Another size, another number of steps, another seed and sampler: as on a fresh model."""
    used = accelerated()
    runs: list[dict[str, Any]] = [
        {},
        {"noise": noise(1, 3)},
        {"sigmas": sigmas(12)},
        {"noise": noise(2, 1, 1, 4, 4)},
        {"sampler": ancestral},
        {"sampler": euler_plus, "cfg": 1.5},
        {},
    ]
    for run in runs:
        fresh = accelerated()
        assert torch.equal(sample(used, **run), sample(fresh, **run))
        assert report(used).mask == report(fresh).mask


class InterruptError(Exception):
    pass


def test_an_interrupt_in_the_middle_leaves_nothing_behind() -> None:
    patcher = accelerated()
    expected = sample(patcher)

    def interrupt(step: int, *_: Any) -> None:
        if step == 12:
            raise InterruptError

    with pytest.raises(InterruptError):
        sample(patcher, callback=interrupt)
    assert report(patcher).steps == 13
    run = patcher.get_attachment("adaptive_diffusion")._run
    assert run.get() is None
    assert torch.equal(sample(patcher), expected)


def test_a_second_sampler_in_the_same_graph_and_one_within_the_other() -> None:
    patcher = accelerated()
    expected = sample(patcher), sample(patcher, noise=noise(1, 9))
    inner: list[Tensor] = []

    def nested(step: int, *_: Any) -> None:
        if step == 7:
            inner.append(sample(patcher, noise=noise(1, 9)))

    assert torch.equal(sample(patcher, callback=nested), expected[0])
    assert torch.equal(inner[0], expected[1])


def test_previews_and_progress_come_as_ever() -> None:
    seen: list[tuple[int, int]] = []
    shapes = set()

    def callback(step: int, denoised: Tensor, x: Tensor, total: int) -> None:
        seen.append((step, total))
        shapes.add((denoised.shape, x.shape))

    sample(accelerated(), callback=callback)
    assert seen == [(step, 30) for step in range(30)]
    assert shapes == {(noise().shape, noise().shape)}


def adaptive(model: Any, x: Tensor, levels: Tensor) -> Tensor:
    sigma = levels[0]
    while sigma > 0.05:
        slope = (x - model(x, sigma)) / sigma
        step = sigma / (2 + slope.abs().max())
        x, sigma = x - slope * step, sigma - step
    return x


@pytest.mark.parametrize(
    ("sampler", "why"), [(adaptive, "chooses its own steps"), (consistency, "new noise")]
)
def test_what_can_not_be_skipped_runs_in_full_and_the_log_says_why(
    sampler: Sampler, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    patcher = accelerated()
    expected = sample(Patcher(), sampler)
    with caplog.at_level(logging.INFO):
        assert torch.equal(sample(patcher, sampler), expected)
    assert why in caplog.text
    assert report(patcher).nfe_reduction == 1


def test_a_sampler_that_does_otherwise_than_when_probed_runs_in_full() -> None:
    runs: list[int] = []

    def changes(model: Any, x: Tensor, levels: Tensor) -> Tensor:
        runs.append(1)
        return euler(model, x, levels * (0.9 if len(runs) == 5 else 1.0))

    patcher = accelerated()
    assert torch.equal(sample(patcher, changes), sample(Patcher()))
    assert "other levels" in str(report(patcher))


def test_every_run_is_told_of_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        sample(accelerated())
    assert "30 steps" in caplog.text
    assert "x fewer" in caplog.text


@pytest.mark.parametrize("calls", [4, 5, 9, 29, 30, 99])
@pytest.mark.parametrize("sampler", [euler, ancestral])
def test_as_many_calls_as_were_asked_for(sampler: Sampler, calls: int) -> None:
    patcher = accelerated(calls=calls)
    sample(patcher, sampler)
    assert report(patcher).nfe == [min(calls, 30)]
    assert not report(patcher).notes
    assert calls < 12 or all(report(patcher).mask[0][-3:])


def test_the_first_and_the_last_call_are_always_made() -> None:
    patcher = accelerated(calls=1)
    sample(patcher)
    assert report(patcher).nfe == [2]


@pytest.mark.parametrize("calls", [0, 24])
def test_nothing_is_skipped_outside_of_the_window(calls: int) -> None:
    patcher = accelerated(start_percent=0.3, end_percent=0.6, calls=calls)
    sample(patcher)
    begin, end = 15.0 * 0.7**4, 15.0 * 0.4**4
    for level, computed in zip(LEVELS[:-1], report(patcher).mask[0], strict=True):
        assert computed or end <= level <= begin
    assert report(patcher).nfe_reduction > 1
    assert not calls or report(patcher).nfe == [calls]


def test_a_profile_is_used_where_the_outputs_mean_the_same(tmp_path: Path) -> None:
    """Measured with eight steps of another model of noise, and read from a file or a folder."""
    measured_profile().publish(tmp_path)
    measured_profile().save(tmp_path / "profile.json")
    masks = []
    for place in (tmp_path, tmp_path / "profile.json"):
        patcher = accelerated(profile=str(place))
        sample(patcher)
        assert "Planned(nfe=4, measured)" in str(report(patcher))
        assert "30 steps" in "".join(report(patcher).notes)
        masks.append(report(patcher).mask)
    assert masks[0] == masks[1]
    patcher = accelerated(profile=str(tmp_path), calls=11)
    sample(patcher)
    assert report(patcher).nfe == [11]
    other = accelerated(Patcher(flow=True), profile=str(tmp_path))
    sample(other, sigmas=torch.linspace(0.99, 0, 31))
    assert "the profile is not used" in str(report(other))


def test_the_profile_is_of_a_loop_with_noise_or_without_as_the_sampler_is(tmp_path: Path) -> None:
    (tmp_path / "both").mkdir()
    for noisy in (False, True):
        measured_profile(noisy=noisy).save(tmp_path / f"{noisy}.json")
        measured_profile(noisy=noisy).publish(tmp_path / "both")
    for sampler, noisy in ((euler, False), (ancestral, True)):
        for place in ("both", "True.json", "False.json"):
            patcher = accelerated(profile=str(tmp_path / place))
            sample(patcher, sampler)
            assert report(patcher).nfe == [4]
            said = "the profile was measured" in str(report(patcher))
            assert said == (place == f"{not noisy}.json")


def test_a_profile_that_is_not_there_is_an_error() -> None:
    with pytest.raises(ProfileError, match="nowhere"):
        accelerated(profile="nowhere/profile.json")


def differential(sigma: Tensor, mask: Tensor, extra_options: dict[str, Any]) -> Tensor:
    """Pixels come in one by one."""
    share = (sigma[0] / extra_options["sigmas"][0]) ** 0.25
    return (mask >= share).to(mask.dtype)


@pytest.mark.parametrize("changing", [False, True], ids=["soft mask", "changing mask"])
@pytest.mark.parametrize("name", ["euler", "adams", "heun"])
def test_masks(name: str, changing: bool) -> None:
    mask = torch.linspace(0, 1, 16).view(1, 1, 4, 4).expand(2, 1, 4, 4)
    results = []
    for patcher in (Patcher(), accelerated()):
        if changing:
            patcher.model_options["denoise_mask_function"] = differential
        results.append(sample(patcher, ALL[name], mask=mask, latent=noise(2, 5)))
    full, result = results
    assert report(patcher).nfe_reduction > 1.5
    assert psnr(result, full) > 40
    torch.testing.assert_close(result[..., 0, 0], noise(2, 5)[..., 0, 0])


def test_a_mask_of_ones_changes_nothing() -> None:
    ones = torch.ones(2, 1, 4, 4)
    plain, masked = accelerated(), accelerated()
    torch.testing.assert_close(sample(masked, mask=ones), sample(plain))
    assert report(masked).mask == report(plain).mask


class Streams:
    """Two streams in one latent; the second is noise that no forecast meets, or like the first."""

    def __init__(self, wild: bool) -> None:
        self._model = Mixture()
        self._wild = wild

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        first, second = x.split([16, 4], dim=1)
        other = torch.sin(50 * sigma.log())[:, None] if self._wild else 0.0
        return torch.cat([self._model(first, sigma), second * 0 + other], dim=1)


def test_a_latent_that_stands_alone_keeps_its_shape() -> None:
    """Newer cores name the shapes of every latent, packed or not."""
    plain, named = accelerated(), accelerated()
    expected = sample(plain)
    assert torch.equal(sample(named, latent_shapes=[noise().shape]), expected)


def test_packed_streams_are_judged_apart_and_the_largest_error_counts() -> None:
    calls = []
    for wild in (False, True):
        patcher = accelerated(Patcher(Streams(wild)))
        shapes = [(2, 1, 4, 4), (2, 4)]
        packed = noise(2, 0, 1, 20)
        expected = sample(Patcher(Streams(wild)), noise=packed, latent_shapes=shapes)
        result = sample(patcher, noise=packed, latent_shapes=shapes)
        assert psnr(result, expected) > 35
        calls.append(report(patcher).nfe[0])
    assert calls[0] + 5 < calls[1]


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"transformer_options": {"easycache": object()}}, "EasyCache"),
        ({"transformer_options": {"rel_l1_thresh": 0.3}}, "TeaCache"),
    ],
)
def test_other_caches_are_refused_wherever_they_stand(options: dict[str, Any], name: str) -> None:
    before = Patcher()
    before.model_options = options
    with pytest.raises(ValueError, match=name):
        accelerated(before)
    after = accelerated()
    after.model_options = {**after.model_options, **options}
    with pytest.raises(ValueError, match=name):
        sample(after)


def test_a_core_without_the_hooks_is_named() -> None:
    with pytest.raises(RuntimeError, match=r"0\.3\.52"):
        accelerated(object())  # type: ignore[arg-type]


def test_a_window_without_inside_is_refused() -> None:
    with pytest.raises(ValueError, match="start_percent"):
        accelerated(start_percent=0.8, end_percent=0.2)


def test_the_node_twice_is_the_last_one() -> None:
    twice = accelerated(accelerated(quality="fast"), quality="custom", tolerance=0.0)
    assert torch.equal(sample(twice), sample(Patcher()))


def test_the_model_before_the_node_stays_plain() -> None:
    before = Patcher()
    accelerated(before)
    assert not any(before.wrappers.values())
    assert torch.equal(sample(before), sample(Patcher()))


def test_the_report_node_shows_the_run() -> None:
    patcher, latent = accelerated(), {"samples": noise()}
    with pytest.raises(ValueError, match="nothing was sampled"):
        REPORT().show(patcher, latent)
    with pytest.raises(ValueError, match="no Adaptive Diffusion node"):
        REPORT().show(Patcher(), latent)
    sample(patcher)
    shown = REPORT().show(patcher, latent)
    text, picture, passed = shown["result"]
    assert shown["ui"] == {"text": [text]}
    assert "denoiser evaluations" in text
    assert passed is latent
    height, width = picture.shape[1:3]
    assert picture.shape == (1, 32, 30 * 12, 3)
    cells = picture[0, height // 2, 6 :: width // 30, 0]
    made = report(patcher).mask[0]
    for cell, other in itertools.combinations(range(30), 2):
        assert (cells[cell] == cells[other]) == (made[cell] == made[other])


def test_interfaces_name_every_argument() -> None:
    for node in nodes().NODE_CLASS_MAPPINGS.values():
        inputs = node.INPUT_TYPES()
        names = [*inputs["required"], *inputs.get("optional", {})]
        function = getattr(node, node.FUNCTION)
        assert list(function.__annotations__)[:-1] == names
    assert set(nodes().NODE_DISPLAY_NAME_MAPPINGS) == set(nodes().NODE_CLASS_MAPPINGS)


def test_flow_matching() -> None:
    times = torch.linspace(0.99, 0, 31)
    model = Mixture()

    def clean(x: Tensor, t: Tensor) -> Tensor:
        t = t.view(-1, 1)
        return model(x / (1 - t), t / (1 - t))

    expected = sample(Patcher(clean, flow=True), sigmas=times)
    patcher = accelerated(Patcher(clean, flow=True))
    assert psnr(sample(patcher, sigmas=times), expected) > 40
    assert report(patcher).nfe_reduction > 1.5
