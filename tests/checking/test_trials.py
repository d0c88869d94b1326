"""A call that is made again and again is the same call, and uses up nothing of the user's."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from tiny_pipelines import TINY_PIPELINES
from toy_pipeline import ToyPipeline

from adaptive_diffusion import ErrorControlled
from adaptive_diffusion.checking.plans import EveryOther
from adaptive_diffusion.checking.trials import RepeatedCall


def call(pipe: Any, *args: Any, steps: int = 6, **kwargs: Any) -> RepeatedCall:
    return RepeatedCall(pipe, args, kwargs, steps, seed=0)


class Taking(ToyPipeline):
    """Tells what it was given, and takes several samples."""

    def __call__(  # type: ignore[override]
        self, prompt: Any = "owl", num_images_per_prompt: int = 1, **more: Any
    ) -> Any:
        self.given = {"prompt": prompt, "num_images_per_prompt": num_images_per_prompt, **more}
        return super().__call__("owl", 6)


def test_arguments_get_their_names_and_what_is_missing() -> None:
    found = call(ToyPipeline(), "owl", steps=7).arguments
    assert found["prompt"] == "owl"
    assert found["num_inference_steps"] == 7
    assert found["output_type"] == "np"
    assert found["generator"].initial_seed() == 0


def test_what_the_user_says_counts() -> None:
    mine = torch.Generator().manual_seed(5)
    found = call(ToyPipeline(), "owl", 9, output_type="pt", generator=mine).arguments
    assert found == {
        "prompt": "owl",
        "num_inference_steps": 9,
        "output_type": "pt",
        "generator": mine,
    }


def test_a_pipeline_that_takes_timesteps_keeps_them() -> None:
    pipe = TINY_PIPELINES["sd15"].make()
    assert "num_inference_steps" not in call(pipe, timesteps=[900, 500, 100]).arguments


def test_runs_use_up_nothing() -> None:
    class Greedy(Taking):
        def __call__(self, notes: list[int], latents: torch.Tensor, **more: Any) -> Any:  # type: ignore[override]
            notes.append(len(notes))
            latents.add_(torch.rand(()) + random.random() + np.random.rand())
            torch.rand(1, generator=more["generator"])
            return latents.clone()

    notes, latents, generator = [0], torch.zeros(1, 2), torch.Generator().manual_seed(1)
    before = generator.get_state(), torch.get_rng_state(), random.getstate()
    repeated = call(Greedy(), notes, latents, generator=generator)
    first, second = repeated.run_plain(), repeated.run_plain()
    assert torch.equal(first.outputs.arrays[0], second.outputs.arrays[0])
    assert notes == [0]
    assert not latents.any()
    assert torch.equal(generator.get_state(), before[0])
    assert torch.equal(torch.get_rng_state(), before[1])
    assert random.getstate() == before[2]


def test_steps_and_calls_are_counted() -> None:
    repeated = call(ToyPipeline(), "owl", steps=8)
    plain = repeated.run_plain()
    assert plain.calls == {"unet": 8}
    trial = repeated.run(EveryOther(0))
    assert [step.computed for step in trial.steps] == [[each] for each in trial.report.mask[0]]
    assert [step.calls["unet"] for step in trial.steps] == [1, 1, 0, 1, 0, 1, 0, 1]
    assert len(trial.all_skipped) == 3
    assert all(step.seconds > 0 for step in trial.steps)
    assert sum(step.seconds for step in trial.steps) <= trial.seconds


def test_nothing_stays_on_the_modules() -> None:
    pipe = ToyPipeline()
    call(pipe, "owl").run(ErrorControlled())
    assert not pipe.unet._forward_pre_hooks
    assert type(pipe) is ToyPipeline


SEVERAL = {"num_images_per_prompt": 2}


@pytest.mark.parametrize(
    ("given", "batches"),
    [
        ({"prompt": "a red apple"}, [{"prompt": ["a red apple", "apple red a"]}, SEVERAL]),
        ({"prompt": "owl"}, [{"prompt": ["owl", "lwo"]}, SEVERAL]),
        ({"prompt": ["owl"]}, [{"prompt": ["owl", "owl"]}, SEVERAL]),
        ({"prompt": ["owl", "cat"]}, [{}]),
        (
            {"prompt": "an owl", "image": ["i"], "masks": ["m", "n"]},
            [{"prompt": ["an owl", "owl an"], "image": ["i", "i"]}, SEVERAL],
        ),
        ({"prompt": None}, [SEVERAL]),
    ],
    ids=str,
)
def test_ways_to_ask_for_two(given: dict[str, Any], batches: list[dict[str, Any]]) -> None:
    assert call(Taking(), **given).batches() == batches


def test_tensors_of_one_sample_are_doubled() -> None:
    (changes, _) = call(Taking(), "owl", image=torch.rand(1, 3), scale=torch.rand(2)).batches()
    assert changes["image"].shape == (2, 3)
    assert changes.keys() == {"prompt", "image"}


def test_a_batch_is_shorter_and_has_one_generator() -> None:
    pipe = TINY_PIPELINES["sd15"].make()
    generators = [torch.Generator().manual_seed(9)]
    for changes in call(pipe, "owl", steps=30, generator=generators).batches():
        assert changes["num_inference_steps"] == 8
        assert isinstance(changes["generator"], torch.Generator)


def test_a_batch_that_nobody_can_ask_for() -> None:
    class Single(Taking):
        def __call__(self, size: int = 3) -> Any:  # type: ignore[override]
            return None

    assert call(Single()).batches() == []


def test_two_samples_alternate() -> None:
    repeated = call(TINY_PIPELINES["sd15"].make(), steps=8, **TINY_PIPELINES["sd15"].inputs(2))
    trial = repeated.run(EveryOther(0, 1))
    first, second = trial.report.mask
    assert first == [True, True, False, True, False, True, False, True]
    assert second == [True, True, True, False, True, False, True, True]


def test_a_pipeline_with_a_seed_of_its_own_gets_it() -> None:
    class Seeded(Taking):
        def __call__(self, prompt: str, seed: int | None = None) -> Any:  # type: ignore[override]
            return None

    assert RepeatedCall(Seeded(), ("owl",), {}, 6, seed=4).arguments["seed"] == 4
    assert RepeatedCall(Seeded(), ("owl",), {}, 6, seed=None).arguments["seed"] == 0
