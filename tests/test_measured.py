"""What a profile keeps of a measurement, as JSON and back."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_statistics import statistics_on

from adaptive_diffusion import NoiseSchedule, ProfileError
from adaptive_diffusion.evidence import Evidence
from adaptive_diffusion.measured import FoundPlan, Measured
from adaptive_diffusion.policies import Planned

EVIDENCE = Evidence(8, 8, 52.31, 41.5, 39.25, 0.9991, 0.9978, 5, 3.205)
LOOP = tuple(statistics_on(NoiseSchedule.uniform(12), length) for length in (0.2, 0.5))
PLANS = (
    FoundPlan(3, (0, 6, 11), 1e-2),
    FoundPlan(5, (0, 1, 5, 8, 11), 1e-4, EVIDENCE),
    FoundPlan(8, (), 1e-3),
)
MEASURED = Measured((LOOP, LOOP[:1]), 7.5, "float16", PLANS)


def as_json(measured: Measured = MEASURED) -> Any:
    return json.loads(json.dumps(measured.to_json(), allow_nan=False))


@given(st.none() | st.floats(0, 100), st.integers(2, 30), st.floats(1e-6, 1))
def test_what_is_written_is_read(guidance: float | None, steps: int, nugget: float) -> None:
    """To the last bit, whatever the length of the loop."""
    stream = statistics_on(NoiseSchedule.uniform(steps), nugget=nugget)
    measured = Measured(((stream,),), guidance, "bfloat16", PLANS)
    assert Measured.from_json(as_json(measured)) == measured
    assert Measured.from_json(as_json()) == MEASURED


def test_fifty_steps_stay_below_a_megabyte() -> None:
    stream = statistics_on(NoiseSchedule.uniform(50))
    assert len(json.dumps(Measured(((stream,),), 7.5, "float16").to_json())) < 100_000


def test_a_plan_comes_with_its_nugget() -> None:
    policy = MEASURED.policy(5)
    assert policy == Planned(5, MEASURED.with_nugget(1e-4), ((0, 1, 5, 8, 11),))
    assert {stream.nugget for loop in policy.loops for stream in loop} == {1e-4}


@pytest.mark.parametrize(("nfe", "nugget"), [(2, 1e-2), (6, 1e-4), (7, 1e-3), (11, 1e-3)])
def test_another_number_of_calls_takes_the_nearest_plans_nugget(nfe: int, nugget: float) -> None:
    assert MEASURED.policy(nfe) == Planned(nfe, MEASURED.with_nugget(nugget))
    without = replace(MEASURED, plans=())
    assert without.policy(nfe) == Planned(nfe, MEASURED.loops)


def damaged(path: str, value: Any) -> Any:
    """The JSON with something else at `path`; without it, where the value is `...`."""
    found = as_json()
    *way, name = [int(key) if key.isdigit() else key for key in path.split(".")]
    inside = found
    for key in way:
        inside = inside[key]
    if value is ...:
        del inside[name]
    else:
        inside[name] = value
    return found


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("version", 2),
        ("version", ...),
        ("loops", []),
        ("loops", 3),
        ("loops.0", []),
        ("loops.0.0.kernel", ...),
        ("loops.0.0.kernel.3", float("nan")),
        ("loops.0.0.kernel.3", "1"),
        ("loops.0.0.kernel.3", ...),
        ("loops.0.0.kernel", 1.0),
        ("loops.0.0.coordinates.3", 0),
        ("loops.0.0.coordinates", [0.0]),
        ("loops.0.0.coordinates", "123"),
        ("loops.0.0.effects.3", None),
        ("loops.0.0.effects.3", True),
        ("loops.0.0.effects", ...),
        ("loops.0.0.nugget", [1e-4] * 12),
        ("loops.0.0.nugget", float("inf")),
        ("loops.0.0", 7),
        ("guidance", "high"),
        ("guidance", ...),
        ("plans", None),
        ("plans.0.nfe", 2),
        ("plans.0.nfe", 1e999),
        ("plans.0.steps", [0, 11, 6]),
        ("plans.0.steps", [1, 6, 11]),
        ("plans.0.steps", [0, 6.5, 11]),
        ("plans.0.steps", [0, 6, 6]),
        ("plans.0.steps", 3),
        ("plans.1.evidence", {"nfe": 3}),
        ("plans.1.evidence", 3),
    ],
)
def test_what_is_damaged_is_refused(path: str, value: Any) -> None:
    with pytest.raises(ProfileError, match=r"calibrate again|must be|evidence lacks"):
        Measured.from_json(damaged(path, value))


def test_streams_of_one_loop_have_the_same_steps() -> None:
    other = statistics_on(NoiseSchedule.uniform(9))
    with pytest.raises(ProfileError, match="differ in their steps"):
        Measured.from_json(as_json(replace(MEASURED, loops=((LOOP[0], other),))))


anything = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=10,
)


@given(anything)
def test_nothing_else_is_taken_for_one(found: Any) -> None:
    with pytest.raises(ProfileError):
        Measured.from_json(found)


@given(st.data(), anything)
def test_a_damaged_file_is_refused_or_usable(data: st.DataObject, value: Any) -> None:
    """Anything in the place of anything."""
    path, inside = [], as_json()
    while isinstance(inside, dict | list) and inside and (not path or data.draw(st.booleans())):
        keys = [*inside] if isinstance(inside, dict) else [*range(len(inside))]
        path.append(data.draw(st.sampled_from(keys)))
        inside = inside[path[-1]]
    try:
        measured = Measured.from_json(damaged(".".join(map(str, path)), value))
    except ProfileError:
        return
    assert isinstance(measured.policy(5), Planned)
    assert isinstance(hash(measured.policy(5)), int)
