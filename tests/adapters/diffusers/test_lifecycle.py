"""Nothing leaks: from call to call, from thread to thread, or out of an enabled pipeline."""

from __future__ import annotations

import copy
import functools
import gc
import inspect
import io
import multiprocessing
import pickle
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline, EulerDiscreteScheduler
from schedulers import SCHEDULERS, count_calls, generate, inputs_for, relative_difference
from tiny_pipelines import BETAS, run
from torch import Tensor

import adaptive_diffusion as ad
from adaptive_diffusion import FixedSchedule

Tiny = Callable[[str], Any]
TOLERANCE = 3.0  # at which eight steps have something to skip


@pytest.fixture
def pipe(tiny: Tiny) -> Any:
    return tiny("sd15")


def parts(pipe: Any) -> dict[str, Any]:
    """All that an enabled pipeline might have changed: classes, attributes, scheduler methods."""
    modules = {
        f"{name}.{inner}": type(module)
        for name, part in pipe.components.items()
        if isinstance(part, torch.nn.Module)
        for inner, module in part.named_modules()
    }
    own = {
        name: set(vars(part)) for name, part in pipe.components.items() if hasattr(part, "__dict__")
    }
    return {
        "pipeline": (type(pipe), set(vars(pipe))),
        "modules": modules,
        "attributes": own,
        "scheduler": (type(pipe.scheduler), dict(vars(type(pipe.scheduler)))),
        "scheduler bases": [dict(vars(base)) for base in type(pipe.scheduler).__mro__],
    }


def accelerated(pipe: Any, **options: Any) -> Tensor:
    with ad.accelerate(pipe, tolerance=TOLERANCE) as accelerated_run:
        result = generate(pipe, **options)
    assert not all(accelerated_run.report.mask[0])
    return result


def test_after_disable_all_is_what_it_was(pipe: Any) -> None:
    plain = generate(pipe)
    before = parts(pipe)  # after a call, which sets an attribute or two itself
    ad.enable(pipe, tolerance=TOLERANCE)
    assert not torch.equal(generate(pipe), plain)
    ad.disable(pipe)
    assert parts(pipe) == before
    assert torch.equal(generate(pipe), plain)


def test_while_it_rests_only_the_pipelines_class_is_another(pipe: Any) -> None:
    before = parts(pipe)
    cls = type(pipe)
    ad.enable(pipe)
    assert parts(pipe) | {"pipeline": 0} == before | {"pipeline": 0}
    assert isinstance(pipe, cls)
    assert type(pipe).__name__ == cls.__name__
    assert type(pipe).__module__ == cls.__module__


def test_signature_and_doc_of_the_call_are_unchanged(pipe: Any) -> None:
    cls = type(pipe)
    ad.enable(pipe)
    assert inspect.signature(type(pipe).__call__) == inspect.signature(cls.__call__)
    assert type(pipe).__call__.__doc__ == cls.__call__.__doc__
    assert type(pipe).__doc__ == cls.__doc__


def test_two_calls_in_a_row_are_equal(pipe: Any) -> None:
    ad.enable(pipe, tolerance=TOLERANCE)
    first, report = generate(pipe), ad.report(pipe)
    assert torch.equal(generate(pipe), first)
    assert ad.report(pipe).mask == report.mask


CHANGES: dict[str, dict[str, Any]] = {
    "steps": {"steps": 13},
    "resolution": {"height": 32, "width": 24},
    "guidance": {"guidance_scale": 0.0},
    "batch": {"batch": 3},
    "scheduler": {},
    "nothing": {},
}


def test_a_call_does_not_see_the_one_before(pipe: Any, tiny: Tiny) -> None:
    """Whatever changes between the two, it gives what a fresh pipeline gives."""
    ad.enable(pipe, tolerance=TOLERANCE)
    for name, change in CHANGES.items():
        generate(pipe)
        fresh = tiny("sd15")
        if name == "scheduler":
            pipe.scheduler = EulerDiscreteScheduler(**BETAS)
            fresh.scheduler = EulerDiscreteScheduler(**BETAS)
        elif name == "nothing":
            fresh.scheduler = EulerDiscreteScheduler(**BETAS)
        expected = accelerated(fresh, **change)
        assert torch.equal(generate(pipe, **change), expected), name


def test_the_swapped_scheduler_is_left_as_it_was_too(pipe: Any) -> None:
    ad.enable(pipe, tolerance=TOLERANCE)
    generate(pipe)
    first = type(pipe.scheduler)
    before = dict(vars(EulerDiscreteScheduler)), dict(vars(first))
    pipe.scheduler = EulerDiscreteScheduler(**BETAS)
    generate(pipe)
    assert not all(ad.report(pipe).mask[0])
    assert (dict(vars(EulerDiscreteScheduler)), dict(vars(first))) == before


class StopError(Exception):
    """Raised in the middle of a run."""


def stop(_: Any, step: int, __: Any, given: dict[str, Any]) -> dict[str, Any]:
    if step == 5:
        raise StopError
    return given


def test_after_an_exception_all_is_as_if_the_call_had_not_been(pipe: Any) -> None:
    expected = accelerated(pipe)
    ad.enable(pipe, tolerance=TOLERANCE)
    generate(pipe)
    before, report = parts(pipe), ad.report(pipe)
    with pytest.raises(StopError):
        generate(pipe, callback_on_step_end=stop)
    after = parts(pipe)
    assert after["modules"] == before["modules"]
    assert after["scheduler"] == before["scheduler"]
    assert after["scheduler bases"] == before["scheduler bases"]
    assert ad.report(pipe) is report
    assert torch.equal(generate(pipe), expected)
    ad.disable(pipe)
    assert relative_difference(generate(pipe), expected) > 0


def test_an_exception_in_the_denoiser_is_the_users(pipe: Any) -> None:
    expected = accelerated(pipe)
    ad.enable(pipe, tolerance=TOLERANCE)
    handle = pipe.unet.register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        generate(pipe)
    handle.remove()
    assert torch.equal(generate(pipe), expected)


def test_calling_the_denoiser_directly_is_untouched(pipe: Any) -> None:
    call = (torch.ones(1, 4, 8, 8), 500, torch.ones(1, 7, 32))
    with torch.no_grad():
        expected = pipe.unet(*call)
    cls = type(pipe.unet)
    ad.enable(pipe, tolerance=1e9)
    generate(pipe, steps=12)
    assert type(pipe.unet) is cls
    calls = count_calls(pipe.unet)
    for _ in range(8):
        with torch.no_grad():
            assert torch.equal(pipe.unet(*call).sample, expected.sample)
    assert calls == [1] * 8


def test_enabling_twice_replaces_the_setting(pipe: Any) -> None:
    plain_cls, plain = type(pipe), generate(pipe)
    ad.enable(pipe, FixedSchedule([True] * 4 + [False, True, False, True]))
    generate(pipe)
    ad.enable(pipe, FixedSchedule([True, False] * 4))
    generate(pipe)
    assert ad.report(pipe).mask == [[True, False] * 4]
    ad.disable(pipe)
    assert type(pipe) is plain_cls
    assert torch.equal(generate(pipe), plain)


def test_disabling_what_is_not_enabled_does_nothing(pipe: Any) -> None:
    before = parts(pipe)
    ad.disable(pipe)
    assert parts(pipe) == before
    ad.enable(pipe)
    ad.disable(pipe)
    ad.disable(pipe)
    assert parts(pipe) == before


def test_accelerate_brings_the_earlier_setting_back(pipe: Any) -> None:
    cls = type(pipe)
    outer, inner = FixedSchedule([True] * 4 + [False] * 4), FixedSchedule([True, False] * 4)
    with ad.accelerate(pipe, outer) as first:
        with ad.accelerate(pipe, inner) as second:
            generate(pipe)
            assert second.report.policy == inner
        generate(pipe)
        assert first.report.policy == outer
        with pytest.raises(StopError), ad.accelerate(pipe, inner):
            raise StopError
        generate(pipe)
        assert first.report.policy == outer
    assert type(pipe) is cls


def test_a_report_outlives_disable(pipe: Any) -> None:
    ad.enable(pipe, tolerance=TOLERANCE)
    generate(pipe)
    report = ad.report(pipe)
    ad.disable(pipe)
    generate(pipe)
    assert ad.report(pipe) is report


def test_a_copy_of_an_enabled_pipeline_runs_plain(pipe: Any) -> None:
    plain = generate(pipe)
    ad.enable(pipe, tolerance=TOLERANCE)
    twin = copy.deepcopy(pipe)
    assert torch.equal(generate(twin), plain)
    assert not torch.equal(generate(pipe), plain)


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_what_comes_out_of_a_pickle_is_a_plain_pipeline(pipe: Any, protocol: int) -> None:
    plain = generate(pipe)
    ad.enable(pipe, tolerance=TOLERANCE)
    twin = pickle.loads(pickle.dumps(pipe, protocol))
    assert type(twin) is type(pipe).__bases__[0]
    assert torch.equal(generate(twin), plain)
    ad.enable(twin, tolerance=TOLERANCE)
    assert torch.equal(generate(twin), generate(pipe))


def test_it_is_pickled_in_the_middle_of_a_run(pipe: Any) -> None:
    """As a callback does that saves what there is, with torch or without."""
    plain = generate(pipe)
    saved: list[bytes] = []

    def save(pipe: Any, step: int, _: Any, given: dict[str, Any]) -> dict[str, Any]:
        if step == 4:
            saved.append(pickle.dumps(pipe))
            torch.save(pipe, file := io.BytesIO())
            saved.append(file.getvalue())
        return given

    expected = accelerated(pipe)
    with ad.accelerate(pipe, tolerance=TOLERANCE):
        assert torch.equal(generate(pipe, callback_on_step_end=save), expected)
    assert torch.equal(generate(pickle.loads(saved[0])), plain)
    loaded = torch.load(io.BytesIO(saved[1]), weights_only=False)
    assert torch.equal(generate(loaded), plain)


def _generate_elsewhere(pipe: Any, results: Any) -> None:
    torch.set_num_threads(1)
    results.put((type(pipe).__module__, generate(pipe).numpy()))


@pytest.mark.slow
def test_it_crosses_to_a_spawned_process(pipe: Any) -> None:
    plain = generate(pipe)
    ad.enable(pipe, tolerance=TOLERANCE)
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    process = context.Process(target=_generate_elsewhere, args=(pipe, results))
    process.start()
    module, result = results.get(timeout=300)
    process.join()
    assert module.startswith("diffusers.")
    assert relative_difference(torch.from_numpy(result), plain) < 1e-6


def test_classes_and_functions_of_calls_that_are_gone_are_not_kept(pipe: Any) -> None:
    parts, kinds = pipe.components, []
    for _ in range(3):
        kind = type("Custom", (type(pipe),), {})
        fresh = kind(**parts, requires_safety_checker=False)
        ad.enable(fresh, tolerance=TOLERANCE)
        generate(fresh, steps=2)
        ad.disable(fresh)
        kinds.append(weakref.ref(kind))
        del kind, fresh
    gc.collect()
    assert [kind() for kind in kinds] == [None] * 3


def test_a_pipeline_that_calls_itself_reports_both_loops(pipe: Any) -> None:
    """As one does that makes a picture larger after the first pass."""
    mask = [True, False] * 4

    class Twice(type(pipe)):  # type: ignore[misc]
        def __call__(self, *args: Any, again: bool = True, **kwargs: Any) -> Any:
            if not again:
                return super().__call__(*args, **kwargs)
            first = self(*args, again=False, **kwargs)
            return super().__call__(*args, **kwargs | {"latents": first.images})

    twice = Twice(**pipe.components, requires_safety_checker=False)
    twice.set_progress_bar_config(disable=True)
    with ad.accelerate(twice, FixedSchedule(mask)) as run:
        twice("a", num_inference_steps=8, height=16, width=16, output_type="latent")
    assert run.report.mask == [mask * 2]


def test_a_call_may_take_more_than_its_signature_says(pipe: Any) -> None:
    """A decorator keeps the signature of what it wraps, and takes an argument more."""
    inner = type(pipe).__call__

    class Decorated(type(pipe)):  # type: ignore[misc]
        @functools.wraps(inner)
        def __call__(self, *args: Any, style: str = "", **kwargs: Any) -> Any:
            return inner(self, *args, **kwargs)

    decorated = Decorated(**pipe.components, requires_safety_checker=False)
    with ad.accelerate(decorated, tolerance=TOLERANCE) as run:
        generate(decorated, style="plain")
    assert run.report.steps == 8


def test_a_copy_of_an_enabled_pipeline_can_be_enabled_and_disabled(pipe: Any) -> None:
    plain, cls = generate(pipe), type(pipe)
    expected = accelerated(pipe)
    ad.enable(pipe, tolerance=TOLERANCE)
    twin = copy.deepcopy(pipe)
    ad.enable(twin, tolerance=TOLERANCE)
    assert torch.equal(generate(twin), expected)
    ad.disable(twin)
    assert type(twin) is cls
    assert torch.equal(generate(twin), plain)
    assert torch.equal(generate(pipe), expected)


def test_an_enabled_pipeline_is_saved_as_what_it_is(pipe: Any, tmp_path: Path) -> None:
    plain, cls = generate(pipe), type(pipe)
    ad.enable(pipe)
    pipe.save_pretrained(tmp_path)
    loaded = DiffusionPipeline.from_pretrained(tmp_path, local_files_only=True)
    assert type(loaded) is cls
    assert torch.equal(generate(loaded), plain)


def test_pipelines_made_of_an_enabled_ones_components_are_not_enabled(pipe: Any) -> None:
    plain = generate(pipe)
    ad.enable(pipe, tolerance=TOLERANCE)
    generate(pipe)
    assert torch.equal(generate(type(pipe).__bases__[0](**pipe.components)), plain)


def test_two_enabled_pipelines_have_settings_and_reports_of_their_own(
    pipe: Any, tiny: Tiny
) -> None:
    other = tiny("sd3")
    ad.enable(pipe, FixedSchedule([True, False] * 4))
    ad.enable(other, FixedSchedule([True, True, False, False] * 2))
    generate(pipe)
    generate(other)
    assert ad.report(pipe).mask == [[True, False] * 4]
    assert ad.report(other).mask == [[True, True, False, False] * 2]


# Threads ------------------------------------------------------------------------------------------


def side_by_side(*pipes: Any) -> list[Tensor]:
    """What the pipelines give in threads of their own that go step by step together."""
    barrier = threading.Barrier(len(pipes))
    results: list[Any] = [None] * len(pipes)

    def wait(_: Any, __: int, ___: Any, given: dict[str, Any]) -> dict[str, Any]:
        barrier.wait(timeout=60)
        return given

    def work(i: int) -> None:
        try:
            torch.set_num_threads(1)
            results[i] = generate(pipes[i], seed=i, callback_on_step_end=wait)
        except BaseException as error:
            results[i] = error
            barrier.abort()

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(pipes))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


@pytest.mark.parametrize("enabled", [(True, False), (True, True)], ids=["one", "both"])
@pytest.mark.parametrize("shared", [False, True], ids=["apart", "one unet"])
def test_pipelines_in_two_threads_give_what_they_give_alone(
    pipe: Any, tiny: Tiny, enabled: tuple[bool, bool], shared: bool
) -> None:
    other = tiny("sd15")
    if shared:
        other.unet = pipe.unet
    pair = (pipe, other)
    before = [parts(p) for p in pair]
    for p, on in zip(pair, enabled, strict=True):
        if on:
            ad.enable(p, tolerance=TOLERANCE)
    alone = [generate(p, seed=i) for i, p in enumerate(pair)]
    masks = [ad.report(p).mask for p, on in zip(pair, enabled, strict=True) if on]
    for _ in range(2):
        together = side_by_side(*pair)
        assert all(map(torch.equal, together, alone))
        assert masks == [ad.report(p).mask for p, on in zip(pair, enabled, strict=True) if on]
    for p, was in zip(pair, before, strict=True):
        ad.disable(p)
        assert parts(p)["modules"] == was["modules"]
        assert parts(p)["scheduler"] == was["scheduler"]


def test_a_pipeline_inside_another_ones_callback_is_its_own(pipe: Any, tiny: Tiny) -> None:
    """A preview, say: enabled or not, it does not meet the run around it."""
    inner = tiny("sd3")
    expected, inner_plain = accelerated(pipe), generate(inner, steps=2)
    results: list[Tensor] = []

    def preview(_: Any, step: int, __: Any, given: dict[str, Any]) -> dict[str, Any]:
        if step == 4:
            results.append(generate(inner, steps=2))
        return given

    with ad.accelerate(pipe, tolerance=TOLERANCE):
        assert torch.equal(generate(pipe, callback_on_step_end=preview), expected)
    with ad.accelerate(pipe, tolerance=TOLERANCE), ad.accelerate(inner, tolerance=0):
        assert torch.equal(generate(pipe, callback_on_step_end=preview), expected)
    assert all(torch.equal(result, inner_plain) for result in results)
    assert len(results) == 2


def test_only_a_pipelines_own_modules_are_led_through_its_generation(pipe: Any, tiny: Tiny) -> None:
    """The outer pipeline's UNet, called while the inner one runs, is nobody's step."""
    inner = tiny("sd3")
    expected, inner_expected = accelerated(pipe), accelerated(inner)
    same: list[bool] = []

    @torch.no_grad()
    def predict(step: int) -> Tensor:
        return pipe.unet(torch.full((1, 4, 8, 8), 0.1 * step), 500, torch.ones(1, 7, 32)).sample

    known = [predict(step) for step in range(8)]

    def peek(_: Any, step: int, __: Any, given: dict[str, Any]) -> dict[str, Any]:
        same.append(torch.equal(predict(step), known[step]))
        return given

    def nest(_: Any, step: int, __: Any, given: dict[str, Any]) -> dict[str, Any]:
        if step == 4:
            same.append(torch.equal(generate(inner, callback_on_step_end=peek), inner_expected))
        return given

    with ad.accelerate(pipe, tolerance=TOLERANCE), ad.accelerate(inner, tolerance=TOLERANCE) as run:
        assert torch.equal(generate(pipe, callback_on_step_end=nest), expected)
    assert same == [True] * 9
    assert not all(run.report.mask[0])


def test_a_callback_may_rewrite_the_sample(pipe: Any) -> None:
    """What it adds between steps is kept when skipped steps are made good."""

    def push(_: Any, step: int, __: Any, given: dict[str, Any]) -> dict[str, Any]:
        return {"latents": given["latents"] + 0.5} if step in (4, 5) else {}

    plain = generate(pipe, steps=12, callback_on_step_end=push)
    unpushed = generate(pipe, steps=12)
    mask = [i not in (4, 5, 7) for i in range(12)]
    with ad.accelerate(pipe, FixedSchedule(mask)):
        skipped = generate(pipe, steps=12, callback_on_step_end=push)
    assert relative_difference(skipped, plain) < 0.3 * relative_difference(unpushed, plain)


@pytest.mark.parametrize("name", ["unipc", "euler_ancestral"])
def test_the_global_random_state_goes_on_as_in_a_plain_run(name: str, pipe: Any) -> None:
    pipe.scheduler = SCHEDULERS[name]()
    inputs = inputs_for(pipe, 1) | {"generator": None}
    states = []
    for policy in (None, FixedSchedule([True, True, False, True, False, False, True, True])):
        torch.manual_seed(0)
        if policy is not None:
            ad.enable(pipe, policy)
        run(pipe, inputs, steps=8)
        states.append(torch.get_rng_state())
    assert torch.equal(*states)
