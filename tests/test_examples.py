"""The examples run, and what they print is what the README promises."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import torch
from samplers import import_without_extras

import adaptive_diffusion as ad

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.parametrize("name", ["one_line", "own_loop", "plan_paths"])
def test_example_is_faster_and_close(name: str) -> None:
    """Each compares a full and an accelerated run, and leaves both behind."""
    left = runpy.run_path(str(EXAMPLES / f"{name}.py"))
    report = left["run"].report if "run" in left else left["denoise"].report()
    assert report.nfe_reduction > 1.5
    difference = (left["fast"] - left["full"]).abs().mean()
    assert 0 < difference < 0.02


@pytest.mark.parametrize(
    ("name", "module", "distribution", "needed"),
    [
        ("k_diffusion", "k_diffusion.sampling", "k-diffusion", "torchsde"),
        ("azula", "azula.sample", "azula", "einops"),
        ("smalldiffusion", "smalldiffusion", "smalldiffusion", "accelerate"),
    ],
)
def test_loops_of_others(name: str, module: str, distribution: str, needed: str) -> None:
    """With the libraries that are installed; what they need for other things is stood in for."""
    import_without_extras(module, distribution, needed)
    example = runpy.run_path(str(EXAMPLES / "loops_of_others.py"))
    with torch.no_grad():
        fast, report, full = example[name]()
    print(name, report.nfe, ad.psnr(fast, full, data_range=2.0))
    assert not report.notes
    assert report.nfe_reduction > 2.5
    assert ad.psnr(fast, full, data_range=2.0).mean() > 40
