"""Draws what was measured of the miniatures, from the profiles beside their weights.

Three panels over the steps: what is left of an error in the result, how the outputs answer a
displaced sample, and how far an output is from its forecast three steps ahead, with measured
weights and by a line::

    python benchmarks/measured_statistics.py docs/images/statistics.png
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib
import torch

matplotlib.use("Agg")
from matplotlib import pyplot

from adaptive_diffusion import Profile
from adaptive_diffusion.miniatures import pipeline_miniatures
from adaptive_diffusion.numerics.interpolation import lagrange_weights
from adaptive_diffusion.numerics.statistics import Statistics
from adaptive_diffusion.published import FILE

AHEAD = 3


def forecast_errors(stream: Statistics, steps: range, by_line: bool) -> list[float]:
    """Of each step from every third computed before it, relative to the output's size."""
    errors = []
    for step in steps:
        nodes = [step - AHEAD * m for m in range(1, 3 if by_line else 5) if step >= AHEAD * m]
        if by_line:
            places = [stream.coordinates[node] for node in nodes]
            weights = lagrange_weights(places, stream.coordinates[step])
        else:
            weights = stream.weights(nodes, step)
        error = torch.zeros(len(stream), dtype=torch.float64)
        error[step] = 1.0
        error[nodes] = -torch.tensor(weights, dtype=torch.float64)
        square = float(error @ stream.kernel @ error) / float(stream.kernel[step, step])
        errors.append(max(square, 0.0) ** 0.5)
    return errors


def main() -> None:
    """Draws the figure."""
    figure, (left, middle, right) = pyplot.subplots(1, 3, figsize=(13, 3.6), layout="constrained")
    for name, folder in pipeline_miniatures().items():
        if not (folder / FILE).exists():
            continue
        measured = Profile.from_pretrained(folder, steps=50).measured
        assert measured is not None
        stream = measured.loops[0][0]
        shares = [w / max(g, 1e-9) for w, g in zip(stream.effects, stream.gains, strict=True)]
        scale = shares[-2]
        left.plot([share / scale for share in shares[:-1]], label=name)
        middle.plot(stream.responses)
        steps = range(2 * AHEAD, len(stream))
        (line,) = right.plot(steps, forecast_errors(stream, steps, by_line=False))
        right.plot(
            steps,
            forecast_errors(stream, steps, by_line=True),
            color=line.get_color(),
            linewidth=0.7,
            linestyle="--",
        )
    left.set(title="effect of an error over the gain, last step = 1", xlabel="step", yscale="log")
    middle.set(title="response of the output to its sample", xlabel="step", ylim=(-5, 12))
    right.set(
        title=f"forecast {AHEAD} steps ahead: error (dashed: line)", xlabel="step", yscale="log"
    )
    left.legend(fontsize=7)
    figure.savefig(Path(sys.argv[1]), dpi=110)


if __name__ == "__main__":
    main()
