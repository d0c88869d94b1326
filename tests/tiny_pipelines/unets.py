"""Older and other UNet pipelines: DeepFloyd IF, Kandinsky, Stable Cascade, unconditional models."""

from __future__ import annotations

from tiny_pipelines.base import TinyPipeline

PIPELINES: list[TinyPipeline] = []
