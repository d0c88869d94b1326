"""A text-to-image transformer over patches, in Stable Diffusion 3's format.

Clean latents x and noise e are joined by z(s) = (1 - s) x + s e.  The network predicts x, from
which `CleanSampleTransformer` makes the velocity e - x; a picture is drawn by following it from
s = 1 down to 0.
"""

from __future__ import annotations

import threading
from pathlib import Path

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, StableDiffusion3Pipeline
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5TokenizerFast,
)

from adaptive_diffusion.miniatures.clean_sample import CleanSampleTransformer
from adaptive_diffusion.miniatures.patches import PatchAutoencoder
from recipes.scenes.data import PLACES_A_SIDE, draw_pictures
from recipes.scenes.drawing import KINDS, SIZE
from recipes.shared.text_encoder import build_t5_encoder

LATENT_SIZE, LATENT_CHANNELS = SIZE // 8, 128
BASIS_PICTURES = 1000
"""That the autoencoder's basis is taken from."""
NOISE_LEVELS = 1000
SHIFT = 3.0
"""Of the noise levels that a picture is drawn by, as Stable Diffusion 3 and FLUX have it."""
LAYERS, HEADS, HEAD_WIDTH = 7, 6, 24
TEXT_TOKENS = 12
"""That each kind of text encoder gives for a prompt; the longest caption needs 11."""
NAMED_AFTER = 4
"""The block after which a patch has to know which kinds of things are in it."""
TEXT_WIDTH = 128
"""Of T5, and of both CLIPs together."""

CLASSES = len(KINDS) + 1
"""Kinds of things, and none."""

ADAMW_NAMES = (
    "shared",
    "relative_attention_bias",
    "pos_embed.proj",
    "norm1.linear",
    "norm1_context.linear",
    "norm_out",
    "proj_out",
    "naming",
)
"""What comes in and goes out, and the modulation by time: all too lopsided for Muon."""


class TextToVelocity(nn.Module):
    """The networks that are trained together, so that one optimizer and one average do.

    As the pipeline has it, CLIP's tokens come from the last layers but one, and a summary of the
    caption from the last; T5 sees its padding, too.

    While it is trained, a linear map names what is to be seen in each patch from its features in
    the middle of the network: the program knows what it has drawn.  This is to teach sooner what a
    picture shows (after Yu et al., "Representation Alignment for Generation", ICLR 2025, who have a
    pretrained encoder's features in place of names).  The map is not exported.
    """

    def __init__(self, clip_tokenizer: CLIPTokenizer, t5_tokenizer: T5TokenizerFast) -> None:
        super().__init__()
        self.text_encoder = build_clip(clip_tokenizer)
        self.text_encoder_2 = build_clip(clip_tokenizer)
        self.text_encoder_3 = build_t5_encoder(t5_tokenizer, TEXT_WIDTH)
        self.transformer = build_transformer()
        self.naming = nn.Linear(HEADS * HEAD_WIDTH, (PLACES_A_SIDE // LATENT_SIZE) ** 2 * CLASSES)
        self._middle: dict[int, Tensor] = {}  # of each thread that takes a share of a batch
        self.transformer.transformer_blocks[NAMED_AFTER - 1].register_forward_hook(self._keep)

    def _keep(self, block: nn.Module, arguments: tuple, outputs: tuple[Tensor, Tensor]) -> None:
        self._middle[threading.get_ident()] = outputs[1]

    def exported_parts(self) -> dict[str, nn.Module]:
        """The networks that the pipeline has."""
        return {name: part for name, part in self.named_children() if name != "naming"}

    def naming_loss(self, kinds: Tensor) -> Tensor:
        """How badly this thread's last call names the kinds, `(B, 24, 24)`: cross-entropy."""
        logits = self.naming(self._middle.pop(threading.get_ident()))
        logits = logits.unflatten(2, (-1, CLASSES)).flatten(0, 2)
        return functional.cross_entropy(logits, by_patch(kinds).flatten().long())

    def forward(
        self, noisy: Tensor, sigmas: Tensor, clip_tokens: Tensor, t5_tokens: Tensor
    ) -> Tensor:
        """The velocity at noisy latents, given the tokens of their captions."""
        clips = (self.text_encoder, self.text_encoder_2)
        texts = [clip(clip_tokens, output_hidden_states=True) for clip in clips]
        clip_text = torch.cat([text.hidden_states[-2] for text in texts], dim=-1)
        t5_text = self.text_encoder_3(t5_tokens).last_hidden_state
        return self.transformer(
            hidden_states=noisy,
            encoder_hidden_states=torch.cat([clip_text, t5_text], dim=1),
            pooled_projections=torch.cat([text.text_embeds for text in texts], dim=-1),
            timestep=NOISE_LEVELS * sigmas,
            return_dict=False,
        )[0]


def by_patch(places: Tensor) -> Tensor:
    """`(B, 24, 24)` as `(B, patches, squares of a patch)`."""
    side = PLACES_A_SIDE // LATENT_SIZE
    return places.unfold(1, side, side).unfold(2, side, side).flatten(3).flatten(1, 2)


def build_clip(tokenizer: CLIPTokenizer) -> CLIPTextModelWithProjection:
    """Two layers of two heads."""
    width = TEXT_WIDTH // 2
    return CLIPTextModelWithProjection(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=4 * width,
            projection_dim=width,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=tokenizer.model_max_length,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )


def prepare_autoencoder(seed: int, folder: Path) -> PatchAutoencoder:
    """Fit the autoencoder once: a basis found anew may differ in its signs."""
    if not folder.exists():
        autoencoder = PatchAutoencoder(LATENT_CHANNELS)
        pictures, _, _ = draw_pictures(seed, BASIS_PICTURES)
        autoencoder.fit(pictures.permute(0, 3, 1, 2) / 127.5 - 1)
        autoencoder.save_pretrained(folder)
    autoencoder = PatchAutoencoder.from_pretrained(folder).requires_grad_(False)
    autoencoder.register_to_config(_name_or_path="scenes")  # not this machine's folder
    return autoencoder


def build_transformer() -> CleanSampleTransformer:
    """A block sees 36 patches and 24 text tokens; each starts as the identity (adaLN-zero)."""
    transformer = CleanSampleTransformer(
        sample_size=LATENT_SIZE,
        patch_size=1,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        num_layers=LAYERS,
        num_attention_heads=HEADS,
        attention_head_dim=HEAD_WIDTH,
        caption_projection_dim=HEADS * HEAD_WIDTH,
        joint_attention_dim=TEXT_WIDTH,
        pooled_projection_dim=TEXT_WIDTH,
        pos_embed_max_size=LATENT_SIZE,
        qk_norm="rms_norm",
    )
    blocks = transformer.transformer_blocks
    zeroed = [norm.linear for block in blocks for norm in (block.norm1, block.norm1_context)]
    for layer in (*zeroed, transformer.norm_out.linear, transformer.proj_out):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    return transformer


def build_pipeline(
    autoencoder: PatchAutoencoder,
    model: TextToVelocity,
    clip_tokenizer: CLIPTokenizer,
    t5_tokenizer: T5TokenizerFast,
) -> StableDiffusion3Pipeline:
    """The parts as one pipeline."""
    return StableDiffusion3Pipeline(
        transformer=model.transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(num_train_timesteps=NOISE_LEVELS, shift=SHIFT),
        vae=autoencoder,
        text_encoder=model.text_encoder,
        tokenizer=clip_tokenizer,
        text_encoder_2=model.text_encoder_2,
        tokenizer_2=clip_tokenizer,
        text_encoder_3=model.text_encoder_3,
        tokenizer_3=t5_tokenizer,
    )
