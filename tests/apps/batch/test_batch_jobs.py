"""Keys tell pictures apart, and nothing else."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from profiles import measured_profile

from adaptive_diffusion.apps.batch import jobs as jobs_module
from adaptive_diffusion.apps.batch.jobs import Job, calls_of, key_of
from adaptive_diffusion.apps.batch.model import Model
from adaptive_diffusion.apps.choice import Choice, choose
from adaptive_diffusion.apps.loading import LoadOptions
from adaptive_diffusion.apps.profiles import Source
from adaptive_diffusion.apps.weights import Lora
from adaptive_diffusion.policies import ErrorControlled, ThirdOrder

FLOAT32 = LoadOptions(dtype="float32")
JOB = Job("a red apple", seed=0, steps=50, choice=choose())
PROFILES = (measured_profile(), measured_profile(seed=1))
MODEL = Model("emoji", "/models/emoji", "abc", FLOAT32)

OTHER_JOBS = {
    "prompt": "a red apple ",
    "seed": 1,
    "steps": 51,
    "choice": Choice(None),
    "negative_prompt": "",
    "guidance": 0.0,
    "size": (512, 512),
    "frames": 8,
    "learns": "a lesson",
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
    assert {*vars(JOB)} == {*OTHER_JOBS, "teaches"}


def test_whatever_decides_the_picture_changes_the_key():
    jobs = [replace(JOB, **{field: value}) for field, value in OTHER_JOBS.items()]
    jobs += [replace(JOB, prompt=None), replace(JOB, prompt="")]
    policies = [ErrorControlled(0.03), ErrorControlled(max_skip=5), ThirdOrder()]
    choices = [Choice(policy) for policy in policies]
    sources = [None, Source("some", PROFILES[:1]), Source("some", PROFILES)]
    choices += [choose(nfe=nfe, profiles=each) for nfe in (7, 8) for each in sources]
    jobs += [replace(JOB, choice=choice) for choice in choices]
    jobs += [replace(JOB, size=(512, 513))]
    found = {key_of(job, MODEL) for job in [JOB, *jobs]}
    found |= {key_of(JOB, other) for other in OTHER_MODELS.values()}
    assert len(found) == 1 + len(jobs) + len(OTHER_MODELS)


def test_a_picture_that_teaches_is_a_full_run():
    teacher = replace(JOB, choice=choose(nfe=7), teaches="a lesson")
    in_full = replace(JOB, choice=Choice(None))
    assert key_of(teacher, MODEL) == key_of(in_full, MODEL)
    assert teacher.without_lesson == in_full
    assert JOB.without_lesson is JOB


@pytest.mark.parametrize(
    ("choice", "key"),
    [
        (choose(), "5aea7554910a15200755914aedd1f389"),
        (choose(tolerance=0.03), "78e8660fba84c9fde1a1043f28f8c4c3"),
        (Choice(ThirdOrder()), "79a2c7229f3489589e62c285b11a80c7"),
        (Choice(None), "f9b6e88970cee267445a5c13bfd5c676"),
    ],
)
def test_keys_are_those_from_before_there_were_plans(monkeypatch, choice, key):
    """So that a run that was begun then can be continued."""
    monkeypatch.setattr(
        jobs_module, "versions", lambda: {"adaptive_diffusion": "0.1.0", "diffusers": "0.42.1"}
    )
    assert key_of(replace(JOB, choice=choice), MODEL) == key


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
        f"key{index}": Job(f"{index}", 0, steps, Choice(None), negative)
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
