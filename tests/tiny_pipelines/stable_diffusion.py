"""Stable Diffusion 1 and 2."""

from __future__ import annotations

from tiny_pipelines.base import TinyPipeline

PIPELINES: list[TinyPipeline] = []
