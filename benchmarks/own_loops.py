"""How close accelerated loops of one's own come: paths (`motions`) and digits, in one run.

    python benchmarks/own_loops.py

Each loop is run in full, with `AdaptiveDenoiser` that knows the loop's step and that does not, with
fewer steps, with every k-th step computed and the rest forecast, and by the paper's rule. The
thresholds and step counts are those that cost at least as many denoiser evaluations as ours.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

import adaptive_diffusion as ad
from adaptive_diffusion.apps.environment import describe_device
from adaptive_diffusion.apps.equal_cost import paper_rule_at
from adaptive_diffusion.miniatures.motions import Motions, euler
from adaptive_diffusion.miniatures.rooms import Rooms
from adaptive_diffusion.policies.error_controlled import QUALITIES

ROOMS_SEED = 2  # neither trained in nor evaluated in
FAITHFUL = ad.ErrorControlled(QUALITIES["faithful"])


@dataclass
class Loop:
    """A sampling loop, as `run(steps, denoiser, step)`, and what it needs to be accelerated."""

    name: str
    denoiser: Callable[..., Tensor]
    times: Callable[[int], list[float]]
    schedule: Callable[[int], ad.NoiseSchedule]
    step: Callable[[int], Callable[[Tensor, float, Tensor], Tensor]]
    run: Callable[[int, Callable[..., Tensor], Callable[..., Tensor]], Tensor]


def motions_loop(samples: int) -> Loop:
    motions: Motions = ad.load_miniature("motions")
    rooms, noise = Rooms.random(samples, ROOMS_SEED), motions.noise(range(samples))
    return Loop(
        "motions",
        motions.denoiser,
        motions.times,
        motions.schedule,
        euler,
        lambda steps, denoiser, step: motions.sample(rooms, noise, steps, denoiser, step),
    )


def digits_loop(samples: int) -> Loop:
    """DDIM, as in examples/own_loop.py."""
    digits = ad.load_miniature("digits")
    cumulative = digits.scheduler.alphas_cumprod.double()
    noise = torch.randn(samples, 1, 8, 8, generator=torch.Generator().manual_seed(0))

    def times(steps: int) -> list[float]:
        return [float(math.ceil(1000 * (1 - i / steps)) - 1) for i in range(steps)]

    def levels(steps: int) -> tuple[list[float], list[float]]:
        left = cumulative[[int(t) for t in times(steps)]]
        return [*left.sqrt().tolist(), 1.0], [*(1 - left).sqrt().tolist(), 0.0]

    def schedule(steps: int) -> ad.NoiseSchedule:
        return ad.NoiseSchedule.from_levels(*levels(steps), "epsilon")

    def ddim(steps: int) -> Callable[[Tensor, float, Tensor], Tensor]:
        signal, sigma = levels(steps)
        position = {t: i for i, t in enumerate(times(steps))}

        def step(predicted: Tensor, t: float, x: Tensor) -> Tensor:
            i = position[t]
            clean = (x - sigma[i] * predicted) / signal[i]
            return signal[i + 1] * clean + sigma[i + 1] * predicted

        return step

    @torch.no_grad()
    def run(steps: int, denoiser: Callable[..., Tensor], step: Callable[..., Tensor]) -> Tensor:
        x = noise
        for t in times(steps):
            x = step(denoiser(x, t), t, x)
        return x

    return Loop("digits", lambda x, t: digits.unet(x, t).sample, times, schedule, ddim, run)


def accelerated(
    loop: Loop, steps: int, policy: ad.Policy, with_step: bool
) -> tuple[Tensor, ad.Report]:
    step = loop.step(steps)
    denoise = ad.AdaptiveDenoiser(loop.denoiser, policy, step if with_step else None)
    denoise.start(loop.times(steps), loop.schedule(steps))
    result = loop.run(steps, denoise, denoise.step if with_step else step)
    return result, denoise.report()


def study(loop: Loop, steps: int, policy: ad.Policy) -> list[dict]:
    """Every way to run the loop, at the cost of ours or more."""
    full = loop.run(steps, loop.denoiser, loop.step(steps))
    rows: list[dict] = []

    def add(way: str, result: Tensor, nfe: float) -> None:
        fidelity = ad.psnr(result, full, data_range=2.0).sort().values
        worst_tenth = fidelity[: max(1, len(fidelity) // 10)].mean()
        rows.append(
            {
                "loop": loop.name,
                "steps": steps,
                "way": way,
                "nfe": round(nfe, 2),
                "fewer": round(steps / nfe, 2),
                "psnr_db": round(float(fidelity.mean()), 1),
                "worst_tenth_db": round(float(worst_tenth), 1),
                "worst_db": round(float(fidelity[0]), 1),
            }
        )
        print(rows[-1], flush=True)

    for name, own, with_step in (
        ("ours", policy, True),
        ("ours, step not given", policy, False),
        ("ours, faithful", FAITHFUL, True),
    ):
        result, report = accelerated(loop, steps, own, with_step)
        add(name, result, _mean(report.nfe))
    enough = rows[0]["nfe"]
    fewer = math.ceil(enough)
    add("fewer steps", loop.run(fewer, loop.denoiser, loop.step(fewer)), fewer)
    every, mask = 1, [True] * steps
    while sum(sparser := every_kth(every + 1, steps)) >= enough:
        every, mask = every + 1, sparser
    result, report = accelerated(loop, steps, ad.FixedSchedule(mask, backfill=False), False)
    add(f"every {every}th call, linear forecast", result, _mean(report.nfe))
    rule = papers_rule(loop, steps, enough)
    result, report = accelerated(loop, steps, rule, with_step=False)
    add(f"the paper's rule, threshold {rule.threshold:g}", result, _mean(report.nfe))
    return rows


def every_kth(k: int, steps: int) -> list[bool]:
    """Every k-th step, and those that a line needs: the first two and the last."""
    return [i < 2 or i % k == 0 or i == steps - 1 for i in range(steps)]


def papers_rule(loop: Loop, steps: int, enough: float) -> ad.ThirdOrder:
    """With the threshold that costs as much, or a little more."""

    def cost(rule: ad.ThirdOrder) -> float:
        return _mean(accelerated(loop, steps, rule, with_step=False)[1].nfe)

    return paper_rule_at(enough, cost, max_skip=6)


def _mean(numbers: list[int]) -> float:
    return sum(numbers) / len(numbers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--tolerance", type=float, default=ad.ErrorControlled().tolerance)
    parser.add_argument("--out", type=Path, default=Path("out/own-loops"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    policy = ad.ErrorControlled(options.tolerance)
    rows = [
        row
        for loop in (motions_loop(options.samples), digits_loop(options.samples))
        for steps in (50, 100)
        for row in study(loop, steps, policy)
    ]
    result = {
        "samples": options.samples,
        "tolerance": options.tolerance,
        "data_range": 2.0,
        "device": describe_device(torch.device("cpu")),
        "torch": torch.__version__,
        "rows": rows,
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "own-loops.json").write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
