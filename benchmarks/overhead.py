"""What the bookkeeping costs: a pipeline with nothing skipped against the plain one, in one run.

    python benchmarks/overhead.py

A denoiser that only sleeps stands in for a large model: it takes 50 ms and returns noise that
depends on its input, so that everything around it is what is measured. The two runs alternate, and
the medians of the times per step are compared.

What a computed and a skipped step add is measured once more, as processor time, beside a denoiser
that takes none; a skipped step has its share of the backfill. Beside these times stand the
operators that such a step adds, and how often a value is read: on a GPU, each operator is launched,
and a read of a value that is there waits for it. They are counted once for the default and once for
a plan (`nfe`), whose forecasts are weighted sums of the last outputs. Steps of the scheduler that
are taken again count with all that they run and read, as in the plain run: DDIM reads two numbers.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
from diffusers import DDIMPipeline, DDIMScheduler, UNet2DModel
from diffusers.models.unets.unet_2d import UNet2DOutput
from operators import counted

import adaptive_diffusion as ad
from adaptive_diffusion.apps.environment import describe_device

_STEPS = 50  # of the runs whose processor time is measured


class SleepingDenoiser(UNet2DModel):
    """Takes a fixed time and no computation."""

    seconds = 0.05

    def forward(self, sample, timestep, return_dict=True, **_):  # type: ignore[no-untyped-def]
        time.sleep(self.seconds)
        return UNet2DOutput(sample=0.9 * sample) if return_dict else (0.9 * sample,)


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--size", type=int, default=64, help="latents of 4 x SIZE x SIZE")
    parser.add_argument("--out", type=Path, default=Path("out/overhead"))
    arguments = parser.parse_args(words)
    torch.set_num_threads(1)
    plain, enabled = [], []
    for _ in range(arguments.repeats + 1):  # the first of each warms up
        plain.append(seconds_per_step(arguments, enabled=False))
        enabled.append(seconds_per_step(arguments, enabled=True))
    medians = [statistics.median(times[1:]) for times in (plain, enabled)]
    result = {
        "plain_ms_per_step": medians[0] * 1e3,
        "enabled_ms_per_step": medians[1] * 1e3,
        "bookkeeping_percent_of_call": 100 * (medians[1] - medians[0]) / SleepingDenoiser.seconds,
        **processor_time(arguments),
        **counts(arguments),
        "steps": arguments.steps,
        "repeats": arguments.repeats,
        "latents": [1, 4, arguments.size, arguments.size],
        "device": describe_device(torch.device("cpu")),
        "torch": torch.__version__,
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "overhead.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


def seconds_per_step(arguments: argparse.Namespace, enabled: bool) -> float:
    pipe = make_pipeline(arguments.size)
    if enabled:  # measures errors and keeps histories, as always, but skips nothing
        ad.enable(pipe, tolerance=0.0)
    began = time.perf_counter()
    generate(pipe, arguments.steps)
    return (time.perf_counter() - began) / arguments.steps


def processor_time(arguments: argparse.Namespace) -> dict[str, float]:
    """Microseconds that a computed and a skipped step take beside the pipeline's own."""
    policies = {
        "plain": None,
        "computed": ad.ErrorControlled(tolerance=0.0),
        "skipped": ad.ErrorControlled(tolerance=1e9),  # as many as a run may have
    }
    seconds: dict[str, list[float]] = {name: [] for name in policies}
    for _ in range(arguments.repeats + 1):
        for name, policy in policies.items():
            pipe = make_pipeline(arguments.size)
            pipe.unet.seconds = 0
            if policy is not None:
                ad.enable(pipe, policy)
            began = time.process_time()
            generate(pipe, _STEPS)
            seconds[name].append(time.process_time() - began)
    nfe = ad.report(pipe).nfe[0]
    plain, computed, mixed = (statistics.median(times[1:]) for times in seconds.values())
    return {
        f"{kind}_step_adds_us": seconds * 1e6
        for kind, seconds in added(plain, computed, mixed, nfe).items()
    }


def counts(arguments: argparse.Namespace) -> dict[str, float]:
    """How many operators and reads a computed and a skipped step add, on average."""

    def count(policy: ad.Policy | None) -> tuple[dict[str, int], int]:
        pipe = make_pipeline(arguments.size)
        pipe.unet.seconds = 0
        if policy is not None:
            ad.enable(pipe, policy)
        generate(pipe, _STEPS)  # a plan is made, and weights are
        with counted() as found:
            generate(pipe, _STEPS)
        reads = found.pop("reads")
        nfe = _STEPS if policy is None else ad.report(pipe).nfe[0]
        return {"operators": found.total(), "reads": reads}, nfe

    plain, _ = count(None)
    result = {f"plain_step_{what}": own / _STEPS for what, own in plain.items()}
    for name, full, skipping in (
        ("default", ad.ErrorControlled(tolerance=0.0), ad.ErrorControlled(tolerance=1e9)),
        ("planned", ad.Planned(_STEPS), ad.Planned(_STEPS // 3)),
    ):
        computed, (mixed, nfe) = count(full)[0], count(skipping)
        # a skipped step has no call of the denoiser, whose one operator is in the plain run
        for what, own in plain.items():
            for kind, adds in added(own, computed[what], mixed[what], nfe).items():
                result[f"{name}_{kind}_step_adds_{what}"] = adds
    return result


def added(plain: float, computed: float, mixed: float, nfe: int) -> dict[str, float]:
    """What one computed and one skipped step add.

    Args:
        plain: of the whole run without acceleration.
        computed: of the run that skips nothing.
        mixed: of the run with so many (`nfe`) computed steps.
    """
    adds = (computed - plain) / _STEPS
    return {"computed": adds, "skipped": (mixed - plain - nfe * adds) / (_STEPS - nfe)}


def generate(pipe: DDIMPipeline, steps: int) -> None:
    pipe(num_inference_steps=steps, generator=torch.manual_seed(0), output_type="np")


def make_pipeline(size: int) -> DDIMPipeline:
    denoiser = SleepingDenoiser(
        sample_size=size,
        in_channels=4,
        out_channels=4,
        block_out_channels=(8,),
        norm_num_groups=4,
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
    )
    pipe = DDIMPipeline(denoiser, DDIMScheduler())
    pipe.set_progress_bar_config(disable=True)
    return pipe


if __name__ == "__main__":
    main()
