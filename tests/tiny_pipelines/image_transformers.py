"""Transformers that make pictures, other than Flux and Stable Diffusion 3."""

from __future__ import annotations

from tiny_pipelines.base import TinyPipeline

PIPELINES: list[TinyPipeline] = []
