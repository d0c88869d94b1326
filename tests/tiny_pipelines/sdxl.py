"""SDXL and Kolors."""

from __future__ import annotations

from tiny_pipelines.base import TinyPipeline

PIPELINES: list[TinyPipeline] = []
