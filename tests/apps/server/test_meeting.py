"""Whoever else is served, a request gets what it would have got alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from schedulers import pipeline_with, relative_difference
from tiny_pipelines import TINY_PIPELINES, run, single
from torch import Tensor, nn

import adaptive_diffusion as ad
from adaptive_diffusion.apps.server.decoding import picture_decoders
from adaptive_diffusion.apps.server.joining import Call, split
from adaptive_diffusion.apps.server.meeting import Meeting, NotFiniteError
from adaptive_diffusion.apps.sharing import own_pipeline

ROUNDING = 1e-4
UNBATCHED = ["animatediff"]  # its text has a row for every frame
QUICK = ["sd15", "controlnet", "img2img", "sd3", "flux", "pixart", "ddim", "wan"]
KINDS = [
    pytest.param(kind, marks=[] if kind in QUICK else pytest.mark.slow) for kind in TINY_PIPELINES
]


@dataclass
class Request:
    """What one of several requests asks for; it begins when the first has made `start` steps."""

    inputs: dict[str, Any]
    steps: int
    seed: int
    start: int = 0
    tolerance: float = 3.0


@dataclass
class Made:
    sample: Tensor
    mask: list[list[bool]]


Meet = Callable[..., Meeting]


@pytest.fixture
def meet() -> Iterator[Meet]:
    """Makes meetings, and notes the number of requests in every call in `sizes`."""
    made: list[Meeting] = []

    def make(*pipes: Any, sizes: list[int] | None = None, **options: Any) -> Meeting:
        seen = [] if sizes is None else sizes
        options.setdefault("patience", 20.0)
        meeting = Meeting(on_call=lambda requests, rows: seen.append(requests), **options)
        made.append(meeting)
        for pipe in pipes:
            meeting.invite(pipe)
        return meeting

    yield make
    for meeting in made:
        meeting.close()


def make(pipe: Any, request: Request, on_step: Any = None) -> Made:
    own = own_pipeline(pipe)
    with ad.accelerate(own, tolerance=request.tolerance, on_step=on_step) as accelerated:
        sample = run(own, request.inputs, steps=request.steps, seed=request.seed)
    return Made(sample, accelerated.report.mask)


def make_together(meeting: Meeting, pipe: Any, requests: list[Request]) -> list[Made | Exception]:
    """All requests in threads; each begins when the first has come as far as it says."""
    started = [threading.Event() for _ in requests]

    def see(mask: list[list[bool]]) -> None:
        for request, event in zip(requests, started, strict=True):
            if len(mask[0]) >= request.start:
                event.set()

    def serve(index: int) -> Made | Exception:
        request = requests[index]
        if index and request.start:
            started[index].wait(30)
        try:
            with meeting.attend():
                return make(pipe, request, see if index == 0 else None)
        except Exception as error:
            return error
        finally:
            if index == 0:
                for event in started:
                    event.set()

    with ThreadPoolExecutor(len(requests)) as pool:
        return list(pool.map(serve, range(len(requests))))


def assert_equal(made: Made | Exception, alone: Made) -> None:
    if isinstance(made, Exception):
        raise made
    assert made.mask == alone.mask
    assert relative_difference(made.sample, alone.sample) < ROUNDING


def requests_of(kind: str, plan: list[tuple[int, int]]) -> list[Request]:
    """Requests that differ in prompt and seed, with these steps and starts."""
    inputs = TINY_PIPELINES[kind].inputs(len(plan))
    return [
        Request(single(inputs, index), steps, seed=10 + index, start=start)
        for index, (steps, start) in enumerate(plan)
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_a_request_gets_what_it_would_have_got_alone(kind: str, tiny: Any, meet: Meet) -> None:
    pipe = tiny(kind)
    requests = requests_of(kind, [(8, 0), (8, 0), (6, 3)])
    alone = [make(pipe, request) for request in requests]
    sizes: list[int] = []
    together = make_together(meet(pipe, sizes=sizes), pipe, requests)
    for made, expected in zip(together, alone, strict=True):
        assert_equal(made, expected)
    batched = sum(size > 1 for size in sizes)
    assert batched > 3 or kind in UNBATCHED, "no more than attempts"


@given(plan=st.lists(st.tuples(st.integers(4, 12), st.integers(0, 8)), min_size=2, max_size=5))
@settings(max_examples=8)
def test_requests_join_and_leave_at_any_step(plan: list[tuple[int, int]]) -> None:
    pipe = TINY_PIPELINES["sd15"].make()
    requests = requests_of("sd15", plan)
    alone = [make(pipe, request) for request in requests]
    meeting = Meeting()
    meeting.invite(pipe)
    for made, expected in zip(make_together(meeting, pipe, requests), alone, strict=True):
        assert_equal(made, expected)
    meeting.close()


def test_skipped_steps_are_not_waited_for(tiny: Any, meet: Meet) -> None:
    """The calls of all requests are made in as many turns as the longest needs, or little more."""
    pipe = tiny("sd15")
    requests = requests_of("sd15", [(20, 0)] * 4)
    alone = [make(pipe, request) for request in requests]
    sizes: list[int] = []
    meeting = meet(pipe, sizes=sizes)
    make_together(meeting, pipe, requests[:2])  # finds out that the model can be batched
    sizes.clear()
    make_together(meeting, pipe, requests)
    calls = [sum(made.mask[0]) for made in alone]
    assert sum(calls) < 60
    assert sum(sizes) == sum(calls)
    assert len(sizes) <= max(calls) + 4


def test_requests_of_other_shapes_are_served_beside(tiny: Any, meet: Meet) -> None:
    pipe = tiny("sd15")
    requests = requests_of("sd15", [(6, 0)] * 4)
    for request, size in zip(requests, (16, 32, 16, 24), strict=True):
        request.inputs |= {"height": size, "width": size}
    alone = [make(pipe, request) for request in requests]
    for made, expected in zip(make_together(meet(pipe), pipe, requests), alone, strict=True):
        assert_equal(made, expected)


def test_requests_with_and_without_guidance_share_calls(tiny: Any, meet: Meet) -> None:
    """One row for each picture, or two: a request may also have several pictures."""
    pipe = tiny("sd15")
    requests = requests_of("sd15", [(8, 0)] * 2)
    requests[0].inputs["guidance_scale"] = 1.0
    requests.append(Request(TINY_PIPELINES["sd15"].inputs(3), steps=8, seed=20))
    alone = [make(pipe, request) for request in requests]
    sizes: list[int] = []
    meeting = meet(pipe, sizes=sizes)
    for _ in range(2):
        for made, expected in zip(make_together(meeting, pipe, requests), alone, strict=True):
            assert_equal(made, expected)
    assert 3 in sizes


@pytest.mark.parametrize("scheduler", ["dpmsolver++", "euler_ancestral", "pndm", "heun"])
def test_schedulers_keep_their_state_to_themselves(scheduler: str, meet: Meet) -> None:
    pipe = pipeline_with(scheduler)
    requests = requests_of("sd15", [(8, 0), (8, 2), (5, 0)])
    alone = [make(pipe, request) for request in requests]
    for made, expected in zip(make_together(meet(pipe), pipe, requests), alone, strict=True):
        assert_equal(made, expected)


def test_the_global_random_state_is_each_requests_own(tiny: Any, meet: Meet) -> None:
    pipe = tiny("sd15")
    meeting = meet(pipe)
    requests = requests_of("sd15", [(6, 0)] * 3)

    def draw(request: Request) -> Tensor:
        torch.manual_seed(request.seed)
        make(pipe, request, on_step=lambda _: torch.rand(1))
        return torch.rand(4)

    alone = [draw(request) for request in requests]

    def serve(request: Request) -> Tensor:
        with meeting.attend():
            return draw(request)

    with ThreadPoolExecutor(3) as pool:
        for drawn, expected in zip(pool.map(serve, requests), alone, strict=True):
            assert torch.equal(drawn, expected)


def test_a_request_that_fails_harms_no_other(tiny: Any, meet: Meet) -> None:
    pipe = tiny("sd15")
    requests = requests_of("sd15", [(8, 0), (8, 0), (8, 2)])
    alone = [make(pipe, request) for request in requests]
    requests[1].inputs["callback_on_step_end"] = lambda *_: 1 / 0
    together = make_together(meet(pipe), pipe, requests)
    assert isinstance(together[1], ZeroDivisionError)
    assert_equal(together[0], alone[0])
    assert_equal(together[2], alone[2])


def decode_with(pipe: Any, decode: Callable[[Callable[[], Any]], Any]) -> None:
    """Has `decode` called with what decodes, in its place."""
    forward = pipe.vae.decoder.forward
    pipe.vae.decoder.forward = lambda *args: decode(lambda: forward(*args))


def test_others_make_steps_while_a_picture_is_decoded(tiny: Any, meet: Meet) -> None:
    pipe = tiny("sd15")
    first, second = requests_of("sd15", [(5, 0), (9, 0)])
    first.inputs["output_type"] = "pt"
    alone = [make(pipe, request) for request in (first, second)]
    is_made = threading.Event()
    decode_with(pipe, lambda decode: decode() if is_made.wait(30) else None)
    meeting = meet(pipe)

    def serve(request: Request) -> Made:
        with meeting.attend():
            made = make(pipe, request)
        if request is second:
            is_made.set()
        return made

    with ThreadPoolExecutor(2) as pool:
        for made, expected in zip(pool.map(serve, (first, second)), alone, strict=True):
            assert_equal(made, expected)


def test_one_picture_is_decoded_at_a_time(tiny: Any, meet: Meet) -> None:
    pipe = tiny("sd15")
    requests = requests_of("sd15", [(4, 0)] * 4)
    for request in requests:
        request.inputs["output_type"] = "pt"
    alone = [make(pipe, request) for request in requests]
    free = threading.Lock()

    def decode_slowly(decode: Callable[[], Any]) -> Any:
        assert free.acquire(blocking=False)
        time.sleep(0.02)
        free.release()
        return decode()

    decode_with(pipe, decode_slowly)
    for made, expected in zip(make_together(meet(pipe), pipe, requests), alone, strict=True):
        assert_equal(made, expected)


def test_decoders_that_others_could_disturb_are_not_run_beside(tiny: Any) -> None:
    pipe = tiny("sd15")
    assert picture_decoders(pipe) == [pipe.vae.decoder]
    pipe.vae.half()  # cast to float32 for every decoding
    assert picture_decoders(pipe) == []
    assert picture_decoders(tiny("wan")) == []  # keeps frames between its calls
    assert picture_decoders(tiny("ddim")) == []


class Denoiser(nn.Module):
    """Stands in for a model: what it does with a batch is the test's choice."""

    def __init__(self, behaviour: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.behaviour = behaviour

    def forward(self, sample: Tensor, timestep: Tensor) -> tuple[Tensor]:
        time.sleep(0.005)  # a meeting's patience is a share of it
        scale = 1 + timestep.reshape(-1, *[1] * (sample.ndim - 1)) / 1000
        return (self.behaviour(sample) * scale,)


class Bare:
    """As much of a pipeline as a meeting looks at."""

    def __init__(self, denoiser: Denoiser) -> None:
        self.unet = denoiser
        self.components = {"unet": denoiser}


def call_together(meeting: Meeting, pipe: Bare, rounds: int = 8) -> list[list[Any]]:
    """What four requests get in so many rounds of calls each: values or exceptions."""

    def serve(index: int) -> list[Any]:
        got: list[Any] = []
        with meeting.attend():
            for turn in range(rounds):
                sample = torch.full((1, 3), float(index + 1))
                try:
                    got.append(pipe.unet(sample, torch.tensor(100 * index + turn))[0])
                except Exception as error:
                    got.append(error)
        return got

    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(serve, range(4)))


def expected_value(index: int, turn: int) -> Tensor:
    return torch.full((1, 3), (index + 1) * (1 + (100 * index + turn) / 1000))


def test_a_model_whose_rows_depend_on_one_another_is_not_batched(
    meet: Meet, caplog: pytest.LogCaptureFixture
) -> None:
    sizes: list[int] = []
    pipe = Bare(Denoiser(lambda sample: sample.mean(dim=0, keepdim=True).expand_as(sample)))
    got = call_together(meet(pipe, sizes=sizes), pipe)
    for index, values in enumerate(got):
        for turn, value in enumerate(values):
            torch.testing.assert_close(value, expected_value(index, turn))
    assert sizes.count(2) == 1  # the attempt
    assert max(sizes) == 2
    assert "can't be batched" in caplog.text


def test_a_call_that_fails_is_done_again_in_halves(
    meet: Meet, caplog: pytest.LogCaptureFixture
) -> None:
    def behaviour(sample: Tensor) -> Tensor:
        if len(sample) > 2:
            raise RuntimeError("out of memory")
        return sample

    sizes: list[int] = []
    pipe = Bare(Denoiser(behaviour))
    got = call_together(meet(pipe, sizes=sizes), pipe)
    for index, values in enumerate(got):
        for turn, value in enumerate(values):
            torch.testing.assert_close(value, expected_value(index, turn))
    assert max(sizes) > 2
    assert "out of memory" in caplog.text


def test_out_of_memory_makes_later_calls_smaller(meet: Meet) -> None:
    def behaviour(sample: Tensor) -> Tensor:
        if len(sample) > 2:
            raise torch.cuda.OutOfMemoryError("none left")
        return sample

    sizes: list[int] = []
    pipe = Bare(Denoiser(behaviour))
    call_together(meet(pipe, sizes=sizes), pipe, rounds=12)
    assert sum(size > 2 for size in sizes) == 1


def test_a_request_whose_values_are_not_finite_fails_alone(meet: Meet) -> None:
    pipe = Bare(Denoiser(lambda sample: torch.where(sample == 3, torch.nan, sample)))
    got = call_together(meet(pipe), pipe)
    assert all(isinstance(value, NotFiniteError) for value in got[2])
    for index in (0, 1, 3):
        for turn, value in enumerate(got[index]):
            torch.testing.assert_close(value, expected_value(index, turn))


def test_who_does_not_attend_is_not_met(tiny: Any, meet: Meet) -> None:
    sizes: list[int] = []
    pipe = tiny("sd15")
    request = requests_of("sd15", [(5, 0)])[0]
    expected = make(pipe, request)
    meet(pipe, sizes=sizes)
    made = make(pipe, request)
    assert torch.equal(made.sample, expected.sample)
    assert sizes == []


def test_a_closed_meeting_leaves_no_thread() -> None:
    before = threading.active_count()
    Meeting().close()
    assert threading.active_count() == before


def test_a_closed_meeting_leaves_the_modules_as_they_were(tiny: Any) -> None:
    pipe = tiny("sd15")
    classes = type(pipe.unet), type(pipe.vae.decoder)
    meeting = Meeting()
    meeting.invite(pipe)
    assert (type(pipe.unet), type(pipe.vae.decoder)) != classes
    meeting.close()
    assert (type(pipe.unet), type(pipe.vae.decoder)) == classes


def test_an_answer_that_can_not_be_taken_apart_is_not_handed_to_several() -> None:
    """An object with tensors in it would reach every call whole."""

    @dataclass
    class Answer:
        sample: Tensor

    calls = [Call((torch.ones(1, 2), 5), {}) for _ in range(2)]
    joined = split((torch.arange(4.0).view(2, 2),), calls)
    assert [part[0].tolist() for part in joined] == [[[0, 1]], [[2, 3]]]
    with pytest.raises(ValueError, match="holds tensors in a Answer"):
        split(Answer(torch.ones(2, 2)), calls)
