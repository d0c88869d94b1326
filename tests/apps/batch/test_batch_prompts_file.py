"""PROMPTS.jsonl: what is read is what was written, and what can't be is refused by its line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adaptive_diffusion.apps.batch.prompts_file import Defaults, Line, read_lines
from adaptive_diffusion.apps.choice import Choice, choose
from adaptive_diffusion.apps.inputs import PolicyName
from adaptive_diffusion.policies import ErrorControlled, Planned

DEFAULTS = Defaults(
    seed=7,
    steps=50,
    guidance=3.0,
    size=None,
    choose=lambda tolerance, nfe: choose(tolerance=tolerance, nfe=nfe),
)
in_one_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])

texts = st.text(st.characters(exclude_categories=["Cs"]))
sides = st.integers(1, 4096)
objects = st.fixed_dictionaries(
    {},
    optional={
        "prompt": texts,
        "negative_prompt": texts,
        "seed": st.integers(0, 2**63 - 1),
        "steps": st.integers(1, 1000),
        "guidance": st.floats(0, 1e6),
        "tolerance": st.floats(0, 10),
        "id": texts | st.integers(),
        "size": st.tuples(sides, sides),
    },
)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
keys = st.sampled_from(
    ["prompt", "negative_prompt", "seed", "steps", "guidance", "width", "height", "tolerance", "id"]
)


def read(folder: Path, *lines: str | bytes) -> list[Line]:
    file = folder / "prompts.jsonl"
    file.write_bytes(
        b"\n".join(line if isinstance(line, bytes) else line.encode() for line in lines)
    )
    return read_lines(file, DEFAULTS)


@in_one_folder
@given(given_lines=st.lists(objects, min_size=1, max_size=4), plain=st.booleans())
def test_lines_are_read_as_they_were_written(tmp_path, given_lines, plain):
    written = [
        {key: value for key, value in entry.items() if key != "size"}
        | (dict(zip(("width", "height"), entry["size"], strict=True)) if "size" in entry else {})
        for entry in given_lines
    ]
    lines = read(tmp_path, *(json.dumps(entry, ensure_ascii=plain) for entry in written))

    assert [line.number for line in lines] == list(range(1, len(lines) + 1))
    for line, entry in zip(lines, given_lines, strict=True):
        job = line.job
        assert line.id == entry.get("id")
        assert job.prompt == entry.get("prompt")
        assert job.negative_prompt == entry.get("negative_prompt")
        assert job.seed == entry.get("seed", 7)
        assert job.steps == entry.get("steps", 50)
        assert job.guidance == entry.get("guidance", 3.0)
        assert job.size == entry.get("size")
        assert job.choice == Choice(ErrorControlled(entry.get("tolerance", 0.02)))


@settings(in_one_folder, max_examples=200)
@given(
    line=st.binary()
    | st.text(st.characters(exclude_categories=["Cs"]))
    | anything.map(json.dumps)
    | st.dictionaries(keys | st.text(max_size=3), anything, max_size=3).map(json.dumps)
)
def test_whatever_a_line_holds_it_is_read_or_refused_by_its_number(tmp_path, line):
    line = (line if isinstance(line, bytes) else line.encode()).replace(b"\n", b" ")
    refusal = None
    try:
        lines = read(tmp_path, '{"prompt": "x"}', "", line, '{"prompt": "y"}')
    except ValueError as error:
        refusal = str(error)
    if refusal is not None:
        place, _, reason = refusal.partition(", line 3: ")
        assert (place, bool(reason)) == (str(tmp_path / "prompts.jsonl"), True)
        return
    assert len(lines) == (3 if line.strip() else 2)
    for each in lines:
        (each.job.prompt or "").encode()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"promt": "x"}', "unknown key 'promt': choose from prompt, negative_prompt, seed"),
        ('{"prompt": "x", "prompt": "y"}', "given twice"),
        ('{"prompt": "x"', "not JSON"),
        ('["x"]', "not a JSON object"),
        ("a red apple", "not JSON"),
        (b'{"prompt": "\xff"}', "utf-8"),
        (r'{"prompt": "\ud800"}', "prompt has half of a surrogate pair"),
        (r'{"id": "\udfff"}', "id has half of a surrogate pair"),
        ('{"prompt": 3}', "prompt must be a text, not 3"),
        ('{"seed": -1}', "seed must be a whole number from 0"),
        ('{"seed": 1.5}', "seed must be a whole number"),
        ('{"seed": true}', "seed must be a whole number"),
        ('{"seed": 9223372036854775808}', "seed must be a whole number from 0 below 2^63"),
        ('{"steps": 0}', "steps must be a whole number from 1"),
        ('{"guidance": 1e999}', "guidance must be a finite number"),
        ('{"guidance": 1' + 400 * "0" + "}", "guidance is too large"),
        ('{"guidance": NaN}', "guidance must be a finite number"),
        ('{"tolerance": -0.1}', "tolerance must be a finite number from 0"),
        ('{"nfe": 1}', "nfe must be a whole number from 2"),
        ('{"nfe": 7.5}', "nfe must be a whole number from 2"),
        ('{"nfe": 7, "tolerance": 0.1}', "give --nfe alone or with --profile, not with"),
        ('{"width": 512}', "give width and height, or neither"),
        ('{"width": 512, "height": 0}', "height must be a whole number from 1"),
        ('{"id": [1]}', "id must be a text or a whole number"),
        (100_000 * "[", "line 2: "),
        ('{"seed": 1' + 5000 * "0" + "}", "line 2: "),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_wrong_with_a_line_is_said(tmp_path, line, words):
    with pytest.raises(ValueError, match=r"line 2: ") as caught:
        read(tmp_path, '{"prompt": "x"}', line)
    assert words in str(caught.value)


def test_null_is_as_good_as_nothing(tmp_path):
    [with_null, without] = read(
        tmp_path, '{"prompt": "x", "seed": null, "id": null}', '{"prompt":"x"}'
    )
    assert with_null.job == without.job


def test_lines_end_where_json_lines_end(tmp_path):
    [line] = read(tmp_path, b'\xef\xbb\xbf{"prompt": "a\xe2\x80\xa8b"}\r', b"  \r")
    assert line.job.prompt == "a\u2028b"


@pytest.mark.parametrize("content", [b"", b"\n \n"])
def test_a_file_without_lines(tmp_path, content):
    with pytest.raises(ValueError, match="has no prompts"):
        read(tmp_path, content)


def test_options_fill_in_what_a_line_does_not_say(tmp_path):
    file = tmp_path / "prompts.jsonl"
    file.write_text('{"prompt": "x"}\n{"prompt": "x", "negative_prompt": ""}')
    defaults = replace(DEFAULTS, negative_prompt="blurred", frames=8)
    jobs = [line.job for line in read_lines(file, defaults)]
    assert [job.negative_prompt for job in jobs] == ["blurred", ""]
    assert {job.frames for job in jobs} == {8}


def test_a_control_picture_that_can_not_be_read(tmp_path):
    with pytest.raises(ValueError, match=r"line 1: --control-image nowhere\.png can't be read"):
        read(tmp_path, b'{"control_image": "nowhere.png"}')


def test_a_line_may_have_its_own_number_of_calls(tmp_path):
    [line] = read(tmp_path, '{"nfe": 7}')
    assert line.job.choice == Choice(Planned(7))


def test_a_tolerance_for_a_policy_that_has_none(tmp_path):
    file = tmp_path / "prompts.jsonl"
    file.write_text('{"tolerance": 0.1}')
    defaults = replace(DEFAULTS, choose=lambda own, _: choose(PolicyName.NONE, tolerance=own))
    with pytest.raises(ValueError, match="line 1: --tolerance does not go with --policy none"):
        read_lines(file, defaults)
