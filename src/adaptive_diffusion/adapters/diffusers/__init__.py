"""Accelerating diffusers pipelines: denoiser calls and scheduler steps go through a generation."""

from adaptive_diffusion.adapters.diffusers.pipelines import disable, enable, report

__all__ = ["disable", "enable", "report"]
