"""Flux, Flux 2, Chroma, Bria and Stable Diffusion 3."""

from __future__ import annotations

from tiny_pipelines.base import TinyPipeline

PIPELINES: list[TinyPipeline] = []
