"""Which decoders may run beside the other parts of their pipeline."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

__all__ = ["picture_decoders"]


def picture_decoders(pipe: Any) -> list[nn.Module]:
    """The decoder of the pipeline's VAE, if it may run while another request does something else.

    Those of diffusers' VAEs for pictures keep nothing between their calls, as those for videos do.
    A VAE that is cast for every decoding may not: other requests would find it cast.
    """
    from diffusers.models.autoencoders.vae import Decoder

    vae = getattr(pipe, "vae", None)
    decoder = getattr(vae, "decoder", None)
    if vae is None or not isinstance(decoder, Decoder):
        return []
    is_cast = vae.config.get("force_upcast") and vae.dtype == torch.float16
    return [] if is_cast else [decoder]
