r"""What can be measured of a model: how its outputs go together, and what becomes of an error.

For the outputs :math:`e_k` that a solver is given in a loop of N steps (the velocities that they
predict, where it adds noise) these are

- the **kernel** :math:`K_{ij} = \mathrm{mean}\,\langle e_i, e_j \rangle / D`, an N × N matrix;
- the **moves** :math:`b_k = \langle\delta x_{k+1}, \delta e_k\rangle / \lVert\delta e_k\rVert^2`:
  how far an error in output k moves the next sample;
- the **effects** :math:`w_k`: the relative error in the result for an error of one in output k;
- the **responses** :math:`\rho_k = \langle\delta e_k, \delta x_k\rangle / \lVert\delta x_k\rVert^2`
  and the **deviations** :math:`s_k = \lVert\delta e_k - \rho_k\delta x_k\rVert / \lVert\delta
  x_k\rVert`: how the output at step k answers a small displacement of its sample, along it and
  across.

A run of skips between the computed steps a and j gets forecasts from the outputs up to a, and
later interpolations, for which j's output is known as well. Let :math:`r_k` be the error of
interpolation k and :math:`f_k` that of the forecast, both linear in the outputs, so that the kernel
says how large any sum of them is. Then the run leaves

.. math:: \ell = \sum_k w_k r_k, \qquad d = \sum_k b_k f_k, \qquad c = \sum_k b_k (f_k - r_k)

in the result, in the sample for which the output at j is computed, and of the latter what backfill
takes out again. The output at j is wrong by :math:`(\rho_j^2 + s_j^2)^{1/2}\,|d|` when the run is
interpolated to it. It is then moved by :math:`\rho_j c`, so that :math:`s_j |c|` is left in it.
That goes into the result, and into all forecasts which are made of that output. At high guidance
these errors grow from run to run.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import ClassVar

import torch
from torch import Tensor

from adaptive_diffusion.numerics.interpolation import lagrange_weights
from adaptive_diffusion.numerics.kriging import kriging_weights
from adaptive_diffusion.numerics.linear_response import LinearResponse
from adaptive_diffusion.numerics.noise_schedule import NoiseSchedule
from adaptive_diffusion.numerics.planning import KNOWN, Plan

__all__ = ["NUGGET", "LoopStatistics", "Statistics", "Terms", "kernel_of"]

Terms = tuple[tuple[float, float], ...]
"""`(A, B)` for every step: `A x + B e` is forecast, of the sample x and the output e."""

NUGGET = 1e-4
"""Where none was chosen by trial."""
_ALIKE = 0.7  # how far it is believed that errors of different runs cancel, or add up
_SMALLEST_GAIN = 1e-9
_CHUNK = 1 << 18  # numbers of each output that are multiplied at a time


@dataclass(frozen=True)
class _Run:
    """Errors of one run of skips; those per node go through the same steps as `nodes`.

    Attributes:
        nodes: the computed steps that the run is interpolated from, the one after it first.
        left: of every output, how much of it is in the result too much.
        left_square: the mean square of that.
        displaced: the mean square of d.
        corrected: the mean square of c.
        in_result: of an error in each node's output, how much the result gets through the run.
        in_displaced: the same of d; nothing of the first node.
        in_corrected: the same of c.
    """

    nodes: Plan
    left: Tensor
    left_square: float
    displaced: float
    corrected: float
    in_result: list[float]
    in_displaced: list[float]
    in_corrected: list[float]


@dataclass(frozen=True, eq=False)
class Statistics:
    """Of one stream of outputs in a loop of N steps.

    Attributes:
        coordinates: where the outputs stand, as in `NoiseSchedule`; N numbers.
        gains: of the schedule, likewise.
        kernel: `(N, N)`, float64, on the CPU.
        moves: N numbers.
        effects: N numbers.
        responses: N numbers.
        deviations: N numbers.
        nugget: how far outputs of an accelerated run differ from a full run's, relative to their
            mean square; the larger, the less do forecasts swing.
        scales: how large samples were, as in `NoiseSchedule`; N numbers, or None.
        noisy: whether the solver added noise, so that velocities were measured.
    """

    coordinates: tuple[float, ...]
    gains: tuple[float, ...]
    kernel: Tensor
    moves: tuple[float, ...]
    effects: tuple[float, ...]
    responses: tuple[float, ...]
    deviations: tuple[float, ...]
    nugget: float = NUGGET
    scales: tuple[float, ...] | None = None
    noisy: bool = False

    remembers: ClassVar[int] = KNOWN

    @property
    def has_answers(self) -> bool:
        """Whether it was measured how outputs answer a displaced sample; else it is assumed."""
        return any(self.deviations)

    @classmethod
    def of_values(
        cls,
        schedule: NoiseSchedule,
        terms: Terms,
        kernel: Tensor,
        moves: Sequence[float],
        effects: Sequence[float],
        responses: Sequence[float],
        deviations: Sequence[float],
        noisy: bool = False,
    ) -> Statistics:
        """Of the values `A x + B e` that are forecast, from what holds for the outputs e.

        The kernel is the values' already. There is one of `terms` for each step that was taken, of
        which `schedule` may have more.
        """
        steps = len(terms)
        return cls(
            schedule.coordinates[:steps],
            schedule.gains[:steps],
            kernel,
            tuple(move / b for move, (_, b) in zip(moves, terms, strict=True)),
            tuple(effect / abs(b) for effect, (_, b) in zip(effects, terms, strict=True)),
            tuple(a + b * response for response, (a, b) in zip(responses, terms, strict=True)),
            tuple(abs(b) * each for each, (_, b) in zip(deviations, terms, strict=True)),
            scales=None if schedule.scales is None else schedule.scales[:steps],
            noisy=noisy,
        )

    def __len__(self) -> int:
        return len(self.coordinates)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Statistics):
            return NotImplemented
        numbers = [field.name for field in fields(self) if field.name != "kernel"]
        return torch.equal(self.kernel, other.kernel) and all(
            getattr(self, name) == getattr(other, name) for name in numbers
        )

    def __hash__(self) -> int:
        return hash((self.coordinates, self.effects, self.nugget))

    def weights(self, nodes: Sequence[int], at: int) -> list[float]:
        """Of the outputs at `nodes` in the one at another step."""
        return self._weights(tuple(nodes), at)

    def run_cost(self, known: Plan, following: int) -> float:
        """Of the skips between known[0] and `following`; `known` has the latest step first."""
        run = self._run(known, following)
        answer, deviation = self._answer(following), self.deviations[following]
        return (
            run.left_square
            + (run.in_result[0] * answer) ** 2 * run.displaced
            + (self.effects[following] * deviation) ** 2 * run.corrected
        )

    def plan_cost(self, plan: Plan) -> float:
        """The mean square of the result's relative error, by all skips of a plan together."""
        left = torch.zeros(len(self), dtype=torch.float64)
        apart = others = 0.0
        wrong = dict.fromkeys(plan, 0.0)  # mean square of what is wrong in a computed output
        share = {step: self.effects[step] for step in plan}  # that the result has of it
        for k in range(1, len(plan)):
            if plan[k] == plan[k - 1] + 1:
                continue
            run = self._run(plan[max(0, k - KNOWN) : k][::-1], plan[k])
            left = left + run.left
            apart += run.left_square
            displaced = run.displaced + _carried(run.in_displaced, run.nodes, wrong)
            answered = self._answer(plan[k]) ** 2 * displaced
            corrected = run.corrected + _carried(run.in_corrected[1:], run.nodes[1:], wrong)
            corrected += run.in_corrected[0] ** 2 * answered
            others += run.in_result[0] ** 2 * answered
            for step, part in zip(run.nodes[1:], run.in_result[1:], strict=True):
                share[step] += part
            wrong[plan[k]] = self.deviations[plan[k]] ** 2 * corrected
        together = self._square(left)
        others += sum(share[step] ** 2 * wrong[step] for step in plan)
        return _ALIKE * together + (1 - _ALIKE) * apart + others

    def distance(self, schedule: NoiseSchedule) -> float:
        """How far another loop is from this one, by its ends and its number of steps.

        Zero for the same loop.
        """
        ends = self.coordinates[0], self.coordinates[-1]
        others = schedule.coordinates[0], schedule.coordinates[-1]
        span = abs(ends[0] - ends[1]) or 1.0
        gaps = sum(abs(a - b) for a, b in zip(ends, others, strict=True)) / span
        return gaps + abs(math.log(len(schedule) / len(self)))

    def on(self, schedule: NoiseSchedule) -> Statistics:
        """The same model's statistics in a loop of other steps, interpolated over the coordinates.

        Outputs between those measured are taken to be cubic interpolations of these. What an error
        does is taken to go with the gain of its step. Where the solver keeps its samples in another
        scale, a step moves them by so much more, and outputs answer so much less. Where it is known
        how the solver answers its outputs, an error counts at least by what that makes of it.
        """
        there = self if self._is_of(schedule) else self._moved_to(schedule)
        return there if schedule.response is None else there._answered_by(schedule.response)

    def _moved_to(self, schedule: NoiseSchedule) -> Statistics:
        at = _scaled(schedule.coordinates, self.coordinates)
        cubic = _interpolation(self.coordinates, at, 4)
        linear = _interpolation(self.coordinates, at, 2)

        def by_gain(values: tuple[float, ...]) -> tuple[float, ...]:
            shares = [v / max(g, _SMALLEST_GAIN) for v, g in zip(values, self.gains, strict=True)]
            found = (linear @ torch.tensor(shares, dtype=torch.float64)).tolist()
            return tuple(share * gain for share, gain in zip(found, schedule.gains, strict=True))

        def directly(values: tuple[float, ...]) -> tuple[float, ...]:
            return tuple((linear @ torch.tensor(values, dtype=torch.float64)).tolist())

        larger = self._samples_beside(schedule, linear)
        responses, deviations = directly(self.responses), directly(self.deviations)
        return Statistics(
            schedule.coordinates,
            schedule.gains,
            cubic @ self.kernel @ cubic.T,
            tuple(move * each for move, each in zip(by_gain(self.moves), larger, strict=True)),
            by_gain(self.effects),
            tuple(value / each for value, each in zip(responses, larger, strict=True)),
            tuple(value / each for value, each in zip(deviations, larger, strict=True)),
            self.nugget,
            schedule.scales,
            self.noisy,
        )

    def _answered_by(self, response: LinearResponse) -> Statistics:
        """With effects no smaller than in a loop of that response whose outputs answer as measured.

        A solver of high order draws differences of outputs out. Where outputs answer strongly, too,
        that makes errors grow from step to step, which no measurement in another loop has seen. The
        last step's effect, which nothing follows, says how large a result is.
        """
        responses = torch.tensor(self.responses, dtype=torch.float64)
        answered = response.answered(responses).matrix[-1].sum(dim=1).abs().tolist()
        result = self.effects[-1] / max(self.gains[-1], _SMALLEST_GAIN)
        made = [result * each for each in answered]
        return replace(self, effects=tuple(map(max, self.effects, made)))

    def _samples_beside(self, schedule: NoiseSchedule, linear: Tensor) -> list[float]:
        """How large a loop's samples are beside those measured at the same noise."""
        if self.scales is None or schedule.scales is None:
            return [1.0] * len(schedule)
        measured = (linear @ torch.tensor(self.scales, dtype=torch.float64)).tolist()
        return [here / there for here, there in zip(schedule.scales, measured, strict=True)]

    def _is_of(self, schedule: NoiseSchedule) -> bool:
        """Whether that is the measured loop; its pipeline may have left out the last step."""
        taken = len(self)
        return (
            len(schedule) - taken in (0, 1)
            and schedule.coordinates[:taken] == self.coordinates
            and schedule.gains[:taken] == self.gains
            and self._has_scales_of(schedule)
        )

    def _has_scales_of(self, schedule: NoiseSchedule) -> bool:
        if self.scales is None or schedule.scales is None:
            return True
        pairs = zip(schedule.scales, self.scales, strict=False)
        return all(math.isclose(here, there, rel_tol=1e-3) for here, there in pairs)

    def _answer(self, step: int) -> float:
        return math.hypot(self.responses[step], self.deviations[step])

    @functools.lru_cache(maxsize=1 << 16)  # noqa: B019  statistics live as long as their plans
    def _run(self, known: Plan, following: int) -> _Run:
        skipped = list(range(known[0] + 1, following))
        nodes = (following, *known)
        effects, moves = (
            torch.tensor([values[k] for k in skipped], dtype=torch.float64)
            for values in (self.effects, self.moves)
        )
        between = kriging_weights(self.kernel, nodes, skipped, self.nugget)
        ahead = torch.zeros_like(between)
        ahead[1:] = kriging_weights(self.kernel, known, skipped, self.nugget)
        in_result, in_displaced = between @ effects, ahead @ moves
        in_corrected = in_displaced - between @ moves
        left, displaced, corrected = (torch.zeros(len(self), dtype=torch.float64) for _ in range(3))
        left[skipped], displaced[skipped] = effects, moves
        left[list(nodes)] = -in_result
        displaced[list(nodes)] = -in_displaced
        corrected[list(nodes)] = -in_corrected
        return _Run(
            nodes,
            left,
            self._square(left),
            self._square(displaced),
            self._square(corrected),
            in_result.tolist(),
            in_displaced.tolist(),
            in_corrected.tolist(),
        )

    def _square(self, error: Tensor) -> float:
        return float(error @ self.kernel @ error)

    @functools.lru_cache(maxsize=1 << 12)  # noqa: B019
    def _weights(self, nodes: Plan, at: int) -> list[float]:
        return kriging_weights(self.kernel, nodes, [at], self.nugget)[:, 0].tolist()


LoopStatistics = tuple[Statistics, ...]
"""Of a loop's streams, in the order in which they come."""


def kernel_of(outputs: Sequence[Tensor]) -> Tensor:
    """`⟨e_i, e_j⟩ / D` of one run's N outputs of any one shape: `(N, N)`, float64, on the CPU."""
    flat = [output.reshape(-1) for output in outputs]
    total = torch.zeros(len(flat), len(flat), dtype=torch.float64)
    for start in range(0, len(flat[0]), _CHUNK):
        rows = torch.stack([row[start : start + _CHUNK] for row in flat]).double()
        total += (rows @ rows.T).cpu()
    return (total + total.T) / (2 * len(flat[0]))


def _carried(parts: Sequence[float], nodes: Plan, wrong: dict[int, float]) -> float:
    return sum(part**2 * wrong[step] for part, step in zip(parts, nodes, strict=True))


def _scaled(coordinates: Sequence[float], measured: Sequence[float]) -> list[float]:
    """Where a loop's coordinates lie among those measured; its ends, where levels aren't known."""
    if all(at == step for step, at in enumerate(measured)):
        factor = (len(measured) - 1) / max(1, len(coordinates) - 1)
        return [at * factor for at in coordinates]
    return list(coordinates)


def _interpolation(nodes: Sequence[float], at: Sequence[float], order: int) -> Tensor:
    """Weights of values at monotonic `nodes` in those `at` other places: `(at, nodes)`, float64.

    Through the `order` nearest nodes; beyond the ends, the value there.
    """
    weights = torch.zeros(len(at), len(nodes), dtype=torch.float64)
    low, high = min(nodes), max(nodes)
    for row, place in zip(weights, at, strict=True):
        inside = min(max(place, low), high)
        nearest = sorted(range(len(nodes)), key=lambda node: abs(nodes[node] - inside))[:order]
        near = [nodes[node] for node in nearest]
        row[nearest] = torch.tensor(lagrange_weights(near, inside), dtype=torch.float64)
    return weights
