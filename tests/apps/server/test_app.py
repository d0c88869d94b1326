"""The images interface, as OpenAI's own client sees it."""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from io import BytesIO
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from PIL import ExifTags, Image
from running_server import FULL, LOOSE, TOLERANCE, Served, tiny_model
from tiny_pipelines import ALL_PIPELINES, TINY_PIPELINES

from adaptive_diffusion import Profile, load_miniature
from adaptive_diffusion.apps.choice import Choice, choose
from adaptive_diffusion.apps.profiles import Source, fingerprint
from adaptive_diffusion.apps.server.limits import Limits
from adaptive_diffusion.apps.server.models import Model, Picture

STEPS = 10
SMALL = "32x32"

Serve = Callable[..., Served]


def picture_in(entry: Any) -> Image.Image:
    return Image.open(BytesIO(base64.b64decode(entry.b64_json)))


def written(image: Image.Image) -> dict[str, str]:
    """What a PNG says of how it was made."""
    entries: dict[str, str] = json.loads(image.text["adaptive_diffusion"])  # type: ignore[attr-defined]
    return entries


def generate(client: openai.OpenAI, prompt: str = "a red apple", **more: Any) -> Any:
    extensions = {"steps": STEPS, "seed": 7} | more.pop("extensions", {})
    return client.images.generate(
        **{"prompt": prompt, "model": "sd15", "size": SMALL, "extra_body": extensions} | more
    )


def alone(served: Served, seed: int = 7, choice: Choice = LOOSE, **changes: Any) -> np.ndarray:
    wanted: dict[str, Any] = {
        "prompt": "a red apple",
        "steps": STEPS,
        "choice": choice,
        "size": (32, 32),
    }
    return np.asarray(served.model.draw(Picture(seed=seed, **wanted | changes)).image).astype(int)


def assert_same(image: Image.Image, expected: np.ndarray) -> None:
    assert abs(np.asarray(image).astype(int) - expected).max() <= 1  # float rounding


def black(width: int, height: int) -> bytes:
    buffer = BytesIO()
    Image.new("L", (width, height)).save(buffer, "PNG")
    return buffer.getvalue()


def png(size: tuple[int, int] = (32, 32), transparent: bool = False) -> BytesIO:
    pixels = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 4), dtype=np.uint8)
    pixels[..., 3] = 255
    if transparent:
        pixels[:, size[0] // 2 :, 3] = 0
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    buffer.seek(0)
    buffer.name = "image.png"
    return buffer


def test_a_picture_is_the_one_the_model_makes_alone(served: Served) -> None:
    answer = generate(served.client())
    assert_same(picture_in(answer.data[0]), alone(served))
    assert answer.output_format == "png"
    assert answer.size == SMALL
    assert answer.data[0].seed == 7
    assert answer.data[0].steps == STEPS
    assert 3 <= answer.data[0].nfe < STEPS


def test_several_pictures_have_consecutive_seeds(served: Served) -> None:
    answer = generate(served.client(), n=3)
    assert [entry.seed for entry in answer.data] == [7, 8, 9]
    for entry in answer.data:
        assert_same(picture_in(entry), alone(served, seed=entry.seed))


def test_requests_at_the_same_time_get_their_own_pictures(served: Served) -> None:
    client = served.client()
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda seed: generate(client, extensions={"seed": seed}), range(6)))
    for seed, answer in enumerate(answers):
        assert_same(picture_in(answer.data[0]), alone(served, seed=seed))


def test_a_seed_is_chosen_and_told_where_none_is_given(served: Served) -> None:
    client = served.client()
    seeds = {generate(client, extensions={"seed": None}).data[0].seed for _ in range(3)}
    assert len(seeds) == 3


@pytest.mark.parametrize(
    ("asked", "tolerance"),
    [
        ({"extensions": {"tolerance": 0.0}}, 0.0),
        ({"extensions": {"quality": "fast"}}, 0.08),
        ({"quality": "hd"}, 0.005),
        ({"quality": "auto"}, TOLERANCE),
    ],
)
def test_tolerance_and_quality(served: Served, asked: dict[str, Any], tolerance: float) -> None:
    entry = generate(served.client(), **asked).data[0]
    assert entry.tolerance == tolerance
    assert_same(picture_in(entry), alone(served, choice=choose(tolerance=tolerance)))
    if tolerance == 0:
        assert entry.nfe == STEPS


@pytest.mark.parametrize("nfe", [2, 5, STEPS])
def test_an_exact_number_of_calls(served: Served, nfe: int) -> None:
    answer = generate(served.client(), n=2, extensions={"nfe": nfe})
    for entry, seed in zip(answer.data, (7, 8), strict=True):
        assert (entry.nfe, entry.steps, entry.tolerance) == (nfe, STEPS, None)
        assert entry.policy == f"Planned(nfe={nfe}, not measured)"
        image = picture_in(entry)
        assert written(image)["policy"] == entry.policy
        assert "profile" not in written(image)
        assert_same(image, alone(served, seed, choose(nfe=nfe)))


def test_a_models_profile_makes_its_plans(serve: Serve, measured: Profile) -> None:
    source = Source("profile.json", (measured,))
    choice = choose(profiles=source)
    served = serve(tiny_model(choice=choice, profiles=source))
    for asked, nfe in (({}, measured.nfe), ({"nfe": 4}, 4)):
        [entry] = generate(served.client(), extensions=asked).data
        assert (entry.nfe, entry.policy) == (nfe, f"Planned(nfe={nfe}, measured)")
        assert written(picture_in(entry))["profile"] == fingerprint(measured)
        assert entry.notes == []
    [entry] = generate(served.client(), extensions={"tolerance": TOLERANCE}).data
    assert entry.tolerance == TOLERANCE
    assert "profile" not in written(picture_in(entry))
    [entry] = generate(served.client(), extensions={"steps": 40, "nfe": 8}).data
    assert entry.nfe == 8
    assert entry.notes == ["the call has 40 steps, and the profile was made with 10"]


def test_a_published_profile_makes_plans_and_nothing_else(serve: Serve, measured: Profile) -> None:
    served = serve(tiny_model(profiles=Source("sd15", (measured,), named=False)))
    [entry] = generate(served.client()).data
    assert (entry.tolerance, entry.notes) == (TOLERANCE, [])
    [entry] = generate(served.client(), extensions={"nfe": 4}).data
    assert entry.policy == "Planned(nfe=4, measured)"
    [note] = entry.notes
    assert note.startswith("the profile published with sd15 is used: DDIMScheduler epsilon")


def test_each_request_gets_the_profile_that_is_nearest(serve: Serve, measured: Profile) -> None:
    of_others = [replace(measured, steps=(steps, steps)) for steps in (20, 40)]
    source = Source("several", (measured, *of_others))
    served = serve(tiny_model(choice=choose(profiles=source), profiles=source))
    for steps in (STEPS, 20, 40):
        [entry] = generate(served.client(), extensions={"steps": steps}).data
        assert (entry.nfe, entry.notes) == (measured.nfe, [])
    [entry] = generate(served.client(), extensions={"steps": STEPS, "guidance": 1.0}).data
    assert entry.notes[0] == "the call has guidance 1, and the profile was made with 5"
    assert entry.notes[1].startswith("the profiles of several were made with ")


def test_guidance_is_the_pipelines(served: Served) -> None:
    entry = generate(served.client(), extensions={"guidance": 2.0}).data[0]
    assert_same(picture_in(entry), alone(served, guidance=2.0))


def test_a_picture_keeps_what_made_it(served: Served) -> None:
    streamed = list(generate(served.client(), stream=True, extensions={"guidance": 2.5}))[-1]
    for entry in (generate(served.client(), extensions={"guidance": 2.5}).data[0], streamed):
        picture = picture_in(entry)
        own = written(picture)
        assert (own["prompt"], own["seed"], own["model"]) == ("a red apple", "7", "sd15")
        assert own["mask"].count("1") == entry.nfe
        assert (
            f"Steps: {STEPS}, Sampler: DDIM, CFG scale: 2.5, Seed: 7" in picture.text["parameters"]
        )


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_output_formats(served: Served, kind: Any) -> None:
    """Each says how the picture was made, where other tools look for it."""
    picture = picture_in(generate(served.client(), output_format=kind).data[0])
    assert picture.format == kind.upper()
    if kind == "png":
        said = picture.text["parameters"]
    else:
        comment = picture.getexif().get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment]
        said = comment.removeprefix(b"UNICODE\0").decode("utf-16-be")
    assert f"Steps: {STEPS}, Sampler: DDIM" in said


def test_a_model_without_prompt_takes_an_empty_one(served: Served) -> None:
    answer = generate(served.client(), prompt="", model="ddim", size="auto")
    assert picture_in(answer.data[0]).size[0] > 0
    with pytest.raises(openai.BadRequestError, match="takes no prompt"):
        generate(served.client(), prompt="a cat", model="ddim", size="auto")


def test_progress_is_streamed(served: Served) -> None:
    stream = generate(served.client(), n=2, stream=True)
    events = list(stream)
    for index in range(2):
        own = [event for event in events if event.index == index]
        assert [event.step for event in own[:-1]] == list(range(1, STEPS + 1))
        assert {event.type for event in own[:-1]} == {"image_generation.progress"}
        assert own[-1].type == "image_generation.completed"
        assert own[-1].nfe == own[-2].nfe < STEPS
        assert_same(picture_in(own[-1]), alone(served, seed=7 + index))


def test_previews_are_streamed_and_change_nothing(served: Served) -> None:
    events = list(generate(served.client(), n=2, stream=True, partial_images=2))
    for index in range(2):
        own = [event for event in events if event.index == index]
        partial = [event for event in own if event.type == "image_generation.partial_image"]
        assert [event.partial_image_index for event in partial] == [0, 1]
        assert {(event.size, event.output_format) for event in partial} == {(SMALL, "png")}
        # evenly spread over the steps, and each one nearer to the picture
        assert [own[own.index(event) - 1].step for event in partial] == [4, 7]
        final = np.asarray(picture_in(own[-1])).astype(int)
        apart = [abs(np.asarray(picture_in(event)) - final).mean() for event in partial]
        assert apart[0] > apart[1] > 0
        assert_same(picture_in(own[-1]), alone(served, seed=7 + index))


def test_previews_of_edits_are_streamed(served: Served) -> None:
    events = served.client().images.edit(
        image=png(),
        prompt="blue",
        stream=True,
        partial_images=3,
        extra_body={"steps": 4, "strength": "1"},
    )
    kinds = [event.type.removeprefix("image_edit.") for event in events]
    assert kinds == [*["progress", "partial_image"] * 3, "progress", "completed"]


@pytest.mark.parametrize("choice", [FULL, LOOSE], ids=["full", "accelerated"])
def test_a_picture_with_previews_is_the_same_to_the_bit(served: Served, choice: Choice) -> None:
    seen: list[Image.Image] = []
    plain = Picture("a red apple", 7, STEPS, choice, size=(32, 32))
    drawn = served.model.draw(replace(plain, previews=3), on_preview=seen.append)
    assert drawn.image == served.model.draw(plain, on_preview=seen.append).image
    assert len(seen) == 3  # none for the picture that asked for none


def test_models_are_listed(served: Served) -> None:
    client = served.client()
    assert [model.id for model in client.models.list()] == ["sd15", "ddim"]
    assert client.models.retrieve("ddim").owned_by == "adaptive-diffusion"
    with pytest.raises(openai.NotFoundError, match=r"no model 'dall-e-3'.*sd15, ddim"):
        generate(client, model="dall-e-3")


def test_a_picture_is_edited(served: Served) -> None:
    edit = {"strength": "0.5", "seed": 3, "steps": STEPS}
    client = served.client()
    answer = client.images.edit(image=png(), prompt="blue", model="sd15", extra_body=edit)
    image = picture_in(answer.data[0])
    assert image.size == (32, 32)
    expected = alone(
        served,
        seed=3,
        prompt="blue",
        strength=0.5,
        image=Image.open(png()).convert("RGB"),
    )
    assert_same(image, expected)
    assert answer.data[0].steps == STEPS // 2


def test_a_picture_is_painted_anew_where_the_mask_is_transparent(served: Served) -> None:
    client = served.client()
    answer = client.images.edit(
        image=[png()],
        mask=png(transparent=True),
        prompt="blue",
        model="sd15",
        size=SMALL,  # type: ignore[arg-type]
        extra_body={"seed": 3, "steps": STEPS},
    )
    mask = Image.new("L", (32, 32))
    mask.paste(255, (16, 0, 32, 32))
    expected = alone(
        served, seed=3, prompt="blue", image=Image.open(png()).convert("RGB"), mask=mask
    )
    assert_same(picture_in(answer.data[0]), expected)


def test_edits_can_be_streamed(served: Served) -> None:
    events = served.client().images.edit(
        image=png(), prompt="blue", stream=True, extra_body={"steps": 4, "strength": "1"}
    )
    kinds = [event.type for event in events]
    assert kinds == ["image_edit.progress"] * 4 + ["image_edit.completed"]


def test_an_edit_must_have_a_step_to_make(served: Served) -> None:
    for given in ({"steps": 4, "strength": 0.2}, {"steps": 1}):
        with pytest.raises(openai.BadRequestError, match="leaves none of") as caught:
            served.client().images.edit(image=png(), prompt="blue", extra_body=given)
        assert caught.value.param == "strength"


def test_a_part_is_painted_anew_where_no_inpainting_pipeline_runs(serve: Serve) -> None:
    """`emoji` has 8 latent channels, which diffusers' inpainting pipelines don't take."""
    served = serve(Model("emoji", load_miniature("emoji"), guidance=3.0))
    picture = served.model.draw(Picture("a red apple", 0, 20, FULL)).image
    mask = Image.new("RGBA", picture.size, (0, 0, 0, 255))
    mask.paste((0, 0, 0, 0), (0, 0, 16, 32))
    files = []
    for image in (picture, mask):
        files.append(BytesIO())
        image.save(files[-1], "PNG")
        files[-1].name = "image.png"
    answer = served.client().images.edit(
        image=files[0].getvalue(),
        mask=files[1].getvalue(),
        prompt="a tiger face",
        extra_body={"steps": 20, "strength": "0.9"},
    )
    change = abs(np.asarray(picture_in(answer.data[0])).astype(int) - np.asarray(picture))
    assert change[:, :12].mean() > 5 * change[:, 20:].mean()


def test_a_model_that_can_not_inpaint_says_so_before_the_work(serve: Serve) -> None:
    model = tiny_model()
    model._editors = dict.fromkeys(model._editors)
    with pytest.raises(openai.BadRequestError, match="leave the mask out") as caught:
        serve(model).client().images.edit(image=png(), mask=png(transparent=True), prompt="blue")
    assert caught.value.param == "mask"


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("text_to_video", "makes no pictures"),
        ("stable_audio", "makes no pictures"),
        ("dit", "needs class_labels"),
        ("controlnet", "needs a control image"),
        ("kandinsky2_2", "needs image_embeds"),
    ],
)
def test_a_model_that_makes_no_pictures_of_prompts_is_not_served(kind: str, words: str) -> None:
    names = {"stable_audio": "StableAudioPipeline"}
    pipe = ALL_PIPELINES[names.get(kind, kind)].make()
    with pytest.raises(ValueError, match=f"{kind} can't be served: .* {words}"):
        Model(kind, pipe)


@pytest.mark.parametrize("kind", ["sd15", "sdxl", "sd3", "flux", "ddim", "ldm"])
def test_models_of_pictures_are_served(kind: str) -> None:
    assert Model(kind, TINY_PIPELINES[kind].make()).name == kind


def test_a_negative_prompt_is_the_pipelines(served: Served) -> None:
    entry = generate(served.client(), extensions={"negative_prompt": "blurred"}).data[0]
    told = alone(served, negative_prompt="blurred")
    assert_same(picture_in(entry), told)
    assert abs(told - alone(served)).max() > 1
    with pytest.raises(openai.BadRequestError, match="takes no negative_prompt"):
        generate(
            served.client(),
            prompt="",
            model="ddim",
            size="auto",
            extensions={"negative_prompt": "blurred"},
        )


def test_the_headers_say_how_many_calls_were_made_and_saved(served: Served) -> None:
    body = {"prompt": "a red apple", "size": SMALL, "steps": STEPS, "n": 2, "seed": 7}
    answer = httpx.post(f"{served.url}/v1/images/generations", json=body, timeout=60)
    nfe = sum(entry["nfe"] for entry in answer.json()["data"])
    assert answer.headers["X-Denoiser-Calls"] == str(nfe)
    assert answer.headers["X-Denoiser-Calls-Saved"] == str(2 * STEPS - nfe)


def test_the_work_of_a_picture_is_bounded_by_the_models_own_size(served: Served) -> None:
    """The tiny model's own size is 32 x 32; four such pictures of 150 steps are the bound."""
    generate(served.client(), size="64x64", extensions={"steps": 5})
    with pytest.raises(openai.BadRequestError, match=r"own size is 32x32: at most 37 steps"):
        generate(served.client(), size="128x128", extensions={"steps": 38})
    with pytest.raises(
        openai.BadRequestError, match=r"at most 1 steps|ask for a smaller"
    ) as caught:
        generate(served.client(), size="1024x1024", extensions={"steps": 5})
    assert caught.value.param == "size"


def test_a_retry_gets_what_is_being_made_and_starts_nothing(serve: Serve) -> None:
    model = tiny_model()
    served = serve(model, limits=Limits(steps=1000))
    body = {"prompt": "a cat", "steps": 300, "tolerance": 0, "size": "16x16"}  # a seed by chance
    url = f"{served.url}/v1/images/generations"
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(url, json=body, timeout=0.5)
    other = httpx.post(url, json=body | {"steps": 3}, timeout=60)
    assert other.json()["data"][0]["steps"] == 3
    answer = httpx.post(url, json=body, timeout=60)
    assert answer.status_code == 200
    lines = httpx.get(f"{served.url}/metrics").text.splitlines()
    assert 'adaptive_diffusion_pictures_total{end="made",model="sd15"} 2.0' in lines
    again = httpx.post(url, json=body, timeout=60)  # is no retry: its answer was taken
    assert again.json()["data"][0]["seed"] != answer.json()["data"][0]["seed"]


def test_work_that_nobody_asks_for_again_ends(serve: Serve) -> None:
    served = serve(tiny_model(), limits=Limits(steps=1000, retry_seconds=1))
    body = {"prompt": "a cat", "steps": 900, "tolerance": 0, "size": "64x64"}
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{served.url}/v1/images/generations", json=body, timeout=0.5)
    end = time.monotonic() + 30
    while httpx.get(f"{served.url}/health").json()["running"]:
        assert time.monotonic() < end
        time.sleep(0.05)
    lines = httpx.get(f"{served.url}/metrics").text.splitlines()
    assert 'adaptive_diffusion_pictures_total{end="cancelled",model="sd15"} 1.0' in lines


def test_the_root_says_what_this_is_and_the_docs_need_no_network(served: Served) -> None:
    root = httpx.get(served.url + "/").json()
    assert root["name"] == "Adaptive Diffusion"
    assert root["models"] == ["sd15", "ddim"]
    page = httpx.get(served.url + root["docs"])
    places = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(places) >= 3
    for place in places:
        assert httpx.URL(place).host in ("", "127.0.0.1"), place
        assert httpx.get(httpx.URL(served.url).join(place)).status_code == 200
    assert httpx.get(f"{served.url}/redoc").status_code == 404


def test_the_description_says_what_is_sent(served: Served) -> None:
    found = httpx.get(f"{served.url}/openapi.json").json()
    for path in ("/v1/images/generations", "/v1/images/edits"):
        answers = found["paths"][path]["post"]["responses"]
        assert {"200", "400", "401", "404", "429", "504"} <= {*answers}
        assert "422" not in answers
        assert {*answers["200"]["content"]} == {"application/json", "text/event-stream"}
        assert {*answers["200"]["headers"]} == {"X-Denoiser-Calls", "X-Denoiser-Calls-Saved"}
    assert "HTTPValidationError" not in found["components"]["schemas"]


def test_a_model_that_edits_nothing_says_so(served: Served) -> None:
    with pytest.raises(openai.BadRequestError, match="ddim can't do image-to-image"):
        served.client().images.edit(image=png(), prompt="", model="ddim")


BAD_ARGUMENTS: list[tuple[dict[str, Any], str, str]] = [
    ({"extensions": {"steps": 0}}, "steps", "greater than or equal to 1"),
    ({"extensions": {"steps": 151}}, "steps", "at most 150"),
    ({"extensions": {"tolerance": -1}}, "tolerance", "greater than"),
    ({"extensions": {"tolerance": 1, "quality": "fast"}}, "tolerance", "not both"),
    ({"extensions": {"nfe": 1}}, "nfe", "greater than or equal to 2"),
    ({"extensions": {"nfe": 4.5}}, "nfe", "integer"),
    ({"extensions": {"nfe": STEPS + 1}}, "nfe", f"at most {STEPS}"),
    ({"extensions": {"nfe": 4, "tolerance": 1}}, "nfe", "give nfe or tolerance, not both"),
    ({"extensions": {"nfe": 4, "quality": "fast"}}, "nfe", "give nfe or quality, not both"),
    ({"extensions": {"tolerence": 1}}, "tolerence", "no argument 'tolerence': the page /docs"),
    ({"extensions": {"seed": -1}}, "seed", "greater than"),
    ({"extensions": {"quality": "ultra"}}, "quality", "'faithful'"),
    ({"n": 11}, "n", "at most 10"),
    ({"size": "2048x32"}, "size", "at most 1024"),
    ({"size": "big"}, "size", "pattern"),
    ({"size": "33x33"}, "", "divisible by 8"),
    ({"partial_images": 4, "stream": True}, "partial_images", "less than or equal to 3"),
    ({"partial_images": 1}, "partial_images", "stream=true"),
    ({"response_format": "url"}, "response_format", "b64_json"),
    ({"prompt": "x" * 4001}, "prompt", "at most 4000 characters"),
    ({"prompt": "  "}, "prompt", "say what to draw"),
]


@pytest.mark.parametrize(("asked", "param", "message"), BAD_ARGUMENTS)
def test_bad_arguments_are_refused(
    served: Served, asked: dict[str, Any], param: str, message: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=message) as caught:
        generate(served.client(), **asked)
    assert caught.value.type == "invalid_request_error"
    assert (caught.value.param or "") == param


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "must be a PNG"),
        (b"GIF89a" + bytes(100), "must be a PNG"),
        (png().getvalue()[:200], "can't be read"),
        (black(6000, 4000), "at most 20000000"),
    ],
)
def test_bad_pictures_are_refused(served: Served, content: bytes, message: str) -> None:
    with pytest.raises(openai.BadRequestError, match=message) as caught:
        served.client().images.edit(image=("x.png", content), prompt="blue")
    assert caught.value.param == "image"


def test_a_mask_must_fit(served: Served) -> None:
    client = served.client()
    for mask, message in ((png(), "transparent"), (png((16, 16), True), "size of image")):
        with pytest.raises(openai.BadRequestError, match=message):
            client.images.edit(image=png(), mask=mask, prompt="blue")


def test_other_errors_have_the_same_form(served: Served) -> None:
    for method, path, status in (
        ("GET", "/v1/nothing", 404),
        ("GET", "/v1/images/generations", 405),
        ("POST", "/v1/images/generations", 400),
        ("POST", "/v1/images/edits", 400),
    ):
        answer = httpx.request(method, served.url + path, content=b"{")
        assert answer.status_code == status
        assert answer.json()["error"]["type"] == "invalid_request_error"


def test_the_api_key_is_asked_for(serve: Serve) -> None:
    served = serve(tiny_model(), api_key="sécret")
    assert httpx.get(f"{served.url}/health").status_code == 200
    for path in ("/v1/models", "/metrics"):
        assert httpx.get(served.url + path).status_code == 401
    for path in ("/", "/docs", "/openapi.json", "/swagger/swagger-ui.css"):
        assert httpx.get(served.url + path).status_code == 200
    assert httpx.get(f"{served.url}/openapi.json").json()["security"] == [{"key": []}]
    with pytest.raises(openai.AuthenticationError, match="bearer token"):
        generate(served.client(api_key="secret"))
    headers = {"Authorization": b"Bearer " + "sécret".encode()}
    assert httpx.get(f"{served.url}/v1/models", headers=headers).status_code == 200


def test_metrics_say_what_was_done(serve: Serve) -> None:
    served = serve()
    nfe = sum(entry.nfe for entry in generate(served.client(), n=2).data)
    with pytest.raises(openai.BadRequestError):
        generate(served.client(), n=0)
    lines = httpx.get(f"{served.url}/metrics").text.splitlines()
    for line in (
        'adaptive_diffusion_requests_total{path="/v1/images/generations",status="200"} 1.0',
        'adaptive_diffusion_requests_total{path="/v1/images/generations",status="400"} 1.0',
        'adaptive_diffusion_pictures_total{end="made",model="sd15"} 2.0',
        f'adaptive_diffusion_nfe_total{{model="sd15"}} {float(nfe)}',
        f'adaptive_diffusion_nfe_saved_total{{model="sd15"}} {float(2 * STEPS - nfe)}',
        "adaptive_diffusion_queued_pictures 0.0",
        "adaptive_diffusion_running_pictures 0.0",
        'adaptive_diffusion_picture_seconds_count{model="sd15"} 2.0',
    ):
        assert line in lines


def test_a_full_queue_says_when_to_come_again(serve: Serve) -> None:
    served = serve(tiny_model(), limits=Limits(concurrency=1, queue=1))
    for stream in (False, True):
        with pytest.raises(openai.RateLimitError, match="too many") as caught:
            generate(served.client(), n=3, stream=stream)
        assert int(caught.value.response.headers["Retry-After"]) >= 1
    assert len(generate(served.client(), n=2).data) == 2


def test_a_request_has_its_time(serve: Serve) -> None:
    served = serve(tiny_model(), limits=Limits(seconds=1, steps=1000))
    slow = {"extensions": {"steps": 900, "tolerance": 0}, "size": "64x64"}
    with pytest.raises(openai.InternalServerError, match="fewer steps") as caught:
        generate(served.client(), **slow)
    assert caught.value.status_code == 504
    assert caught.value.response.headers["X-Should-Retry"] == "false"
    with pytest.raises(openai.APIError, match="fewer steps"):
        list(generate(served.client(), stream=True, **slow))


def test_a_body_of_too_many_bytes_is_refused(serve: Serve) -> None:
    served = serve(tiny_model(), limits=Limits(body_bytes=1000))
    url = f"{served.url}/v1/images/generations"
    body = b'{"prompt": "' + b"x" * 2000 + b'"}'
    announced = httpx.post(url, content=body)
    chunked = httpx.post(url, content=iter([body]), headers={"Content-Type": "application/json"})
    for answer in (announced, chunked):
        assert answer.status_code == 413
        assert "1000 bytes" in answer.json()["error"]["message"]
