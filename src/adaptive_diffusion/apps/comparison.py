"""Full and accelerated runs of the same samples: how much faster, and how close.

For every sample, and always against the same model's own full run with the same seed:

1. Each way of running the model makes its decoded picture, clip or sound, which also warms it up.
2. The ways are timed in alternation, so that a machine that slows down slows all of them. The
   median of the repeats counts. Timed is the denoising loop: from the first denoiser call to the
   end of the pipeline's call, without decoding where the pipeline can leave that out.

Samples are run one at a time: in a batch a step is only saved when all of its samples skip it, and
a prompt would have no time of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from adaptive_diffusion.apps.closeness import closeness
from adaptive_diffusion.apps.equal_cost import paper_rule_at
from adaptive_diffusion.apps.media import Medium
from adaptive_diffusion.apps.sampling import Sample, Sampler
from adaptive_diffusion.policies import Policy, ThirdOrder

__all__ = ["Comparison", "Result", "Variant", "compare"]

_PROBES = 8  # runs of each sample that the search for the paper's threshold may take


@dataclass(frozen=True)
class Variant:
    """One way to run the model."""

    name: str
    steps: int
    policy: Policy | None = None


@dataclass(frozen=True)
class Result:
    """What a variant did with every sample; the lists have one entry per sample.

    Attributes:
        variant: how the model was run.
        masks: which steps called the denoiser.
        seconds: median wall-clock time of a call.
        psnr_db: against the full run, as `closeness` has it; infinite where the two are identical.
        ssim: against the full run; NaN below 11 pixels.
    """

    variant: Variant
    masks: list[list[bool]]
    seconds: list[float]
    psnr_db: list[float]
    ssim: list[float]

    @property
    def nfe(self) -> list[int]:
        """Denoiser evaluations."""
        return [sum(mask) for mask in self.masks]

    @property
    def identical(self) -> bool:
        """Whether every sample is the full run's to the last bit."""
        return all(value == math.inf for value in self.psnr_db)

    @property
    def mean_psnr_db(self) -> float:
        """Mean over the samples that differ from the full run's; infinite if none does."""
        different = [value for value in self.psnr_db if value != math.inf]
        return fmean(different) if different else math.inf

    @property
    def mean_ssim(self) -> float:
        """Mean over all samples; NaN if one has none."""
        return fmean(self.ssim)


@dataclass(frozen=True)
class Comparison:
    """The results of all variants, and what the first three made.

    Attributes:
        references: made by the full runs.
        made: by the accelerated ones.
        made_in_fewer: by the same scheduler in as many steps as the accelerated runs made
            evaluations.
        baselines: fewer steps, and the paper's rule if it was asked for.
    """

    samples: list[Sample]
    full: Result
    accelerated: Result
    baselines: list[Result]
    references: list[Medium]
    made: list[Medium]
    made_in_fewer: list[Medium]
    repeats: int
    times_loop_alone: bool
    notes: list[str]

    @property
    def fewer(self) -> Result:
        """Fewer steps at the same cost."""
        return self.baselines[0]

    def nfe_reduction(self, result: Result, index: int | None = None) -> float:
        """Evaluations of the full run over those of `result`: of one sample, or of all together."""
        return _ratio(self.full.nfe, result.nfe, index)

    def speedup(self, result: Result, index: int | None = None) -> float:
        """Seconds of the full run over those of `result`: of one sample, or of all together."""
        return _ratio(self.full.seconds, result.seconds, index)


def compare(
    sampler: Sampler,
    samples: Sequence[Sample],
    policy: Policy,
    *,
    repeats: int = 1,
    paper_rule: bool = False,
    max_skip: int | None = None,
    notes: Sequence[str] = (),
    notify: Callable[[str], None] = lambda _: None,
) -> Comparison:
    """Runs and measures.

    Args:
        sampler: the pipeline with its settings.
        samples: what to make.
        policy: the acceleration in question.
        repeats: how often every variant is timed.
        paper_rule: whether to search for the threshold at which the paper's rule makes as many
            evaluations, too. That takes up to eight more runs of every sample.
        max_skip: the longest run of skips of the paper's rule; its default if None.
        notes: what is to be known of the policy.
        notify: told what is being done.
    """
    steps = sampler.settings.steps
    study = _Study(sampler, list(samples), notify)
    study.make(Variant("full", steps))
    study.make(Variant("accelerated", steps, policy))
    mean_nfe = fmean(sum(mask) for mask in study.masks["accelerated"])
    loop_length = len(study.masks["accelerated"][0])
    study.make(Variant("fewer steps", math.ceil(steps * mean_nfe / loop_length)))
    if paper_rule and not isinstance(policy, ThirdOrder):
        study.make(Variant("paper's rule", steps, study.paper_rule(mean_nfe, max_skip)))
    study.time(repeats)
    full, accelerated, *others = study.results()
    return Comparison(
        samples=study.samples,
        full=full,
        accelerated=accelerated,
        baselines=others,
        references=study.made["full"],
        made=study.made["accelerated"],
        made_in_fewer=study.made["fewer steps"],
        repeats=repeats,
        times_loop_alone=sampler.times_loop_alone,
        notes=[*notes, *study.notes],
    )


class _Study:
    """Runs the variants and keeps what each one gave, by its name."""

    def __init__(
        self, sampler: Sampler, samples: list[Sample], notify: Callable[[str], None]
    ) -> None:
        self.samples = samples
        self.made: dict[str, list[Medium]] = {}
        self.masks: dict[str, list[list[bool]]] = {}
        self.notes: list[str] = []
        self._variants: list[Variant] = []
        self._seconds: dict[str, list[float]] = {}
        self._sampler = sampler
        self._notify = notify

    def make(self, variant: Variant) -> None:
        """The variant's decoded samples."""
        made, masks = [], []
        for index, sample in enumerate(self.samples):
            self._notify(f"{variant.name}: sample {index + 1} of {len(self.samples)}")
            batch = self._sampler.run([sample], variant.policy, steps=variant.steps)
            assert batch.made is not None
            made.append(batch.made[0])
            masks.append(batch.masks[0])
            self.notes += [note for note in batch.notes if note not in self.notes]
        self._variants.append(variant)
        self.made[variant.name], self.masks[variant.name] = made, masks

    def paper_rule(self, target: float, max_skip: int | None) -> ThirdOrder:
        """The paper's rule at a number of evaluations."""
        probe = 0

        def cost(rule: ThirdOrder) -> float:
            nonlocal probe
            probe += 1
            self._notify(f"paper's rule: threshold {probe} of at most {_PROBES}")
            return fmean(
                sum(self._sampler.run([sample], rule, decode=False).masks[0])
                for sample in self.samples
            )

        options = {} if max_skip is None else {"max_skip": max_skip}
        return paper_rule_at(target, cost, _PROBES, **options)

    def time(self, repeats: int) -> None:
        """Times the variants in alternation."""
        self._seconds = {variant.name: [] for variant in self._variants}
        for index, sample in enumerate(self.samples):
            taken: dict[str, list[float]] = {variant.name: [] for variant in self._variants}
            for repeat in range(repeats):
                self._notify(
                    f"timing: sample {index + 1} of {len(self.samples)}, "
                    f"round {repeat + 1} of {repeats}"
                )
                for variant in self._variants:
                    batch = self._sampler.run(
                        [sample], variant.policy, steps=variant.steps, decode=False
                    )
                    taken[variant.name].append(batch.seconds)
            for name, seconds in taken.items():
                self._seconds[name].append(median(seconds))

    def results(self) -> list[Result]:
        """One per variant, in the order they were made."""
        return [self._result(variant) for variant in self._variants]

    def _result(self, variant: Variant) -> Result:
        pairs = zip(self.made[variant.name], self.made["full"], strict=True)
        fidelity = [closeness(made, reference) for made, reference in pairs]
        return Result(
            variant=variant,
            masks=self.masks[variant.name],
            seconds=self._seconds[variant.name],
            psnr_db=[decibels for decibels, _ in fidelity],
            ssim=[similarity for _, similarity in fidelity],
        )


def _ratio(full: Sequence[float], other: Sequence[float], index: int | None) -> float:
    if index is not None:
        return full[index] / other[index]
    return sum(full) / sum(other)
