"""Keys tell pictures apart, and nothing else."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_diffusion.apps.batch import jobs as jobs_module
from adaptive_diffusion.apps.batch.jobs import Job, calls_of, key_of
from adaptive_diffusion.apps.batch.model import Model
from adaptive_diffusion.apps.loading import LoadOptions
from adaptive_diffusion.apps.weights import Lora
from adaptive_diffusion.policies import ErrorControlled, ThirdOrder

FLOAT32 = LoadOptions(dtype="float32")
JOB = Job("a red apple", seed=0, steps=50, policy=ErrorControlled())
MODEL = Model("emoji", "/models/emoji", "abc", FLOAT32)

OTHER_JOBS = {
    "prompt": "a red apple ",
    "seed": 1,
    "steps": 51,
    "policy": None,
    "negative_prompt": "",
    "guidance": 0.0,
    "size": (512, 512),
    "frames": 8,
    "control_image": str(Path(__file__).parents[3] / "docs/images/compare.png"),
}
OTHER_MODELS = {
    "fingerprint": replace(MODEL, fingerprint="abd"),
    "scheduler": replace(MODEL, options=LoadOptions(scheduler="ddim", dtype="float32")),
    "dtype": replace(MODEL, options=LoadOptions(dtype="float16")),
}
SAME_MODELS = [
    replace(MODEL, name="./emoji"),
    replace(MODEL, place="/elsewhere/emoji"),
    replace(MODEL, options=LoadOptions(device="cuda", dtype="float32", compiles=True)),
]


def test_all_fields_are_tried():
    assert {*vars(JOB)} == {*OTHER_JOBS}


def test_whatever_decides_the_picture_changes_the_key():
    jobs = [replace(JOB, **{field: value}) for field, value in OTHER_JOBS.items()]
    jobs += [replace(JOB, prompt=None), replace(JOB, prompt="")]
    jobs += [replace(JOB, policy=ErrorControlled(0.03)), replace(JOB, policy=ThirdOrder())]
    jobs += [replace(JOB, policy=ErrorControlled(max_skip=5)), replace(JOB, size=(512, 513))]
    found = {key_of(job, MODEL) for job in [JOB, *jobs]}
    found |= {key_of(JOB, other) for other in OTHER_MODELS.values()}
    assert len(found) == 1 + len(jobs) + len(OTHER_MODELS)


def test_where_it_is_made_does_not():
    assert {key_of(JOB, other) for other in SAME_MODELS} == {key_of(JOB, MODEL)}


def test_a_control_image_counts_by_its_content(tmp_path):
    keys = []
    for name, content in (("a", b"1"), ("b", b"1"), ("a", b"2")):
        (tmp_path / name).write_bytes(content)
        keys.append(key_of(replace(JOB, control_image=str(tmp_path / name)), MODEL))
    assert keys[0] != keys[2]


def test_what_is_added_to_a_model_counts_by_its_content(model, tmp_path):
    def fingerprint(**options):
        return Model.choose(str(model), LoadOptions(dtype="float32", **options)).fingerprint

    for name, content in (("a", b"1"), ("b", b"1"), ("c", b"2")):
        (tmp_path / f"{name}.safetensors").write_bytes(content)
    a, b, c = (Lora(str(tmp_path / f"{name}.safetensors")) for name in "abc")
    assert fingerprint(loras=(a,)) == fingerprint(loras=(b,))
    others = [(), (a,), (c,), (a, c), (c, a), (replace(a, scale=0.5),)]
    assert len({fingerprint(loras=each) for each in others}) == len(others)
    net = tmp_path / "net"
    net.mkdir()
    found = []
    for content in ("{}", '{"a": 1}'):
        (net / "config.json").write_text(content)
        found.append(fingerprint(controlnet=str(net)))
    assert len({fingerprint(), *found}) == 3


@pytest.mark.parametrize(
    ("package", "counts"),
    [("adaptive_diffusion", True), ("diffusers", True), ("torch", False), ("python", False)],
)
def test_versions_that_count(monkeypatch, package, counts):
    before = key_of(JOB, MODEL)
    newer = jobs_module.versions() | {package: "99"}
    monkeypatch.setattr(jobs_module, "versions", lambda: newer)
    assert (key_of(JOB, MODEL) != before) == counts


def test_a_model_is_known_by_its_files(model, tmp_path):
    def fingerprint(folder):
        return Model.choose(str(folder), FLOAT32).fingerprint

    before = fingerprint(model)
    copy = shutil.copytree(model, tmp_path / "copy")
    (copy / "README.md").write_text("no part of the pipeline")
    assert fingerprint(copy) == before

    weights = next(copy.glob("unet/*.safetensors"))
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert fingerprint(copy) != before


def test_a_hub_model_is_known_by_its_commit(model, tmp_path, monkeypatch):
    """And loaded at that commit, whatever the branch has become by then."""
    cache = tmp_path / "hub"
    repository = cache / "models--someone--tiny"
    commits = ["a" * 40, "b" * 40]
    for commit in commits:
        shutil.copytree(model, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    for constants in ("huggingface_hub.constants", "huggingface_hub.file_download.constants"):
        monkeypatch.setattr(f"{constants}.HF_HUB_CACHE", str(cache))

    chosen = []
    for commit in commits:
        (repository / "refs" / "main").write_text(commit)
        chosen.append(Model.choose("someone/tiny", FLOAT32))
    assert [each.fingerprint for each in chosen] == [f"someone/tiny@{each}" for each in commits]
    assert [each.options.revision for each in chosen] == commits
    of_branch = Model.choose("someone/tiny", replace(FLOAT32, revision="a" * 40))
    assert of_branch.fingerprint == f"someone/tiny@{'a' * 40}"


def test_a_hub_model_that_is_not_to_be_had():
    with pytest.raises(ValueError, match="the hub gave no such model"):
        Model.choose("no-one/nothing", FLOAT32)


settings_of_jobs = st.tuples(st.sampled_from([4, 8]), st.sampled_from([None, "", "blurred"]))


@given(st.lists(settings_of_jobs, max_size=20), st.integers(1, 5), st.data())
def test_calls_hold_every_missing_job_once_with_its_likes(given_settings, size, data):
    jobs = {
        f"key{index}": Job(f"{index}", 0, steps, None, negative)
        for index, (steps, negative) in enumerate(given_settings)
    }
    made = data.draw(st.sets(st.sampled_from(sorted(jobs)))) if jobs else set()
    calls = calls_of(jobs, size, made)

    listed = [key for call in calls for key in call]
    assert sorted(listed) == sorted(jobs.keys() - made)
    for call in calls:
        assert 1 <= len(call) <= size
        assert all(jobs[key] is job for key, job in call.items())
        assert len({(job.settings, job.negative_prompt is None) for job in call.values()}) == 1
    whole = calls_of(jobs, size, set())  # what is made already moves no other job
    for call in calls:
        assert any(call.items() <= other.items() for other in whole)
