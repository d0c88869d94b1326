"""A transformer that predicts the clean sample, in pipelines that expect a velocity.

The network's answer is turned into a velocity before the pipeline sees it (Li and He, "Back to
Basics: Let Denoising Generative Models Denoise", 2025).  Diffusers imports no module that a model's
folder names, so this one has to be imported before such a folder is loaded.
"""

from __future__ import annotations

from typing import Any

from diffusers import ModelMixin, SD3Transformer2DModel  # noqa: F401  diffusers looks for it here
from diffusers.models.cache_utils import CacheMixin
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from torch import Tensor

__all__ = ["LEAST_NOISE", "CleanSampleTransformer"]

LEAST_NOISE = 0.05
"""The share of noise below which the velocity is not divided by less."""


class CleanSampleTransformer(SD3Transformer2DModel, CacheMixin):
    """Stable Diffusion 3's transformer, made to predict the clean sample.

    Diffusers' caches can be enabled on it, too, which know its blocks.

    Flow matching joins a clean sample x to noise e by z = (1 - s) x + s e.  The velocity e - x
    that schedulers want is (z - x) / s.
    """

    def forward(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        pooled_projections: Tensor | None = None,
        timestep: Tensor | None = None,
        return_dict: bool = True,
        **options: Any,
    ) -> Transformer2DModelOutput | tuple[Tensor]:
        """The velocity at noisy samples; the arguments are those of `SD3Transformer2DModel`.

        Args:
            hidden_states: `(B, C, H, W)`.
            timestep: `(B,)`, 1000 times the share of noise.
        """
        [clean] = super().forward(
            hidden_states,
            encoder_hidden_states,
            pooled_projections,
            timestep,
            return_dict=False,
            **options,
        )
        assert timestep is not None
        share = (timestep / 1000).clamp(min=LEAST_NOISE).to(clean.dtype)
        velocity = (hidden_states - clean) / share[:, None, None, None]
        return Transformer2DModelOutput(sample=velocity) if return_dict else (velocity,)
