"""Video: the Wan, LTX, Hunyuan, CogVideoX and SkyReels families."""

from __future__ import annotations

from tiny_pipelines.base import TinyPipeline

PIPELINES: list[TinyPipeline] = []
