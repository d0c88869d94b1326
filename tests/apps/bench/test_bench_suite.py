"""Suite files: those of the package are valid, and what is wrong with another is said in a line."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from PIL import Image

from adaptive_diffusion.apps.bench.bench import Choice, choose
from adaptive_diffusion.apps.bench.cells import cells_of
from adaptive_diffusion.apps.bench.prompts import Prompt, prompts_for
from adaptive_diffusion.apps.bench.rows import FULL, all_rows, check_patterns, select
from adaptive_diffusion.apps.bench.run import Bench, expand
from adaptive_diffusion.apps.bench.store import FeatureStore, Store
from adaptive_diffusion.apps.bench.suite import ALL_MINIATURES, Prompts, load_suite, suites
from adaptive_diffusion.apps.loading import DTYPES
from adaptive_diffusion.apps.schedulers import SCHEDULERS
from adaptive_diffusion.miniatures import GUIDANCE, PROMPTS, miniatures, pipeline_miniatures

MINIMAL = 'description = "Mine"\nmodels = ["digits"]\nsteps = [6]\n'


@pytest.mark.parametrize("name", suites())
def test_every_suite_of_the_package_is_valid(name):
    suite = load_suite(name)
    assert suite.name == name
    assert set(suite.schedulers) <= {"own", *SCHEDULERS}
    for model in suite.models:
        assert model.name in (ALL_MINIATURES, *miniatures()) or model.name.count("/") == 1
        assert model.dtype in DTYPES
    has_prompts = suite.prompts.texts or suite.prompts.origin or "class_labels" in suite.per_sample
    own = {ALL_MINIATURES, *miniatures()}  # which have prompts of their own
    assert has_prompts or {model.name for model in suite.models} <= own


def test_the_miniatures_of_a_suite_are_those_that_are_pipelines():
    names = [model.name for model in expand(load_suite("miniature").models)]
    assert names == list(pipeline_miniatures())
    assert "motions" not in names


@pytest.fixture
def suite_file(tmp_path):
    def write(text: str) -> str:
        path = tmp_path / "mine.toml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


def test_a_suite_of_ones_own(suite_file):
    path = suite_file(
        MINIMAL
        + 'guidance = [1, 7.5]\nsize = [64, 32]\nframes = 9\nschedulers = ["own", "ddim"]\n'
        + 'prompts = { file = "prompts.txt" }\nrows = ["ours"]\n'
        + "[arguments]\neta = 1.0\n[per_sample]\nclass_labels = [1, 2]\n"
    )
    suite = load_suite(path)
    assert (suite.name, suite.steps, suite.guidance, suite.size) == (
        "mine",
        (6,),
        (1, 7.5),
        (64, 32),
    )
    assert suite.prompts == Prompts(file=suite.prompts.file)
    assert suite.prompts.file.parent.samefile(path.removesuffix("/mine.toml"))
    assert suite.arguments == {"eta": 1.0}
    assert suite.per_sample == {"class_labels": [1, 2]}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("steps = [", "not valid TOML"),
        ('description = "x"', "models is missing"),
        (MINIMAL + "magic = 1", "unknown key magic; there are description, models"),
        (MINIMAL + "samples = 0", "samples must be a whole number above zero"),
        (MINIMAL + 'seed = "one"', "seed must be a whole number"),
        (MINIMAL + "guidance = [true]", "each of guidance must be a number"),
        (MINIMAL + 'schedulers = ["magic"]', "each of schedulers must be one of own, ddim"),
        (MINIMAL + "size = [1, 2, 3]", "size must be [width, height]"),
        (MINIMAL + "prompts = []", "prompts must be a list with something in it"),
        (MINIMAL + "prompts = {}", "prompts must be a list, or a table"),
        (MINIMAL + "prompts = { url = 'x' }", "unknown key prompts.url"),
        (MINIMAL + "per_sample = { image = 'x' }", "per_sample.image must be a list"),
        (MINIMAL.replace('["digits"]', '"digits"'), "models must be a list"),
        (MINIMAL.replace('"digits"', "{ dtype = 'float32' }"), "models.name is missing"),
        (MINIMAL.replace('"digits"', "{ name = 'x', dtype = 'int8' }"), "models.dtype must be one"),
        (MINIMAL.replace("[6]", "[6.5]"), "each of steps must be a whole number"),
    ],
    ids=lambda value: value if " " in value and "\n" not in value else "",
)
def test_what_is_wrong_is_one_line(cli, suite_file, tmp_path, text, words):
    assert words in cli("bench", suite_file(text), "--out", tmp_path / "out").error


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("magic",), "no suite 'magic': choose from cogvideox"),
        ((), "say which suite"),
        (
            ("miniature", "--steps", "51"),
            "--steps 51 is not in the suite, which has 20, 28, 50, 100",
        ),
        (("miniature", "--models", "emoji,x"), "--models x is not in the suite"),
        (
            ("quick", "--rows", "ours,magic*"),
            "no rows 'magic*': give families (ours, ours: nfe, ours:",
        ),
        (("quick", "--rows", "ours 0.03"), "no rows 'ours 0.03'"),
        (("sd15",), "needs --prompts FILE: MS-COCO 2017 captions"),
        (("sd15", "--prompts", "nowhere.json"), "prompts file nowhere.json can't be read"),
    ],
    ids=str,
)
def test_bad_options_are_one_line(cli, tmp_path, options, words):
    assert words in cli("bench", *options, "--out", tmp_path).error


def test_every_row_and_family_of_a_model_is_known(tiny):
    for name in ("sd15", "flux"):
        rows = all_rows(tiny(name), 28)[0]
        check_patterns([*(row.name for row in rows), *(row.family for row in rows)], [28, 50])


def test_an_unknown_model_is_found_before_the_work(cli, suite_file, tmp_path):
    text = 'description = "x"\nmodels = ["nowhere"]\nsteps = [4]\nprompts = ["x"]\n'
    assert "no model 'nowhere'" in cli("bench", suite_file(text), "--out", tmp_path / "out").error


def test_list_shows_the_suites(cli):
    done = cli("bench", "--list")
    assert done.code == 0
    for name in suites():
        assert name in done.out


def test_a_choice_keeps_what_was_asked_for():
    choice = Choice(
        ["digits"], ["ddim"], ["50"], ["3", "7.5"], ["ours"], samples=3, dtype="bfloat16"
    )
    suite = choose(load_suite("miniature"), choice)
    assert [(model.name, model.dtype) for model in suite.models] == [("digits", "bfloat16")]
    assert (suite.schedulers, suite.steps, suite.guidance) == (("ddim",), (50,), (3.0, 7.5))
    assert (suite.rows, suite.samples) == (("ours",), 3)


def test_coco_gives_the_first_caption_of_every_image_in_order(tmp_path):
    file = tmp_path / "captions_val2017.json"
    captions = [
        (9, 5, "second \n"),
        (2, 7, "two, later"),
        (2, 3, "two"),
        (9, 4, " first of nine. "),
    ]
    entries = [{"image_id": image, "id": id_, "caption": text} for image, id_, text in captions]
    file.write_text(json.dumps({"annotations": entries, "images": []}))
    found = prompts_for(load_suite("sd15"), file)
    assert [prompt.text for prompt in found] == ["two", "first of nine."]


def test_lines_may_name_a_picture(tmp_path):
    (tmp_path / "prompts.txt").write_text("a boat\tboat.png\n\n a dog \n", encoding="utf-8")
    Image.new("RGB", (4, 4)).save(tmp_path / "boat.png")
    found = prompts_for(load_suite("i2vgen-xl"), tmp_path / "prompts.txt")
    assert found == [Prompt("a boat", tmp_path / "boat.png"), Prompt("a dog")]


@pytest.mark.parametrize("content", ["[]", "{}", "{", '{"annotations": []}'])
def test_a_file_without_captions_is_refused(tmp_path, content):
    file = tmp_path / "captions.json"
    file.write_text(content)
    with pytest.raises(ValueError, match=r"captions\.json (can't be read|has no prompts)"):
        prompts_for(load_suite("sd15"), file)


@pytest.mark.parametrize("model", PROMPTS)
def test_a_suite_without_prompts_leaves_each_miniature_its_own(model, tmp_path):
    bench = Bench(
        load_suite("overview"), [], Store(tmp_path / "r"), FeatureStore(tmp_path), timed_samples=0
    )
    samples = bench._samples(model, {"prompt": None}, count=8)
    assert [sample.prompt for sample in samples] == list(PROMPTS[model][: len(samples)])
    with pytest.raises(ValueError, match="has no prompts, but someone/else needs some"):
        bench._samples("someone/else", {"prompt": None}, count=8)
    bench.prompts = [Prompt("a boat")]
    samples = bench._samples(model, {"prompt": None}, count=8)
    assert {sample.prompt for sample in samples} == {"a boat"}


def test_a_miniature_has_its_own_guidance_unless_the_suite_says_another(tiny):
    suite = load_suite("overview")
    [cell] = cells_of(suite, "emoji", tiny("sd15"))
    assert (cell.scheduler, cell.steps, cell.guidance) == ("own", 50, GUIDANCE["emoji"])
    [cell] = cells_of(suite, "someone/else", tiny("sd15"))
    assert cell.guidance is None
    [cell] = cells_of(replace(suite, guidance=(1.0,)), "emoji", tiny("sd15"))
    assert cell.guidance == 1
    [cell] = cells_of(suite, "emoji", tiny("ddim"))  # has no guidance at all
    assert cell.guidance is None


def test_rows_are_selected_by_family_or_pattern(tiny):
    rows, _ = all_rows(tiny("sd15"), 12)
    assert len({row.name for row in rows}) == len(rows)
    families = {row.family for row in select(rows, ["ours", "UniPC"])}
    assert families == {FULL.family, "ours", "UniPC"}
    assert [row.name for row in select(rows, ["ours 0.01", "*k=2"])] == [
        "full run",
        "every k-th: reuse k=2",
        "every k-th: forecast k=2",
        "ours 0.01",
    ]
    assert select(rows, ["nothing"]) == [FULL]


def test_all_rows_are_without_those_that_have_to_be_asked_for(tiny):
    rows, _ = all_rows(tiny("sd15"), 48)
    searched = [row for row in rows if row.family.startswith("searched mask")]
    assert [row.calls for row in searched] == [24, 16, 12] * 2
    assert select(rows, ["*"]) == [row for row in rows if row not in searched]
    assert select(rows, ["searched mask: reuse"]) == [FULL, *searched[:3]]
    assert select(rows, ["searched*"]) == [FULL, *searched]
    assert {row.family for row in select(rows, ["*"])} >= {"ours", "ours: nfe", "ours: measured"}
