"""How many threads a process should use on a machine that it shares.

Torch takes a thread for every core. Where other work, or a container's quota, holds some of them,
its threads wait for each other at the end of every operator, and a call can take 50 times longer.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

__all__ = ["free_cores", "limit_threads"]

_VARIABLE = "OMP_NUM_THREADS"
_QUOTAS = ("/sys/fs/cgroup/cpu.max", "/sys/fs/cgroup/cpu/cpu.cfs_quota_us")
_PERIOD = 100_000  # microseconds, of a quota in the older form


def limit_threads() -> None:
    """Has torch use the free cores only, if some are taken and the user has not chosen otherwise.

    Does nothing once torch is imported, which reads the variable at that moment.
    """
    free = free_cores()
    if _VARIABLE not in os.environ and "torch" not in sys.modules and free < (os.cpu_count() or 1):
        os.environ[_VARIABLE] = str(free)


def free_cores() -> int:
    """Cores that this process may use and that nothing else has used in the last minute."""
    cores = float(os.cpu_count() or 1)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    free = min(cores - load, _allowed_cores() or cores, _quota() or cores)
    return max(1, round(free))


def _allowed_cores() -> int | None:
    """That the process is bound to; None where the system does not tell."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


def _quota() -> float | None:
    """Cores that a container may use; None if it has no bound."""
    for file in map(Path, _QUOTAS):
        try:
            quota, *period = file.read_text().split()
        except (OSError, ValueError):
            continue
        if quota.isdigit():
            return int(quota) / (int(period[0]) if period else _PERIOD)
    return None
