"""Pipelines that design molecules."""

from __future__ import annotations

from typing import Any

import diffusers
import torch
from diffusers import (
    DiffusionPipeline,
    RFD4ProteinaAutoencoder,
    RFD4ProteinaScheduler,
    RFD4ProteinaTransformer,
)

from tiny_pipelines.base import TinyPipeline

_RESIDUES = 8
_TOKENS = 12


def proteina() -> DiffusionPipeline:
    """Backbone and local latents of a protein are denoised side by side, each by its scheduler."""
    shape = {"nlayers": 2, "token_dim": 32, "nheads": 2, "dim_cond": 16, "latent_dim": 4}
    autoencoder = RFD4ProteinaAutoencoder(
        atom37_mask=[[True] * 37] * _RESIDUES,
        allowed_residue_types=[[True] * _RESIDUES] * 7,
        n_residue_types=_RESIDUES,
        **shape,
    )
    transformer = RFD4ProteinaTransformer(
        **shape,
        pair_repr_dim=8,
        t_emb_dim=16,
        tri_mult_c=8,
        feats_seq=("xt_bb_ca", "xt_local_latents", "token_type"),
        feats_cond_seq=("time_emb_bb_ca", "time_emb_local_latents", "recycle_remaining"),
        feats_pair_repr=("xt_bb_ca_pair_dists", "molecule_idx_pair"),
        num_sequence_classes=_RESIDUES,
    )
    scheduler = {"tsr_k": 2.0, "tsr_sigma": 0.5, "tail_steps": 0}
    return diffusers.RFD4ProteinaPipeline(
        transformer=transformer,
        vae=autoencoder,
        bb_ca_scheduler=RFD4ProteinaScheduler("log", "1/t", **scheduler),
        local_latents_scheduler=RFD4ProteinaScheduler("power", "tan", **scheduler),
        recycle_depths=[2, 2, 2, 1, 1, 1],
    )


def proteina_inputs(batch: int) -> dict[str, Any]:
    """Two chains of free residues."""
    tokens = torch.ones(batch, _TOKENS, dtype=torch.bool)
    chains = (torch.arange(_TOKENS) >= _TOKENS // 2).long().expand(batch, -1)
    return {
        "padding_mask": tokens,
        "is_in_context_conditioning": ~tokens,
        "supports_local_latent": tokens,
        "token_type": torch.zeros_like(chains),
        "conditioning_features": {
            "condition_sequence_1_residue": torch.zeros_like(chains),
            "molecule_iid": chains,
        },
    }


PIPELINES = [
    TinyPipeline(
        "RFD4ProteinaPipeline",
        diffusers.RFD4ProteinaPipeline,
        proteina,
        proteina_inputs,
        ("transformer",),
    ),
]
