"""A batch is its samples: each has the plan, and the result, that it has alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor2_0
from schedulers import STOCHASTIC, count_calls, generate, pipeline_with, relative_difference
from tiny_pipelines import TINY_PIPELINES, run, single
from torch import Tensor

import adaptive_diffusion as ad
from adaptive_diffusion import Policy, Trace
from adaptive_diffusion.adapters.containers import map_tensors
from adaptive_diffusion.adapters.diffusers.batch import (
    Layout,
    call_on_rows,
    layout_of,
    rows_of,
)

Tiny = Callable[[str], Any]

SETTINGS: tuple[dict[str, Any], ...] = (
    *({"tolerance": tolerance} for tolerance in (0.02, 0.05, 0.2, 1.0, 5.0)),
    {"nfe": 6},  # for a solver that adds noise: pictures of an untrained model are never decided
)


@dataclass(frozen=True)
class ByChance(Policy):
    """Plans that differ wildly from sample to sample, and depend on nothing but the sample."""

    observes = "changes"

    def decide(self, trace: Trace) -> bool:
        return trace.step < 3 or int(trace.changes[-1] * 1e2) % 2 == 0


def per_image(pipe_name: str, mask: list[list[bool]]) -> list[list[bool]]:
    """DiT steps the guided pairs, so that its report has two equal rows for each image."""
    if pipe_name != "dit":
        return mask
    half = len(mask) // 2
    assert mask[:half] == mask[half:]
    return mask[:half]


@pytest.mark.parametrize("name", TINY_PIPELINES)
def test_masks_and_images_of_a_batch_are_those_of_single_calls(name: str, tiny: Tiny) -> None:
    pipe, inputs = tiny(name), TINY_PIPELINES[name].inputs(3)
    for settings in SETTINGS:  # until something is skipped
        ad.enable(pipe, **settings)
        together, report = run(pipe, inputs, steps=10), ad.report(pipe)
        if not all(map(all, report.mask)):
            break
    assert len(report.notes) == int(any(map(all, report.mask)))
    assert all(note.startswith("none of 10 steps skipped") for note in report.notes)
    masks = per_image(name, report.mask)
    assert len(masks) == 3
    assert not all(map(all, masks))
    for b in range(3):
        alone = run(pipe, single(inputs, b), steps=10, seed=b)
        assert per_image(name, ad.report(pipe).mask) == [masks[b]]
        assert relative_difference(together[b : b + 1], alone) < 1e-4


@pytest.mark.parametrize("name", ["sd15", "sdxl", "sd3", "flux_cfg", "wan", "controlnet"])
def test_plans_may_differ_wildly(name: str, tiny: Tiny) -> None:
    """The calls' rows are those of the samples that compute, in every single call."""
    pipe, inputs = tiny(name), TINY_PIPELINES[name].inputs(3)
    calls = count_calls(*(getattr(pipe, part) for part in TINY_PIPELINES[name].denoisers))
    ad.enable(pipe, ByChance())
    together, masks = run(pipe, inputs, steps=10), ad.report(pipe).mask
    assert len({tuple(mask) for mask in masks}) > 1

    computed = [sum(mask[i] for mask in masks) for i in range(10)]
    blocks = calls[0] // 3
    per_step = 2 // blocks  # guided: in one call or in two
    assert calls == [blocks * n for n in computed if n for _ in range(per_step)]
    assert sum(calls) == 2 * sum(ad.report(pipe).nfe)

    for b in range(3):
        alone = run(pipe, single(inputs, b), steps=10, seed=b)
        assert ad.report(pipe).mask == [masks[b]]
        assert relative_difference(together[b : b + 1], alone) < 1e-4


def test_the_error_of_a_sample_decides_its_plan(tiny: Tiny) -> None:
    """Ours gives samples of one batch different plans, and keeps them."""
    pipe, inputs = tiny("sd15"), TINY_PIPELINES["sd15"].inputs(4)
    different = 0
    for tolerance in (0.05, 0.1, 0.2, 0.3, 0.4, 0.5):
        ad.enable(pipe, tolerance=tolerance)
        run(pipe, inputs, steps=12)
        masks = ad.report(pipe).mask
        if len({tuple(mask) for mask in masks}) == 1:
            continue
        different += 1
        for b in range(4):
            run(pipe, single(inputs, b), steps=12, seed=b)
            assert ad.report(pipe).mask == [masks[b]]
        break
    assert different


@pytest.mark.parametrize("scheduler", sorted(STOCHASTIC & {"ddpm", "euler_ancestral", "lcm"}))
def test_stochastic_schedulers_keep_every_samples_noise(scheduler: str) -> None:
    pipe = pipeline_with(scheduler)
    ad.enable(pipe, ByChance())
    together, masks = generate(pipe, 3, steps=10), ad.report(pipe).mask
    assert len({tuple(mask) for mask in masks}) > 1
    inputs = TINY_PIPELINES["sd15"].inputs(3) | {"height": 16, "width": 16}
    for b in range(3):
        alone = run(pipe, single(inputs, b), steps=10, seed=b)
        assert ad.report(pipe).mask == [masks[b]]
        assert relative_difference(together[b : b + 1], alone) < 1e-4


def test_where_rows_can_not_be_told_apart_the_report_says_so(tiny: Tiny) -> None:
    pipe, inputs = tiny("sd15"), TINY_PIPELINES["sd15"].inputs(2)
    pipe.scheduler.scale_model_input = lambda rows, _: rows[[0, 2, 1, 3]]
    ad.enable(pipe, tolerance=1e9)
    result = run(pipe, inputs)
    report = ad.report(pipe)
    (mask,) = report.mask
    assert not all(mask)
    (note,) = report.notes
    assert "decided as a whole" in note
    assert "block by block" in note
    assert note in str(report)
    assert result.shape[0] == 2
    assert result.isfinite().all()


class SharedAttention(AttnProcessor2_0):
    """Every sample attends to the first one."""

    def __call__(
        self, attn: Any, hidden_states: Any, encoder_hidden_states: Any = None, **rest: Any
    ) -> Any:
        keys = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        return super().__call__(attn, hidden_states, keys[:1].expand_as(keys), **rest)


def test_attention_from_elsewhere_may_look_across_samples(tiny: Tiny) -> None:
    """Nothing but the whole batch can then be computed, or skipped."""
    pipe = tiny("sd15")
    pipe.unet.set_attn_processor(SharedAttention())
    ad.enable(pipe, tolerance=1e9)
    generate(pipe, 2, steps=10)
    report = ad.report(pipe)
    assert len(report.mask) == 1
    assert "attention of its own" in str(report)


def test_several_images_per_prompt_are_samples_too(tiny: Tiny) -> None:
    pipe = tiny("sd15")
    inputs = {"num_images_per_prompt": 2, "generator": [torch.Generator().manual_seed(0)] * 4}
    ad.enable(pipe, tolerance=1.0)
    run(pipe, TINY_PIPELINES["sd15"].inputs(2), **inputs)
    assert len(ad.report(pipe).mask) == 4


@pytest.mark.parametrize("guidance", [5.0, 0.0], ids=["guided", "unguided"])
def test_guidance_decides_how_many_rows_a_sample_has(guidance: float, tiny: Tiny) -> None:
    pipe = tiny("sd15")
    calls = count_calls(pipe.unet)
    ad.enable(pipe, ByChance())
    generate(pipe, 3, steps=10, guidance_scale=guidance)
    assert sum(calls) == (2 if guidance else 1) * sum(ad.report(pipe).nfe)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_pipelines_stay_half(dtype: torch.dtype, tiny: Tiny) -> None:
    """And the full run is still met to the bit at tolerance zero."""
    pipe = tiny("sd3").to(dtype=dtype)
    plain = generate(pipe, 2)
    with ad.accelerate(pipe, tolerance=0):
        assert torch.equal(generate(pipe, 2), plain)
    seen: set[torch.dtype] = set()

    def watch(_: Any, __: int, ___: Any, given: dict[str, Any]) -> dict[str, Any]:
        seen.add(given["latents"].dtype)
        return given

    with ad.accelerate(pipe, ByChance()) as accelerated:
        skipped = generate(pipe, 2, callback_on_step_end=watch)
    assert seen == {dtype}
    assert sum(accelerated.report.nfe) < 16
    assert relative_difference(skipped, plain) < 1


def test_rows_of_a_sample_stand_block_by_block() -> None:
    assert rows_of([True, False, True], 6) == [0, 2, 3, 5]
    assert rows_of([False, True], 2) == [1]
    assert rows_of([True], 4) == [0, 1, 2, 3]


def test_rows_must_be_in_the_order_of_the_samples() -> None:
    sample = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(0))

    def layout(given: Tensor, stepped: Tensor = sample) -> Layout:
        return layout_of([((given,), {})], stepped)

    assert layout(0.3 * sample) == Layout(3)
    assert layout(torch.cat([sample, sample]).half()) == Layout(3)
    assert layout(torch.cat([sample, torch.ones_like(sample)], dim=1)) == Layout(3)
    assert layout(sample + 0.5 * sample.mean(0)) == Layout(3)
    assert layout(torch.cat([torch.zeros(3, 4, 1, 8), sample], dim=2)) == Layout(3)  # a frame ahead
    same = sample[:1].expand_as(sample)
    assert layout(same, same) == Layout(3)
    for other in (sample.flip(0), sample.roll(1, 0), torch.cat([sample.flip(0)] * 2)):
        assert layout(other).reason == "the denoiser's input has the samples in another order"


def test_rows_of_a_samples_frames_stand_together() -> None:
    assert rows_of([True, False], 8, each=2) == [0, 1, 4, 5]
    assert rows_of([False, True, True], 6, each=2) == [2, 3, 4, 5]


def video(samples: int, frames: int, channels: int = 4) -> torch.Tensor:
    """Channels first, as video UNets have it."""
    return torch.randn(samples, channels, frames, 2, 2)


def in_rows(film: torch.Tensor) -> torch.Tensor:
    return film.movedim(2, 1).flatten(0, 1)


@pytest.mark.parametrize("samples", [2, 3, 4])
@pytest.mark.parametrize("frames", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("blocks", [1, 2, 3])
def test_frames_in_rows_are_found(samples: int, frames: int, blocks: int) -> None:
    """Wherever they are: in what the scheduler steps, in a ControlNet's input, in a text."""
    film = video(samples, frames)
    given = film.repeat(blocks, 1, 1, 1, 1)
    text = torch.randn(blocks * samples, 5, 8)
    each_frames = text.repeat_interleave(frames, dim=0)
    pictures = torch.randn(blocks * samples * frames, 3, 4, 4)
    unet = (given,), {"encoder_hidden_states": each_frames, "residuals": (pictures,)}
    controlnet = (in_rows(given),), {"encoder_hidden_states": each_frames, "cond": pictures}
    expected = Layout(samples, frames)
    assert layout_of([controlnet, unet], film) == expected
    assert layout_of([((given,), {"text": text})], film) == Layout(samples)
    assert layout_of([((given,), {"text": text})], in_rows(film)) == expected


def test_one_video_is_one_sample_however_many_frames_are_stepped() -> None:
    film = video(1, 6)
    assert layout_of([((film.repeat(2, 1, 1, 1, 1),), {})], in_rows(film)) == Layout(1, 6)


def test_one_frame_may_be_stepped_at_a_time() -> None:
    film = video(2, 3)
    given = film.repeat(2, 1, 1, 1, 1)
    assert layout_of([((given,), {})], film[:, :, 1]) == Layout(2)
    assert layout_of([((given,), {})], torch.randn(2, 4, 2, 2)).reason is not None


def test_a_sample_may_be_packed_into_tokens_beside_others() -> None:
    film = video(2, 3)
    tokens = film.movedim(1, -1).flatten(1, 3)
    assert layout_of([((tokens.repeat(2, 1, 1),), {})], film[:, :, 1:]) == Layout(2)
    assert layout_of([((tokens.flip(0),), {})], film).reason is not None


def test_rows_in_another_order_than_sample_by_sample_are_not_cut() -> None:
    film = video(2, 3)
    tiled = torch.randn(2, 5, 8).repeat(3, 1, 1)
    assert "text" in str(layout_of([((film,), {"text": tiled})], film).reason)
    by_frame = film.movedim(2, 0).flatten(0, 1)
    assert layout_of([((by_frame.repeat(2, 1, 1, 1),), {})], film).reason is not None


SAMPLES = [True, False, True]


def doubled(sample: Tensor, weights: Tensor) -> tuple[Tensor, None]:
    return 2 * sample + weights, None


def test_a_call_on_rows_computes_these_and_keeps_the_others() -> None:
    sample, weights = torch.arange(12.0).view(6, 2), torch.arange(6.0).view(6, 1)
    last = (torch.full((6, 2), -1.0), None)
    output, nothing = call_on_rows(doubled, (sample, weights), {}, SAMPLES, 1, last)
    assert nothing is None
    assert (output[[1, 4]] == -1).all()
    assert torch.equal(output[[0, 2, 3, 5]], doubled(sample, weights)[0][[0, 2, 3, 5]])


def test_rows_may_be_the_entries_of_lists() -> None:
    def call(sample: list[Tensor], time: Tensor, texts: list[Tensor]) -> tuple[list[Tensor]]:
        return ([x + t + y.sum() for x, t, y in zip(sample, time, texts, strict=True)],)

    sample = list(torch.arange(12.0).view(6, 1, 2))
    texts = [torch.full((6 if row < 3 else 5, 2), float(row)) for row in range(6)]
    args, last = (sample, torch.arange(6.0)), ([torch.full((1, 2), -1.0)] * 6,)
    (output,) = call_on_rows(call, args, {"texts": texts}, SAMPLES, 1, last)
    (full,) = call(*args, texts=texts)
    assert all(torch.equal(output[row], full[row]) for row in (0, 2, 3, 5))
    assert all((output[row] == -1).all() for row in (1, 4))
    noisy = torch.stack(sample[:3])
    guided = (sample[:3] * 2, torch.arange(6.0))
    assert layout_of([(guided, {"texts": texts})], noisy) == Layout(3)


class LayerCache:
    def __init__(self, keys: Tensor | None) -> None:
        self.keys = keys


class ModelCache:
    def __init__(self, *layers: LayerCache) -> None:
        self.layers = layers


def test_keys_that_a_cache_keeps_have_rows_too() -> None:
    def call(sample: Tensor, cache: ModelCache) -> Tensor:
        return sample + cache.layers[0].keys

    sample, keys = torch.arange(6.0).view(6, 1), 10 * torch.arange(6.0).view(6, 1)
    cache = ModelCache(LayerCache(keys), LayerCache(None))
    output = call_on_rows(call, (sample,), {"cache": cache}, SAMPLES, 1, torch.zeros(6, 1))
    kept = torch.tensor([True, False, True] * 2).view(6, 1)
    assert torch.equal(output, kept * (sample + keys))
    assert cache.layers[0].keys is keys


def test_tables_of_positions_are_never_cut() -> None:
    """Ids that have as many rows as the denoiser's input are no table, but those of its samples."""
    sample = torch.randn(2, 4)
    tables = {"visual_rope_pos": [torch.arange(2)], "position_ids": torch.zeros(6, 3)}
    assert layout_of([((sample,), tables)], sample).samples == 2
    of_samples = {"position_ids": torch.arange(2).view(2, 1)}
    for given, cut in ((tables, False), (of_samples, True)):
        seen: list[Any] = []

        def call(rows: Tensor, seen: list[Any] = seen, **kwargs: Any) -> Tensor:
            seen.append(kwargs)
            return rows

        call_on_rows(call, (sample,), given, [False, True], 1, sample)
        got, value = seen[0], given["position_ids"]
        assert torch.equal(got["position_ids"], value[1:] if cut else value)
        assert torch.equal(got.get("visual_rope_pos", [torch.arange(2)])[0], torch.arange(2))


def test_a_cache_of_plain_tensors_keeps_a_batch_whole() -> None:
    """It may well have two rows, for keys and values."""
    sample = torch.randn(2, 4)
    layout = layout_of([((sample,), {"kv_cache": [torch.zeros(2, 3, 4)]})], sample)
    assert layout.samples == 1
    assert layout.reason is not None
    assert "kv_cache" in layout.reason


def test_mapping_keeps_containers_and_everything_that_is_no_tensor() -> None:
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput

    one = torch.ones(2)
    value = {"a": [one, (one, 3)], "b": None, "c": UNet2DConditionOutput(sample=one)}
    mapped = map_tensors(lambda tensor: tensor + 1, value)
    assert mapped["b"] is None
    assert isinstance(mapped["a"][1], tuple)
    assert mapped["a"][1][1] == 3
    assert isinstance(mapped["c"], UNet2DConditionOutput)
    for tensor in (mapped["a"][0], mapped["a"][1][0], mapped["c"].sample):
        assert tensor.tolist() == [2.0, 2.0]
    assert one.tolist() == [1.0, 1.0]
