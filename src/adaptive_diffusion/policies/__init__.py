"""When to call the denoiser: a policy sees one sample's trace and says yes or no."""

from adaptive_diffusion.policies.base import Policy, Trace
from adaptive_diffusion.policies.error_controlled import ErrorControlled
from adaptive_diffusion.policies.fixed_schedule import FixedSchedule
from adaptive_diffusion.policies.planned import Planned
from adaptive_diffusion.policies.third_order import ThirdOrder

__all__ = ["ErrorControlled", "FixedSchedule", "Planned", "Policy", "ThirdOrder", "Trace"]
