"""What people bring: single files, variants, LoRAs, ControlNets, other number types."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from file_entries import entries_of
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from PIL import Image
from safetensors.torch import save_file
from single_file import save_single_file
from tiny_pipelines import TINY_PIPELINES
from torch._dynamo.utils import counters

from adaptive_diffusion.apps import loading, weights
from adaptive_diffusion.apps.loading import LoadOptions, load_pipeline
from adaptive_diffusion.apps.sampling import Sampler, Settings
from adaptive_diffusion.apps.weights import Lora, stored_dtype
from adaptive_diffusion.policies import ErrorControlled

SMALL = ("--size", 32, "--steps", 4)


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path)).astype(int)


@pytest.fixture(scope="module")
def lora(tmp_path_factory) -> Path:
    """A LoRA of the tiny Stable Diffusion 1.5, with an effect that can be seen."""
    folder = tmp_path_factory.mktemp("lora")
    unet = TINY_PIPELINES["sd15"].make().unet
    unet.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_v"]))
    with torch.no_grad():
        for name, weight in unet.named_parameters():
            if "lora_B" in name:
                weight.normal_(generator=torch.Generator().manual_seed(0))
    layers = get_peft_model_state_dict(unet)
    StableDiffusionPipeline.save_lora_weights(folder, layers, weight_name="style.safetensors")
    return folder / "style.safetensors"


@pytest.fixture
def picture(cli, model, tmp_path):
    """Makes a picture of the tiny model with further options; gives its file."""

    def make(*options, of=model):
        folder = tmp_path / f"made-{len(list(tmp_path.iterdir()))}"
        done = cli("generate", "x", "--model", of, *SMALL, *options, "--out", folder)
        assert done.code == 0, done.err
        [file] = folder.iterdir()
        return file

    return make


def test_a_lora_changes_the_picture_as_much_as_its_scale_says(picture, lora):
    plain = pixels(picture())
    nothing, half, whole = (picture("--lora", f"{lora}:{scale}") for scale in (0, 0.5, 1))
    assert abs(pixels(nothing) - plain).max() <= 1
    assert 1 < abs(pixels(half) - plain).mean() < abs(pixels(whole) - plain).mean()
    assert (pixels(picture("--lora", lora)) == pixels(whole)).all()
    twice = picture("--lora", f"{lora}:0.5", "--lora", f"{lora}:0.5")
    assert abs(pixels(twice) - pixels(whole)).max() <= 1
    assert entries_of(twice)["lora"] == f"{lora}:0.5, {lora}:0.5"
    assert Image.open(half).text["parameters"].startswith("x <lora:style:0.5>\n")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("nowhere.safetensors", "there is no such file"),
        ("nowhere.safetensors:0.5", "--lora nowhere.safetensors: there is no such file"),
        ("style.ckpt", "may hold code"),
        ("x", "there is no such file"),
        ("a/b:nan", "finite number"),
    ],
)
def test_what_is_no_lora(cli, model, tmp_path, given, words):
    done = cli("generate", "x", "--model", model, "--lora", given, "--out", tmp_path)
    assert words in done.error


def test_a_lora_of_another_model_is_refused(cli, model, tmp_path):
    other = tmp_path / "other.safetensors"
    save_file({"unet.somewhere.lora_A.weight": torch.zeros(2, 2)}, other)
    done = cli("generate", "x", "--model", model, "--lora", other, "--out", tmp_path / "out")
    assert "other.safetensors" in done.error
    assert "fit" in done.error
    done = cli("generate", "--model", "digits", "--lora", other, "--out", tmp_path / "out")
    assert "DDIMPipeline takes no LoRA" in done.error


def test_a_windows_path_is_no_scale(monkeypatch):
    monkeypatch.setattr(Path, "is_file", lambda _: True)
    assert Lora.parse(r"C:\style.safetensors") == Lora(r"C:\style.safetensors")
    assert Lora.parse(r"C:\style.safetensors:-0.5") == Lora(r"C:\style.safetensors", -0.5)


@pytest.fixture(scope="module")
def controlnet(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("controlnet")
    net = TINY_PIPELINES["controlnet"].make().controlnet
    with torch.no_grad():
        for out in (*net.controlnet_down_blocks, net.controlnet_mid_block):
            out.weight *= 20  # an effect that eight bits show
    net.save_pretrained(folder)
    return folder


def test_a_controlnet_goes_by_its_picture(cli, picture, controlnet, model, tmp_path):
    images = []
    for name, grey in (("dark", 0), ("light", 255)):
        images.append(tmp_path / f"{name}.png")
        Image.new("RGB", (32, 32), (grey,) * 3).save(images[-1])
    given = [picture("--controlnet", controlnet, "--control-image", image) for image in images]
    assert abs(pixels(given[0]) - pixels(given[1])).max() > 1
    entries = entries_of(given[0])
    assert (entries["controlnet"], entries["control_image"]) == (str(controlnet), str(images[0]))

    command = ("generate", "x", "--model", model, *SMALL, "--out", tmp_path / "out")
    needs_picture = cli(*command, "--controlnet", controlnet).error
    assert "give it as --control-image FILE" in needs_picture
    assert "has no ControlNet" in cli(*command, "--control-image", images[0]).error
    assert "no ControlNet 'nowhere'" in cli(*command, "--controlnet", "nowhere").error
    assert "can't be read" in cli(*command, "--control-image", "nowhere.png").error
    assert "no ControlNet" in cli(*command, "--controlnet", model / "unet").error


def test_a_controlnet_is_of_a_kind_that_the_pipeline_takes(cli, controlnet, tmp_path):
    done = cli("generate", "--model", "digits", "--controlnet", controlnet, "--out", tmp_path)
    assert "DDIMPipeline takes no ControlNet" in done.error


def test_batch_takes_a_control_picture_per_line(cli, controlnet, model, tmp_path):
    lines = []
    for name, grey in (("dark", 0), ("light", 255)):
        Image.new("RGB", (32, 32), (grey,) * 3).save(tmp_path / f"{name}.png")
        lines.append(f'{{"prompt": "x", "control_image": "{tmp_path}/{name}.png"}}')
    file = tmp_path / "prompts.jsonl"
    file.write_text("\n".join(lines))
    out = tmp_path / "out"
    done = cli("batch", file, "--out", out, "--model", model, *SMALL, "--controlnet", controlnet)
    assert done.code == 0, done.out
    made = [pixels(path) for path in out.glob("*.png")]
    assert len(made) == 2
    assert abs(made[0] - made[1]).max() > 1


def test_a_single_file_gives_the_pictures_of_its_folder(picture, model, tmp_path, monkeypatch):
    file = tmp_path / "tiny.safetensors"
    save_single_file(TINY_PIPELINES["sd15"].make(), file)
    monkeypatch.setattr(weights, "_origin", lambda _: str(model))
    assert (pixels(picture(of=file)) == pixels(picture())).all()


def test_a_single_file_says_which_configuration_it_needs(cli, tmp_path):
    file = tmp_path / "tiny.safetensors"
    save_single_file(TINY_PIPELINES["sd15"].make(), file)
    error = cli("generate", "x", "--model", file, "--out", tmp_path / "out").error
    assert "a model like stable-diffusion-v1-5/stable-diffusion-v1-5" in error
    for name in ("broken.safetensors", "model.ckpt"):
        (tmp_path / name).write_bytes(b"\x03")
        error = cli("generate", "x", "--model", tmp_path / name, "--out", tmp_path / "out").error
        assert "is not a .safetensors file" in error
    assert "no model" in cli("generate", "x", "--model", "gone.safetensors").error


def test_a_variant_is_asked_for_by_name(cli, picture, tmp_path):
    folder = tmp_path / "half"
    TINY_PIPELINES["sd15"].make().to(torch.float16).save_pretrained(folder, variant="fp16")
    assert entries_of(picture("--variant", "fp16", of=folder))["variant"] == "fp16"
    assert "can't be loaded" in cli("generate", "x", "--model", folder, "--out", tmp_path).error
    revised = cli("generate", "x", "--model", folder, "--revision", "main", "--out", tmp_path)
    assert "--revision goes with a hub id" in revised.error


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_gpu_gets_the_type_that_the_weights_are_stored_in(tmp_path, dtype):
    pipe = TINY_PIPELINES["sd15"].make()
    pipe.to(dtype).save_pretrained(tmp_path)
    pipe.to(torch.float16).save_pretrained(tmp_path, variant="fp16")
    on_gpu, on_cpu = torch.device("cuda"), torch.device("cpu")
    assert loading._dtype(LoadOptions(), tmp_path, on_gpu) == dtype
    assert loading._dtype(LoadOptions(variant="fp16"), tmp_path, on_gpu) == torch.float16
    assert loading._dtype(LoadOptions(dtype="bfloat16"), tmp_path, on_gpu) == torch.bfloat16
    assert loading._dtype(LoadOptions(), tmp_path, on_cpu) == torch.float32
    single = next(tmp_path.glob("unet/diffusion_pytorch_model.safetensors"))
    assert stored_dtype([single]) == dtype
    assert stored_dtype([]) == torch.float32


def test_offloading_needs_a_gpu(cli, model, tmp_path):
    command = ("generate", "x", "--model", model, "--device", "cpu", "--out", tmp_path)
    assert "there is none here" in cli(*command, "--offload", "model").error
    assert "choose from model, sequential" in cli(*command, "--offload", "magic").error


def test_a_compiled_denoiser_is_asked_for(model):
    pipe = load_pipeline(str(model), LoadOptions(device="cpu", compiles=True))
    assert pipe.unet._compiled_call_impl is not None
    assert load_pipeline(str(model), LoadOptions(device="cpu")).unet._compiled_call_impl is None


@pytest.mark.parametrize("policy", [None, ErrorControlled(3.0)], ids=["full", "accelerated"])
def test_a_compiled_denoiser_is_compiled_once(policy):
    """Whatever is measured of it."""
    pipe = TINY_PIPELINES["sd15"].make()
    pipe.set_progress_bar_config(disable=True)
    pipe.unet.compile(backend="eager")
    compiled = pipe.unet._compiled_call_impl
    sampler = Sampler(pipe, Settings(steps=6, size=(32, 32)))
    samples = sampler.plan(["x"], 1, 0)
    torch._dynamo.reset()
    counters.clear()
    seconds = sampler.run(samples, policy).seconds
    graphs = counters["stats"]["unique_graphs"]
    assert graphs == 1
    began = time.perf_counter()
    again = sampler.run(samples, policy).seconds
    assert counters["stats"]["unique_graphs"] == graphs
    assert 0 < again < time.perf_counter() - began
    assert seconds > again  # the first call compiled
    assert pipe.unet._compiled_call_impl is compiled


def test_a_negative_prompt_is_taken_and_told(cli, picture, tmp_path):
    plain, told = picture("--guidance", 5), picture("--guidance", 5, "--negative-prompt", "a, b: c")
    assert abs(pixels(plain) - pixels(told)).max() > 1
    assert entries_of(told)["negative_prompt"] == "a, b: c"
    done = cli("generate", "--model", "digits", "--negative-prompt", "x", "--out", tmp_path)
    assert "has no negative_prompt: omit --negative-prompt" in done.error
