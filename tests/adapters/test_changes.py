"""A value that has rested and changes is noticed; one that moves with the loop is not."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from adaptive_diffusion.adapters import changes as changes_module
from adaptive_diffusion.adapters.changes import Arguments, Attributes

STEPS = 10


def changes(values: Callable[[int], Any]) -> list[int]:
    """At which steps a change is noticed, of an argument that has these values."""
    arguments = Arguments()
    return [step for step in range(STEPS) if arguments.have_changed((), {"value": values(step)})]


def embedding(seed: int) -> Tensor:
    return torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(seed))


@given(at=st.integers(3, STEPS - 1))
def test_a_new_prompt_is_noticed_where_it_begins(at: int) -> None:
    first, second = embedding(0), embedding(1)
    assert changes(lambda step: first if step < at else second) == [at]


@given(at=st.integers(3, STEPS - 1))
def test_so_is_one_that_is_put_together_anew_at_every_step(at: int) -> None:
    assert changes(lambda step: embedding(int(step >= at))) == [at]


@given(first=st.integers(2, 5), rest=st.integers(2, 4))
def test_so_is_the_one_after_it(first: int, rest: int) -> None:
    """A prompt that has changed once is no moving value."""
    second = first + rest
    assert changes(lambda step: embedding((step >= first) + (step >= second))) == [first, second]


@given(at=st.integers(3, STEPS - 1))
def test_so_is_one_that_is_written_over(at: int) -> None:
    prompt = embedding(0)

    def value(step: int) -> Tensor:
        return prompt.copy_(embedding(1)) if step == at else prompt

    assert changes(value) == [at]


@given(at=st.integers(3, STEPS - 1))
def test_so_is_one_that_is_copied_into_the_same_buffer_at_every_step(at: int) -> None:
    """As those do who use CUDA graphs."""
    buffer = embedding(0)
    assert changes(lambda step: buffer.copy_(embedding(int(step >= at)))) == [at]


@given(at=st.integers(3, STEPS - 1), computed=st.sets(st.integers(1, STEPS)))
def test_so_is_one_that_is_copied_into_a_buffer_while_steps_are_skipped(
    at: int, computed: set[int]
) -> None:
    """That it was written over at the second step does not mean that it moved."""
    buffer, arguments, noticed = embedding(0), Arguments(), []
    for step in range(STEPS):
        buffer.copy_(embedding(int(step >= at)))
        after_skip = step > 1 and step - 1 not in computed
        if arguments.have_changed((), {"value": buffer}, after_skip):
            noticed.append(step)
            computed = computed | {step}
    assert noticed == [at]


@given(at=st.integers(3, STEPS - 1))
def test_so_is_one_that_is_written_over_in_inference_mode(at: int) -> None:
    """Where tensors do not count how often they are written into."""
    with torch.inference_mode():
        prompt = embedding(0)

        def value(step: int) -> Tensor:
            return prompt.copy_(embedding(1)) if step == at else prompt

        assert changes(value) == [at]


@given(at=st.integers(3, STEPS - 1), old=st.floats(0, 1), new=st.floats(2, 3))
def test_so_is_a_number(at: int, old: float, new: float) -> None:
    assert changes(lambda step: new if step >= at else old) == [at]


ARRAYS: dict[str, Callable[[Tensor], Any]] = {
    "with rows": lambda tensor: tensor.numpy(),
    "of numbers": lambda tensor: tensor[0, 0].numpy(),
    "a number of NumPy's": lambda tensor: tensor[0, 0, 0].numpy()[()],
}


@pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS)
@pytest.mark.parametrize("in_place", [False, True], ids=["made anew", "in place"])
@given(at=st.integers(4, STEPS - 1))
def test_so_is_an_array(array: Callable[[Tensor], Any], in_place: bool, at: int) -> None:
    buffer = embedding(0)

    def value(step: int) -> Any:
        prompt = embedding(int(step >= at))
        return array(buffer.copy_(prompt) if in_place else prompt)

    assert changes(value) == [at]


def test_views_of_the_same_numbers_are_the_same() -> None:
    prompts = embedding(0)
    assert changes(lambda step: prompts[:1]) == []


def test_on_a_device_it_is_noticed_when_the_answer_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Values are compared there, and nothing is waited for on the way."""
    monkeypatch.setattr(changes_module, "_can_be_read", lambda tensor: False)
    arguments, reads = Arguments(), []
    for step in range(STEPS):
        with monkeypatch.context() as patch:
            if step > 1:
                patch.setattr(torch, "equal", lambda *_: 1 / 0)
            assert not arguments.have_changed((), {"prompt": embedding(int(step >= 6))})
        reads.append(arguments.have_changed_meanwhile())
    assert reads == [step == 6 for step in range(STEPS)]


MOVING: dict[str, Callable[[int], Any]] = {
    "a timestep": lambda step: torch.tensor(1000 - step),
    "a number": lambda step: 1 - step / STEPS,
    "a timestep for every row": lambda step: torch.full((2,), 1000.0 - step),
    "timesteps that come twice": lambda step: float((step + 1) // 2),
    "timesteps that come twice, in tensors": lambda step: torch.tensor((step + 1) // 2),
    "a timestep in an array": lambda step: torch.tensor([1000 - step]).numpy(),
    "the sample": embedding,
    "the sample in an array": lambda step: embedding(step).numpy(),
    "a ControlNet's residuals": lambda step: [embedding(step), embedding(100 + step)],
    "a guidance that grows": lambda step: 1.0 + step,
}


@pytest.mark.parametrize("values", MOVING.values(), ids=MOVING)
def test_what_moves_from_step_to_step_is_no_change(values: Callable[[int], Any]) -> None:
    assert changes(values) == []


@pytest.mark.parametrize("in_place", [False, True], ids=["made anew", "in place"])
@given(computed=st.sets(st.integers(2, STEPS)))
def test_what_follows_the_outputs_rests_while_they_do(in_place: bool, computed: set[int]) -> None:
    """Self-conditioning: the last output is an argument, and the same one after a skip."""
    buffer, arguments = embedding(0), Arguments()
    output, is_skipped = embedding(0), False
    for step in range(STEPS):
        value = buffer.copy_(output) if in_place else output.clone()
        assert not arguments.have_changed((), {"value": value}, is_skipped)
        is_skipped = step > 1 and step not in computed
        output = output if is_skipped else embedding(step + 1)


def test_what_comes_and_goes_is_a_change() -> None:
    assert changes(lambda step: embedding(0) if 4 <= step < 7 else None) == [4, 7]


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(2, 2))
        self.scale = 1.0
        self.scaling = {"style": 1.0}
        self.calls = 0


def attribute_changes(change: Callable[[Any, int], None], at: int) -> list[int]:
    module, pipeline = Scaled(), SimpleNamespace(guidance=3.0, settings={"scale": 1.0})
    attributes = Attributes([pipeline, module])
    found = []
    for step in range(STEPS):
        if step == at:
            change(SimpleNamespace(module=module, pipeline=pipeline), step)
        if attributes.have_changed():
            found.append(step)
    return found


def _set(path: str, value: Any) -> Callable[[Any, int], None]:
    *way, name = path.split(".")

    def change(parts: Any, _: int) -> None:
        for each in way:
            parts = parts[each] if isinstance(parts, dict) else getattr(parts, each)
        parts.update({name: value}) if isinstance(parts, dict) else setattr(parts, name, value)

    return change


CHANGES: dict[str, Callable[[Any, int], None]] = {
    "the pipeline's guidance": _set("pipeline.guidance", 7.0),
    "an entry of its settings": _set("pipeline.settings.scale", 0.5),
    "a new attribute": _set("pipeline.more", 1.0),
    "a module's scale": _set("module.scale", 0.5),
    "an adapter's weight": _set("module.scaling.style", 0.5),
    "one adapter more": _set("module.scaling.other", 0.5),
    "weights": lambda parts, _: parts.module.inner[0].weight.detach().mul_(2),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_changed_attribute_is_noticed(change: Callable[[Any, int], None]) -> None:
    assert attribute_changes(change, at=5) == [5]


def test_what_a_module_changes_during_its_call_is_no_change() -> None:
    module = Scaled()
    attributes = Attributes([module])
    for step in range(STEPS):
        assert not attributes.have_changed()
        if step in (4, 8):
            module.scale += 1.0
            attributes.note()
