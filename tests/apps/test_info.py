"""`adaptive-diffusion info`, help, and what the display makes of masks."""

from __future__ import annotations

import io

import pytest
import torch
from rich.console import Console

import adaptive_diffusion
from adaptive_diffusion.apps.display import StepProgress
from adaptive_diffusion.apps.schedulers import SCHEDULERS
from adaptive_diffusion.miniatures import miniatures


def test_info_names_versions_extras_and_miniatures(cli):
    done = cli("info")
    assert done.code == 0
    for word in (adaptive_diffusion.__version__, torch.__version__, "cpu", "[cli]", *miniatures()):
        assert word in done.out


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",)])
def test_help_lists_the_commands(cli, arguments):
    done = cli(*arguments)
    assert done.code == 0
    for command in ("generate", "compare", "info"):
        assert command in done.out


def test_every_scheduler_is_in_the_help_and_in_diffusers(cli):
    import diffusers

    words = cli("generate", "--help").out
    for name, (class_name, _) in SCHEDULERS.items():
        assert name in words
        assert hasattr(diffusers, class_name)


def test_the_bar_shows_computed_and_skipped_steps_as_they_happen():
    console = Console(file=io.StringIO(), width=80)
    with StepProgress(console) as progress:
        on_step = progress.follow("1/2", 6)
        for done in range(1, 5):
            on_step([[True, True, False, False][:done], [True, False, False, True][:done]])
    assert console.file.getvalue().split("\n")[0] == "1/2 █▒░▒·· computed 2 skipped 2"


def test_a_bar_for_many_steps_fits_the_line():
    console = Console(file=io.StringIO(), width=80)
    with StepProgress(console) as progress:
        progress.follow("1/1", 1000)([[True, False] * 500])
    assert max(map(len, console.file.getvalue().splitlines())) <= 80
