"""Errors are one line and exit code 2."""

from __future__ import annotations

import builtins
import sys

import pytest

from adaptive_diffusion.apps import loading
from adaptive_diffusion.miniatures import miniatures


@pytest.fixture
def no_loading(monkeypatch):
    """Makes sure that an error comes before the work."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(loading, "_load", refuse)


@pytest.mark.usefixtures("no_loading")
@pytest.mark.parametrize("command", ["generate", "compare"])
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--scheduler", "magic"), "no scheduler 'magic': choose from ddim, ddpm, euler"),
        (("--tolerance", -1), "tolerance must be finite and not negative"),
        (("--tolerance", "nan"), "tolerance must be finite"),
        (("--policy", "third-order", "--threshold", -1), "threshold must be finite"),
        (("--policy", "third-order", "--tolerance", 1), "--tolerance does not go with"),
        (("--max-skip", 0), "max_skip must be a whole number of at least 1"),
        (("--policy", "magic"), "error-controlled"),
        (("--steps", 0), "--steps"),
        (("--size", "big"), "--size must look like 512 or 768x512"),
        (("--size", "0"), "--size must look like 512 or 768x512"),
        (("--device", "abacus"), "device 'abacus' can't be used here"),
        (("--dtype", "int8"), "choose from float32, float16, bfloat16"),
        (("--prompts", "nowhere.txt"), "--prompts nowhere.txt can't be read"),
        (("--model", "nowhere"), "no model 'nowhere': give a pipeline's folder"),
        (("--model", "./no/where"), "no model './no/where'"),
        (("--magic",), "--magic"),
    ],
    ids=str,
)
def test_bad_input_is_found_before_the_model_is_loaded(
    cli, model, tmp_path, command, options, words
):
    done = cli(command, "x", "--model", model, "--out", tmp_path, *options)
    assert words in done.error


@pytest.mark.usefixtures("no_loading")
@pytest.mark.parametrize("command", ["generate", "compare"])
def test_an_unwritable_folder_is_found_before_the_model_is_loaded(cli, model, tmp_path, command):
    (tmp_path / "file").write_text("in the way")
    done = cli(command, "x", "--model", model, "--out", tmp_path / "file" / "folder")
    assert "can't be written to" in done.error


@pytest.mark.usefixtures("no_loading")
def test_empty_prompts_are_refused(cli, model, tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_text("\n \n")
    options = ("--model", model, "--out", tmp_path)
    assert "has no prompts" in cli("generate", "--prompts", file, *options).error
    assert "a prompt is empty" in cli("generate", " ", *options).error


@pytest.mark.usefixtures("no_loading")
def test_nothing_to_compare(cli, tmp_path):
    assert "--policy none" in cli("compare", "x", "--policy", "none", "--out", tmp_path).error


def test_no_prompts(cli, model, tmp_path):
    assert "no prompts" in cli("generate", "--model", model, "--out", tmp_path).error


def test_a_folder_without_a_pipeline(cli, tmp_path):
    done = cli("generate", "x", "--model", tmp_path, "--out", tmp_path / "out")
    assert "has no model_index.json" in done.error


@pytest.mark.usefixtures("no_loading")
@pytest.mark.parametrize("command", ["generate", "compare", "serve", "ui"])
def test_a_miniature_with_a_loop_of_its_own_says_how_it_is_used(cli, tmp_path, command):
    words = ("x", "--out", tmp_path) if command in ("generate", "compare") else ()
    done = cli(command, *words, "--model", "motions")
    assert "load_miniature('motions') gives it in Python, docs/other-data.md shows" in done.error


def test_a_page_has_a_controlnet_for_one_model(cli):
    done = cli("ui", "--model", "emoji", "--model", "digits", "--controlnet", "owner/name")
    assert "--controlnet is for one model" in done.error


def test_a_hub_id_that_is_not_to_be_had(cli, tmp_path):
    done = cli("generate", "x", "--model", "no-one/nothing", "--out", tmp_path)
    assert "no folder 'no-one/nothing' here, and the hub gave no such model" in done.error


def test_a_scheduler_of_another_kind(cli, model, tmp_path):
    done = cli("generate", "x", "--model", model, "--scheduler", "flow-euler", "--out", tmp_path)
    assert "not a flow-matching model; choose from ddim" in done.error


@pytest.mark.skipif("digits" not in miniatures(), reason="the miniature is not at hand")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("a prompt",), "takes no prompts"),
        (("--guidance", 2), "has no guidance_scale"),
        (("--size", 32), "omit --size"),
        (("--scheduler", "euler"), "works with the scheduler ddim only"),
    ],
    ids=str,
)
def test_what_an_unconditional_model_can_not_take(cli, tmp_path, arguments, words):
    assert words in cli("generate", *arguments, "--model", "digits", "--out", tmp_path).error


def test_an_error_in_the_midst_of_the_work_is_one_line_too(cli, model, tmp_path):
    done = cli("generate", "x", "--model", model, "--size", 33, "--out", tmp_path)
    assert "33" in done.error


def test_a_defect_is_one_line_too(cli, model, tmp_path, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("out of memory\nbuy more")

    monkeypatch.setattr(loading, "_load", fail)
    done = cli("generate", "x", "--model", model, "--out", tmp_path)
    assert done.error == "error: RuntimeError: out of memory buy more (--debug shows where)"


def test_debug_shows_the_traceback(cli, tmp_path):
    done = cli("generate", "x", "--model", "nowhere", "--out", tmp_path, "--debug")
    assert done.code == 2
    assert "Traceback (most recent call last)" in done.err
    assert "no model 'nowhere'" in done.err


@pytest.mark.parametrize("missing", ["typer", "diffusers", "matplotlib"])
def test_a_missing_extra_says_what_to_install(cli, tmp_path, monkeypatch, missing):
    for name in list(sys.modules):
        if name.startswith(("adaptive_diffusion.apps.", missing)) and not name.endswith(".cli"):
            monkeypatch.delitem(sys.modules, name)
    original = builtins.__import__

    def without(name: str, *rest: object, **more: object) -> object:
        if name.split(".")[0] == missing:
            raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)
        return original(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    done = cli("compare", "--model", "digits", "--out", tmp_path)
    words = 'install the extra cli; in a checkout, pip install -e ".[cli]"'
    assert done.error == f"error: {missing} is not installed: {words}"


def test_an_interruption_is_no_error(cli, tmp_path, monkeypatch):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(loading, "locate", interrupt)
    done = cli("generate", "x", "--out", tmp_path)
    assert (done.code, done.err.strip()) == (130, "interrupted")
