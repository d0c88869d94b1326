"""What `check` finds out about pipelines; it never raises because of them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler
from tiny_pipelines import ALL_PIPELINES
from torch import Tensor, nn
from toy_pipeline import DarkAndBright, ToyPipeline

import adaptive_diffusion as ad
from adaptive_diffusion.checking import Check, Status

OK, LIMIT, NO, FAULT = Status.OK, Status.LIMIT, Status.NO, Status.FAULT
STEPS = 20


class Denoiser(DarkAndBright):
    """Denoises every row for itself."""

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return super().forward(x, t, 0.6)


class Plain:
    """A sound pipeline of somebody's own, which takes batches; each test spoils something."""

    scheduler_class: type = DDIMScheduler
    network: type[nn.Module] = Denoiser
    channels = 4

    def __init__(self) -> None:
        self.scheduler = self.scheduler_class(clip_sample=False)
        self.unet = self.network(self.scheduler.alphas_cumprod)
        self.components = {"unet": self.unet, "scheduler": self.scheduler}
        self.calls = 0

    @torch.no_grad()
    def __call__(
        self,
        batch_size: int = 1,
        num_inference_steps: int = STEPS,
        generator: torch.Generator | None = None,
    ) -> Any:
        self.calls += 1
        self.scheduler.set_timesteps(num_inference_steps)
        x = torch.randn(batch_size, self.channels, 8, 8, generator=generator)
        for t in self.scheduler.timesteps:
            x = self.scheduler.step(self.predict(x, t), t, x).prev_sample
        return self.answer(x)

    def predict(self, x: Tensor, t: Tensor) -> Tensor:
        return self.unet(x, t)

    def answer(self, x: Tensor) -> Any:
        return SimpleNamespace(images=x.numpy())

    @property
    def is_enabled(self) -> bool:
        return type(self) in (cls for cls in type(self).__mro__ if "_is_accelerated" in vars(cls))


def statuses(found: Check) -> dict[str, Status]:
    return {each.subject: each.status for each in found.findings}


def text_of(found: Check, subject: str) -> str:
    (text,) = (each.text for each in found.findings if each.subject == subject)
    return text


def assert_fits_a_screen(found: Check) -> None:
    lines = str(found).splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 100
    json.loads(found.to_json())


# Sound pipelines ----------------------------------------------------------------------------------

SOUND = {
    "plain run": OK,
    "tolerance 0": OK,
    "skipping": OK,
    "repeats": OK,
    "backfill": OK,
    "default": OK,
    "batch": OK,
    "afterwards": OK,
}


def without_time(found: Check) -> dict[str, Status]:
    """What does not depend on how busy the machine is."""
    return {subject: status for subject, status in statuses(found).items() if subject != "time"}


def test_all_is_well_with_a_pipeline_of_diffusers(tiny: Callable[[str], Any]) -> None:
    found = ad.check(tiny("sd15"), "a red apple", height=32, width=32)
    assert without_time(found) == SOUND
    assert found.ok
    assert found.verdict.startswith("WORKS: ")
    assert found.subject["denoiser"] == "unet (denoiser, 20 calls in 20 steps)"
    assert "9 of 20 steps were skipped, as planned" in text_of(found, "skipping")
    assert found.figures["seconds_skipped_step"] < found.figures["seconds_computed_step"]
    assert found.figures["nfe_reduction"] > 1
    assert_fits_a_screen(found)


def test_all_is_well_with_a_pipeline_of_ones_own() -> None:
    found = ad.check(Plain(), steps=STEPS)
    assert without_time(found) == SOUND
    assert "batch_size" not in found.subject["call"]


@pytest.mark.parametrize("name", ["flux", "sdxl", "controlnet", "StableAudioPipeline", "wan"])
def test_kinds_of_pipelines(name: str) -> None:
    pipe = ALL_PIPELINES[name].make()
    pipe.set_progress_bar_config(disable=True)
    found = ad.check(pipe, steps=6, **ALL_PIPELINES[name].inputs(1))
    assert found.ok, str(found)
    assert found.figures["steps"] >= 6
    assert_fits_a_screen(found)


# The pipeline is left as it was -------------------------------------------------------------------


def test_setting_report_and_random_numbers_stay() -> None:
    pipe = ToyPipeline()
    ad.enable(pipe, ad.ThirdOrder(0.5))
    pipe("owl")
    report, mine = ad.report(pipe), torch.Generator().manual_seed(3)
    states = torch.get_rng_state(), mine.get_state()
    assert ad.check(pipe, "owl", steps=STEPS, generator=mine).ok
    assert ad.report(pipe) is report
    assert torch.equal(torch.get_rng_state(), states[0])
    assert torch.equal(mine.get_state(), states[1])
    pipe("owl")
    assert ad.report(pipe).policy == ad.ThirdOrder(0.5)


def test_a_plain_pipeline_stays_plain() -> None:
    pipe = ToyPipeline()
    assert ad.check(pipe, "owl", steps=STEPS).ok
    assert type(pipe) is ToyPipeline
    with pytest.raises(ad.NoReportError):
        ad.report(pipe)


def test_an_interruption_is_passed_on_and_leaves_it_plain() -> None:
    class Interrupted(Plain):
        def predict(self, x: Tensor, t: Tensor) -> Tensor:
            if self.is_enabled:
                raise KeyboardInterrupt
            return super().predict(x, t)

    pipe = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        ad.check(pipe)
    assert type(pipe) is Interrupted


def test_each_run_is_told_of() -> None:
    told: list[str] = []
    pipe = Plain()
    ad.check(pipe, steps=STEPS, notify=told.append)
    assert pipe.calls == len(told) == 11
    assert told[:3] == ["plain run", "plain run again", "tolerance 0"]


# Limits -------------------------------------------------------------------------------------------


class ForgetfulScheduler(DDIMScheduler):
    """Its steps depend on how often it was asked, which nobody can put back."""

    def set_timesteps(self, *args: Any, **kwargs: Any) -> None:
        self.asked = itertools.count()
        super().set_timesteps(*args, **kwargs)

    def step(self, model_output: Tensor, timestep: Any, sample: Tensor, **more: Any) -> Any:
        return super().step(model_output * (1 + 0.01 * next(self.asked)), timestep, sample, **more)


def test_a_scheduler_whose_steps_do_not_repeat() -> None:
    class Pipeline(Plain):
        scheduler_class = ForgetfulScheduler

    found = ad.check(Pipeline(), steps=STEPS)
    assert without_time(found) == {**SOUND, "backfill": LIMIT}
    assert "Skipped steps keep their forecasts" in text_of(found, "backfill")
    assert found.ok
    assert "WORKS, with limits (backfill" in found.verdict


def test_a_batch_that_is_decided_as_a_whole() -> None:
    class Noting(Denoiser):
        def forward(self, x: Tensor, t: Tensor, notebook: Any) -> Tensor:
            return super().forward(x, t)

    class Notebook:
        def __init__(self) -> None:
            self.pages = torch.zeros(8)

    class Pipeline(Plain):
        network = Noting

        def predict(self, x: Tensor, t: Tensor) -> Tensor:
            return self.unet(x, t, notebook=Notebook())

    found = ad.check(Pipeline(), steps=STEPS)
    assert without_time(found) == {**SOUND, "batch": LIMIT}
    assert "'notebook' (Notebook) may keep what it is shown" in text_of(found, "batch")


def test_a_batch_in_another_order(tiny: Callable[[str], Any]) -> None:
    class Reversed(Plain):
        channels = 3

        def predict(self, x: Tensor, t: Tensor) -> Tensor:
            return self.unet(x.flip(0), t).sample.flip(0)

    pipe = Reversed()
    pipe.unet = pipe.components["unet"] = tiny("ddim").unet
    found = ad.check(pipe, steps=8)
    assert statuses(found)["batch"] is LIMIT
    assert "has the samples in another order" in text_of(found, "batch")


def test_a_batch_whose_blocks_are_interleaved() -> None:
    class Interleaved(Plain):
        def predict(self, x: Tensor, t: Tensor) -> Tensor:
            pairs = torch.stack([x, 0.9 * x], dim=1).flatten(0, 1)  # of each sample
            return self.unet(pairs, t).unflatten(0, (-1, 2)).mean(1)

    found = ad.check(Interleaved(), steps=STEPS)
    assert without_time(found) == {**SOUND, "batch": LIMIT}
    assert "does not repeat the samples block by block" in text_of(found, "batch")


def test_a_pipeline_that_does_not_repeat() -> None:
    class Unsteady(Plain):
        def answer(self, x: Tensor) -> Any:
            return super().answer(x + 0.001 * self.calls)

    found = ad.check(Unsteady(), steps=STEPS)
    assert statuses(found)["plain run"] is LIMIT
    assert statuses(found)["tolerance 0"] is LIMIT
    assert "afterwards" not in statuses(found)
    assert found.ok
    assert "no surer than that" in text_of(found, "plain run")


def test_values_that_are_not_numbers() -> None:
    class Overflowing(Plain):
        def answer(self, x: Tensor) -> Any:
            return super().answer(x * torch.tensor([float("nan")] + [1.0] * 7))

    found = ad.check(Overflowing(), steps=STEPS)
    assert statuses(found)["plain run"] is LIMIT
    assert statuses(found)["tolerance 0"] is OK
    assert found.ok
    assert_fits_a_screen(found)


@pytest.mark.parametrize("steps", [1, 2, 3, 4])
def test_loops_that_are_too_short(steps: int) -> None:
    found = ad.check(Plain(), steps=steps)
    assert found.ok
    assert statuses(found)["skipping"] is (LIMIT if steps < 4 else OK)
    assert statuses(found)["default"] is LIMIT
    assert "Ask for more steps" in text_of(found, "default")


def test_a_batch_that_the_pipeline_can_not_make() -> None:
    class Single(Plain):
        def predict(self, x: Tensor, t: Tensor) -> Tensor:
            if len(x) > 1:
                raise ValueError("one at a time, please")
            return super().predict(x, t)

    found = ad.check(Single(), steps=STEPS)
    assert without_time(found) == {**SOUND, "batch": LIMIT}
    assert "one at a time, please" in text_of(found, "batch")


# Nothing is accelerated ---------------------------------------------------------------------------


def test_a_denoiser_that_is_called_by_its_forward() -> None:
    class Forward(Plain):
        def predict(self, x: Tensor, t: Tensor) -> Tensor:
            return self.unet.forward(x, t)

    found = ad.check(Forward(), steps=STEPS)
    assert statuses(found) == {"plain run": OK, "tolerance 0": OK, "skipping": NO}
    assert not found.ok
    assert found.verdict.startswith("NOT ACCELERATED: Nothing was skipped")
    assert "not by its forward" in found.verdict


def test_a_pipeline_that_raises() -> None:
    class Broken(Plain):
        def predict(self, x: Tensor, t: Tensor) -> Tensor:
            raise ValueError("the weights are " + "very " * 200 + "broken")

    pipe = Broken()
    found = ad.check(pipe)
    assert statuses(found) == {"plain run": NO}
    assert "It raises ValueError: the weights are very" in text_of(found, "plain run")
    assert found.verdict.startswith("NOT ACCELERATED: ")
    assert type(pipe) is Broken
    assert_fits_a_screen(found)


def test_a_call_that_does_not_fit() -> None:
    found = ad.check(ToyPipeline(), "owl", colour="red")
    assert statuses(found) == {"plain run": NO}
    assert "unexpected keyword argument 'colour'" in found.verdict


def test_a_result_with_nothing_to_compare() -> None:
    class Silent(Plain):
        def answer(self, x: Tensor) -> Any:
            return "done"

    assert statuses(ad.check(Silent())) == {"plain run": NO}


@pytest.mark.parametrize(
    "thing", [object(), None, nn.Linear(1, 1), "emoji"], ids=lambda each: type(each).__name__
)
def test_what_is_no_pipeline(thing: Any) -> None:
    found = ad.check(thing)
    assert statuses(found) == {"pipeline": NO}
    assert "is not a diffusers pipeline" in found.verdict
    assert_fits_a_screen(found)


# Broken promises ----------------------------------------------------------------------------------


def test_a_result_that_differs_at_tolerance_0() -> None:
    class Changed(Plain):
        def answer(self, x: Tensor) -> Any:
            return super().answer(x + 0.01 * self.is_enabled)

    found = ad.check(Changed(), steps=STEPS)
    assert statuses(found)["tolerance 0"] is FAULT
    assert not found.ok
    assert found.verdict.startswith("BROKEN PROMISE (tolerance 0): ")


def test_an_error_that_the_plain_run_does_not_have() -> None:
    class Allergic(Plain):
        def predict(self, x: Tensor, t: Tensor) -> Tensor:
            if self.is_enabled:
                raise RuntimeError("what is this?")
            return super().predict(x, t)

    pipe = Allergic()
    found = ad.check(pipe, steps=STEPS)
    assert statuses(found) == {"plain run": OK, "tolerance 0": FAULT}
    assert "RuntimeError: what is this?" in text_of(found, "tolerance 0")
    assert type(pipe) is Allergic


def test_an_error_in_one_stage_does_not_end_the_others() -> None:
    class Counting(Denoiser):
        count = 0

        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            self.count += len(x) == 1
            return super().forward(x, t)

    class Strict(Plain):
        network = Counting

        def answer(self, x: Tensor) -> Any:
            made, self.unet.count = self.unet.count, 0
            if len(x) == 1 and made not in (STEPS, 8):
                raise RuntimeError(f"{made} calls were made")
            return super().answer(x)

    found = ad.check(Strict(), steps=STEPS)
    assert statuses(found)["skipping"] is FAULT
    assert statuses(found)["afterwards"] is OK
    assert "calls were made" in text_of(found, "skipping")


def test_a_denoiser_that_looks_across_samples() -> None:
    """What no signature shows: rows are told apart, and must not be."""

    class Across(Denoiser):
        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            return super().forward(x + 0.5 * x.flip(0), t)

    class Pipeline(Plain):
        network = Across

    found = ad.check(Pipeline(), steps=STEPS)
    assert without_time(found) == {**SOUND, "batch": FAULT}
    assert "look across samples" in text_of(found, "batch")


def test_a_result_that_is_lost_when_steps_are_skipped() -> None:
    class Fragile(Plain):
        seen = 0

        def predict(self, x: Tensor, t: Tensor) -> Tensor:
            output = super().predict(x, t)
            self.same = getattr(self, "last", None) is not None and torch.equal(output, self.last)
            self.last = output.clone()
            return output * (float("nan") if self.same else 1)

    found = ad.check(Fragile(), steps=STEPS)
    assert statuses(found)["tolerance 0"] is OK
    assert statuses(found)["skipping"] is FAULT
    assert "not numbers" in text_of(found, "skipping")


def test_a_pipeline_that_is_another_one_afterwards() -> None:
    class Worn(Plain):
        wear = [0.0] * 7 + [0.5]  # it breaks in its seventh call

        def answer(self, x: Tensor) -> Any:
            return super().answer(x + self.wear[min(self.calls, 7)])

    found = ad.check(Worn(), steps=STEPS)
    assert statuses(found)["afterwards"] is FAULT
