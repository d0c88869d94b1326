"""Sound, and what is neither picture, video nor sound."""

from __future__ import annotations

from tiny_pipelines.base import TinyPipeline

PIPELINES: list[TinyPipeline] = []
