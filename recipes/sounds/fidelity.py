"""How close accelerated sounds stay to the full run's, beside two other ways at the same cost.

The three are the default policy, fewer steps, and the paper's rule with the threshold that costs
about as much.  PSNR is taken on the log-mel spectrogram of the waveform and, before the vocoder, on
the one that the autoencoder decodes, both in the range [-1, 1]::

    python -m recipes.sounds.fidelity
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

import adaptive_diffusion as ad
from adaptive_diffusion.apps.equal_cost import paper_rule_at
from adaptive_diffusion.apps.loading import load_pipeline
from recipes.sounds.data import SOUNDS
from recipes.sounds.evaluate import GUIDANCE, STEPS, WEIGHTS

PROMPTS = [sound.captions()[0] for sound in SOUNDS[::2]]

Spectrograms = dict[str, torch.Tensor]


def make(pipe: Any, steps: int = STEPS) -> Spectrograms:
    """The spectrograms of all prompts with seeds of their own, before and after the vocoder."""
    decoded: list[torch.Tensor] = []
    hook = pipe.vocoder.register_forward_pre_hook(lambda _, inputs: decoded.append(inputs[0]))
    audios = pipe(
        PROMPTS,
        num_inference_steps=steps,
        guidance_scale=GUIDANCE,
        generator=[torch.Generator().manual_seed(seed) for seed in range(len(PROMPTS))],
    ).audios
    hook.remove()
    return {"decoded": decoded[0], "heard": pipe.vocoder.analyse(torch.from_numpy(audios))}


def compared(made: Spectrograms, full: Spectrograms, nfe: float) -> dict[str, float]:
    """The cost, and mean and worst PSNR in decibels of each kind of spectrogram."""
    row = {"nfe": round(nfe, 2), "nfe_reduction": round(STEPS / nfe, 2)}
    for kind, reference in full.items():
        values = ad.psnr(made[kind], reference, data_range=2.0)
        row[f"{kind}_mean_db"] = round(values.mean().item(), 2)
        row[f"{kind}_worst_db"] = round(values.min().item(), 2)
    return row


def with_policy(pipe: Any, policy: ad.Policy | None = None) -> tuple[Spectrograms, float]:
    """What a policy makes, and its mean number of denoiser calls."""
    with ad.accelerate(pipe, policy) as run:
        made = make(pipe)
    return made, sum(run.report.nfe) / len(PROMPTS)


def papers_rule(pipe: Any, nfe: float) -> ad.ThirdOrder:
    """With the threshold that costs as much as `nfe`, or a little more."""
    return paper_rule_at(nfe, lambda rule: with_policy(pipe, rule)[1], max_skip=6)


def main() -> None:
    """Make all, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    pipe = load_pipeline(str(options.weights))
    full = make(pipe)
    ours, nfe = with_policy(pipe)
    rule = papers_rule(pipe, nfe)
    by_rule, cost = with_policy(pipe, rule)
    figures = {
        "prompts": len(PROMPTS),
        "default": compared(ours, full, nfe),
        "fewer steps": compared(make(pipe, round(nfe)), full, round(nfe)),
        f"paper's rule, threshold {rule.threshold:g}": compared(by_rule, full, cost),
    }
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
