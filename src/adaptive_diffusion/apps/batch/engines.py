"""Where calls are made: in this process, or by Ray Data on as many machines as there are.

Both have the same work done by a `Maker` and tell what became of every job as it is known.
"""

from __future__ import annotations

import logging
import pickle
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from adaptive_diffusion.apps.batch.jobs import Job
from adaptive_diffusion.apps.batch.maker import Maker, Outcome
from adaptive_diffusion.errors import AdaptiveDiffusionError

__all__ = ["BatchError", "Workers", "make_here", "make_on_ray"]

_MOST_BLOCKS = 1000
_TOGETHER = 2  # attempts at a call whose worker dies, before its jobs are tried one by one


class BatchError(AdaptiveDiffusionError):
    """A worker can't go on."""


@dataclass(frozen=True)
class Workers:
    """How many pipelines Ray is to keep, and what each gets.

    Attributes:
        count: of the workers.
        cpus: processor cores, and as many threads, for each.
        gpus: GPUs for each; None for one where the cluster has any.
    """

    count: int = 1
    cpus: int = 1
    gpus: float | None = None


def make_here(maker: Maker, calls: Sequence[Mapping[str, Job]]) -> Iterator[Outcome]:
    """Makes one call after the other."""
    for call in calls:
        yield from maker.make(call)


def make_on_ray(
    maker: Maker, calls: Sequence[Mapping[str, Job]], workers: Workers
) -> Iterator[Outcome]:
    """Has the calls made by workers, each of which loads the pipeline once.

    Joins the cluster that `RAY_ADDRESS` names or that runs on this machine, or starts one for as
    long as it takes. Calls of a worker that dies are given to another one, which leaves out what
    was made. The workers have to find model and outputs under the same paths.

    Raises:
        BatchError: if a worker can't load the model, or write; or what Ray itself fails with.
    """
    import ray.data

    from adaptive_diffusion.apps.ray_cluster import gpus_for_each, ray_cluster

    items = [{"call": pickle.dumps(call)} for call in calls]
    with ray_cluster():
        _be_quiet()
        rows = ray.data.from_items(items, override_num_blocks=min(len(items), _MOST_BLOCKS))
        results = rows.map_batches(
            _Worker,
            fn_constructor_args=(maker, workers.cpus),
            batch_size=1,
            batch_format="numpy",
            compute=ray.data.ActorPoolStrategy(size=workers.count),
            num_cpus=workers.cpus,
            num_gpus=gpus_for_each(workers.gpus),
        )
        try:
            for row in results.iter_rows():
                result = pickle.loads(row["result"])
                if isinstance(result, str):
                    raise BatchError(result)
                yield from result
        except ray.exceptions.RayError as error:
            raise BatchError(f"Ray gave up: {error}") from error


def _be_quiet() -> None:
    """Leaves progress to the command's own bar."""
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False


class _Worker:
    """What runs in Ray's actors; tells as a text why it can't go on.

    Ray gives the work of an actor that died to another one, for ever. So that a job that kills
    whoever makes it does not hold up the others, attempts are counted in the outputs' folder.
    """

    def __init__(self, maker: Maker, threads: int) -> None:
        torch.set_num_threads(threads)
        self._maker = maker

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[bytes]]:
        result: list[Outcome] | str
        try:
            result = self._make(pickle.loads(batch["call"][0]))
        except Exception as error:
            result = str(error) or type(error).__name__
        return {"result": [pickle.dumps(result)]}

    def _make(self, call: Mapping[str, Job]) -> list[Outcome]:
        with self._maker.outputs.attempt(f"call-{next(iter(call))}") as number:
            if number <= _TOGETHER:
                return self._maker.make(call)
            return [outcome for key, job in call.items() for outcome in self._make_alone(key, job)]

    def _make_alone(self, key: str, job: Job) -> list[Outcome]:
        with self._maker.outputs.attempt(key) as number:
            if number == 1:
                return self._maker.make({key: job})
            return [self._maker.fail(key, job, "its worker died each time that it was tried")]
