"""Keys tell pictures apart, and nothing else."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_diffusion.apps.batch import jobs as jobs_module
from adaptive_diffusion.apps.batch.jobs import Job, calls_of, key_of
from adaptive_diffusion.apps.batch.model import Model
from adaptive_diffusion.policies import ErrorControlled, ThirdOrder

JOB = Job("a red apple", seed=0, steps=50, policy=ErrorControlled())
MODEL = Model("emoji", "/models/emoji", None, "abc", None, None, "float32")

OTHER_JOBS = {
    "prompt": "a red apple ",
    "seed": 1,
    "steps": 51,
    "policy": None,
    "negative_prompt": "",
    "guidance": 0.0,
    "size": (512, 512),
}
OTHER_MODELS = {"fingerprint": "abd", "scheduler": "ddim", "dtype": "float16"}
SAME_MODELS = {"name": "./emoji", "place": "/elsewhere/emoji", "device": "cuda"}


def test_all_fields_are_tried():
    assert {*vars(JOB)} == {*OTHER_JOBS}
    assert {*vars(MODEL)} == {*OTHER_MODELS, *SAME_MODELS, "revision"}  # which the fingerprint has


def test_whatever_decides_the_picture_changes_the_key():
    jobs = [replace(JOB, **{field: value}) for field, value in OTHER_JOBS.items()]
    jobs += [replace(JOB, prompt=None), replace(JOB, prompt="")]
    jobs += [replace(JOB, policy=ErrorControlled(0.03)), replace(JOB, policy=ThirdOrder())]
    jobs += [replace(JOB, policy=ErrorControlled(max_skip=5)), replace(JOB, size=(512, 513))]
    found = {key_of(job, MODEL) for job in [JOB, *jobs]}
    found |= {key_of(JOB, replace(MODEL, **{key: value})) for key, value in OTHER_MODELS.items()}
    assert len(found) == 1 + len(jobs) + len(OTHER_MODELS)


def test_where_it_is_made_does_not():
    for field, value in SAME_MODELS.items():
        assert key_of(JOB, replace(MODEL, **{field: value})) == key_of(JOB, MODEL)


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
        return Model.choose(str(folder), None, None, "float32").fingerprint

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
        chosen.append(Model.choose("someone/tiny", None, None, "float32"))
    assert [each.fingerprint for each in chosen] == [f"someone/tiny@{each}" for each in commits]
    assert [each.revision for each in chosen] == commits


def test_a_hub_model_that_is_not_to_be_had():
    with pytest.raises(ValueError, match="the hub gave no such model"):
        Model.choose("no-one/nothing", None, None, "float32")


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
