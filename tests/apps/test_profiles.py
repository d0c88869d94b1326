"""Profiles for the apps: where they are looked for, and which of them a call gets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from profiles import measured_profile
from tiny_pipelines import TINY_PIPELINES

from adaptive_diffusion import Profile, ProfileError
from adaptive_diffusion.apps.profiles import Profiles, Source, fingerprint
from adaptive_diffusion.identity import describe_model, describe_scheduler
from adaptive_diffusion.miniatures import miniatures
from adaptive_diffusion.published import FILE

PROFILE = measured_profile()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model's folder with two profiles."""
    folder = tmp_path / "model"
    folder.mkdir()
    for steps in (8, 30):
        replace(PROFILE, steps=(steps, steps)).publish(folder)
    return folder


@pytest.fixture
def pipe() -> Any:
    return TINY_PIPELINES["sd15"].make()


def fitting(pipe: Any, steps: int = 8, guidance: float = 3.0) -> Profile:
    assert PROFILE.measured is not None
    return replace(
        PROFILE,
        model=describe_model(pipe),
        scheduler=describe_scheduler(pipe),
        steps=(steps, steps),
        measured=replace(PROFILE.measured, guidance=guidance),
    )


def named(text: str, model: str = "sd15", **more: Any) -> Source | None:
    return Profiles.of_options([model], [text], **more).of(model)


# Where they are from ---------------------------------------------------------------------------


def test_a_file_with_one_profile_or_several(folder: Path, tmp_path: Path) -> None:
    PROFILE.save(tmp_path / "profile.json")
    for file, count in ((tmp_path / "profile.json", 1), (folder / FILE, 2)):
        found = named(str(file))
        assert found is not None
        assert (found.place, found.named, len(found.profiles)) == (str(file), True, count)


def test_a_folder_and_a_miniature(folder: Path) -> None:
    for text, count in ((str(folder), 2), ("emoji", 2), ("digits", 1)):
        found = named(text)
        assert found is not None
        assert (found.place, found.named, len(found.profiles)) == (text, True, count)


def test_a_hub_id(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def download(repository: str, file: str, **more: Any) -> str:
        asked.append((repository, file, more))
        return str(folder / FILE)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    for text, model in (("owner/name", "sd15"), ("model", "owner/name")):
        found = named(text, model, revision="v2")
        assert found is not None
        assert (found.place, len(found.profiles)) == ("owner/name", 2)
    # the revision is the model's
    assert asked == [("owner/name", FILE, {}), ("owner/name", FILE, {"revision": "v2"})]


def test_that_of_the_model_is_named_by_a_word(folder: Path) -> None:
    found = named("model", str(folder))
    assert found is not None
    assert (found.place, found.named, len(found.profiles)) == (str(folder), True, 2)
    assert named("none", str(folder)) is None
    for word, count in (("model", 1), ("none", 0)):  # for all models
        profiles = Profiles.of_options(["emoji", "digits"], [word])
        sources = [profiles.of(name) for name in ("emoji", "digits")]
        assert [source.place for source in sources if source] == ["emoji", "digits"][: 2 * count]


def test_what_was_published_with_a_model_is_found_unasked(folder: Path, model: Path) -> None:
    found = Profiles().of(str(folder))
    assert found is not None
    assert (found.place, found.named, len(found.profiles)) == (str(folder), False, 2)
    assert Profiles().of(str(model)) is None


def test_what_is_named_comes_first(folder: Path, tmp_path: Path) -> None:
    PROFILE.save(tmp_path / "profile.json")
    found = named(str(tmp_path / "profile.json"), str(folder))
    assert found is not None
    assert found.profiles == (PROFILE,)


def test_what_can_not_be_read_is_no_error_unless_it_was_named(folder: Path) -> None:
    """It may be of a later version."""
    (folder / FILE).write_text('{"profiles": [{"new": 1}]}')
    found = Profiles().of(str(folder))
    assert found is not None
    assert found.profiles == ()
    assert "can't be used" in found.problem
    for text in ("model", str(folder), str(folder / FILE)):
        with pytest.raises(ProfileError, match="can't be used"):
            named(text, str(folder))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nowhere.json", r"profile nowhere\.json can't be read"),
        ("some/nowhere.json", r"profile some/nowhere\.json can't be read"),
        ("owner/name", f"no {FILE} found for 'owner/name'"),
        ("model", f"no {FILE} in "),
        (str(Path(__file__).parent), f"no {FILE} in "),
    ],
)
def test_what_is_named_and_not_there(
    model: Path, monkeypatch: pytest.MonkeyPatch, text: str, words: str
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ProfileError, match=words):
        named(text, str(model))


def test_it_has_to_be_said_whose_it_is() -> None:
    text = str(miniatures()["emoji"])
    profiles = Profiles.of_options(["emoji", "digits"], [f"digits={text}"])
    for name, place, is_named in (("digits", text, True), ("emoji", "emoji", False)):
        source = profiles.of(name)
        assert source is not None
        assert (source.place, source.named) == (place, is_named)
    with pytest.raises(ValueError, match=f"say of which model, as emoji={text}"):
        Profiles.of_options(["emoji", "digits"], [text])
    for given in (["emoji=a", "emoji=b"], ["emoji=a", "none"]):
        with pytest.raises(ValueError, match="--profile is given twice for emoji"):
            Profiles.of_options(["emoji", "digits"], given)


def test_whether_a_model_may_have_one(model: Path) -> None:
    profiles = Profiles()
    assert profiles.may_have("emoji")
    assert not profiles.may_have(str(model))
    assert profiles.may_have("owner/name")  # until it was asked for
    assert not Profiles({"emoji": None}).may_have("emoji")


# Which a call gets -----------------------------------------------------------------------------


def test_a_profile_that_fits_is_picked_among_those_that_do_not(pipe: Any) -> None:
    """A little nearer in steps is not worth another guidance."""
    calls = [(8, 7.5), (9, 3.0), (30, 3.0)]
    source = Source("x", tuple(fitting(pipe, *call) for call in calls))
    profile, misfits = source.pick(pipe, 8, 3.0)
    assert (profile.steps, profile.guidance, misfits) == ((9, 9), 3.0, [])


def test_where_none_fits_it_is_told_which_there_are(pipe: Any) -> None:
    source = Source("x", (fitting(pipe, 8), fitting(pipe, 30, 7.5)))
    profile, misfits = source.pick(pipe, 100, 7.5)
    assert profile.steps == (30, 30)
    assert misfits == [
        "the call has 100 steps, and the profile was made with 30",
        "the profiles of x were made with DDIMScheduler epsilon, 8 steps, guidance 3; "
        "DDIMScheduler epsilon, 30 steps, guidance 7.5",
    ]


def test_guidance_that_is_not_given_is_the_pipelines_own(pipe: Any) -> None:
    source = Source("x", (fitting(pipe, guidance=7.5), fitting(pipe, guidance=3.0)))
    profile, misfits = source.pick(pipe, 8, None)
    assert (profile.guidance, misfits) == (7.5, [])


def test_fingerprints_tell_what_was_measured() -> None:
    other = measured_profile(seed=1)
    assert fingerprint(PROFILE) == fingerprint(replace(PROFILE, date="2030-01-01", nfe=6))
    assert fingerprint(PROFILE) != fingerprint(other)
    prints = {Source("x", each).fingerprint for each in ((PROFILE,), (PROFILE, other))}
    assert len(prints) == 2
    assert Source("y", (PROFILE,), named=False).fingerprint in prints
