"""A short examination of one pipeline on one machine: what holds here, and what to expect."""

from adaptive_diffusion.checking.check import check
from adaptive_diffusion.checking.findings import Check, Finding, Status

__all__ = ["Check", "Finding", "Status", "check"]
