"""The Ray cluster that work is given to."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import ray

__all__ = ["gpus_for_each", "ray_cluster"]


@contextmanager
def ray_cluster() -> Iterator[None]:
    """The cluster that `RAY_ADDRESS` names or that runs here; else one for as long as the block."""
    if ray.is_initialized():
        yield
        return
    ray.init(log_to_driver=False, logging_level=logging.ERROR)
    try:
        yield
    finally:
        ray.shutdown()


def gpus_for_each(asked: float | None) -> float:
    """How many GPUs a process gets: one, if nothing was asked for and the cluster has any."""
    if asked is not None:
        return asked
    return 1 if ray.cluster_resources().get("GPU") else 0
