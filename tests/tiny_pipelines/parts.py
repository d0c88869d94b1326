"""Components that several tiny pipelines are made of: tokenizers, encoders, VAEs, UNets."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLWan,
    DDIMScheduler,
    ModelMixin,
    PriorTransformer,
    UNet2DConditionModel,
    UNet2DModel,
    VQModel,
    WanTransformer3DModel,
)
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    Gemma2Config,
    Gemma2Model,
    PreTrainedModel,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen2VLImageProcessorPil,
    Qwen2VLProcessor,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
    UMT5Config,
    UMT5EncoderModel,
)
from transformers.processing_utils import ProcessorMixin

WIDTH = 32
"""Width of every text encoder unless a pipeline asks for another: what the denoisers attend to."""

SIZE = 32
"""Height and width of the pictures; the image VAE halves it, so latents are 16 x 16."""

CLIP_LENGTH = 77
T5_LENGTH = 24


def clip_tokenizer() -> CLIPTokenizer:
    """One token per byte, so that any two prompts differ and no vocabulary need be fetched."""
    alphabet = sorted(ByteLevel.alphabet())
    tokens = [*alphabet, *(c + "</w>" for c in alphabet), "<|startoftext|>", "<|endoftext|>"]
    vocab = {token: i for i, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocab, merges=[], model_max_length=CLIP_LENGTH)


def t5_tokenizer() -> T5TokenizerFast:
    """One token per printable ASCII character; a space is ``▁``, as in the real vocabulary."""
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    characters = [(c, -2.0) for c in ("▁", *map(chr, range(33, 127)))]
    return T5TokenizerFast(vocab=special + characters, extra_ids=0, model_max_length=T5_LENGTH)


def clip_text_encoder(
    kind: type[CLIPTextModel] | type[CLIPTextModelWithProjection] = CLIPTextModel,
) -> CLIPTextModel | CLIPTextModelWithProjection:
    """A two-layer CLIP text encoder for ``clip_tokenizer``."""
    vocab_size = 2 * len(ByteLevel.alphabet()) + 2
    return kind(
        CLIPTextConfig(
            vocab_size=vocab_size,
            bos_token_id=vocab_size - 2,
            eos_token_id=vocab_size - 1,
            pad_token_id=vocab_size - 1,
            max_position_embeddings=CLIP_LENGTH,
            hidden_size=WIDTH,
            intermediate_size=WIDTH,
            projection_dim=WIDTH,
            num_hidden_layers=2,
            num_attention_heads=2,
            initializer_factor=2.0,
        )
    )


def clip_image_encoder(
    kind: type[PreTrainedModel] = CLIPVisionModelWithProjection,
) -> PreTrainedModel:
    """A one-layer CLIP image encoder for ``clip_image_processor``."""
    return kind(
        CLIPVisionConfig(
            hidden_size=WIDTH,
            projection_dim=WIDTH,
            intermediate_size=WIDTH,
            num_hidden_layers=1,
            num_attention_heads=2,
            image_size=SIZE,
            patch_size=8,
        )
    )


def clip_image_processor() -> CLIPImageProcessor:
    """Scales pictures to the size that ``clip_image_encoder`` sees."""
    return CLIPImageProcessor(crop_size=SIZE, size=SIZE)


def t5_encoder(width: int = WIDTH, multilingual: bool = False) -> T5EncoderModel | UMT5EncoderModel:
    """A two-layer T5 (or UMT5) encoder for ``t5_tokenizer``."""
    settings = {
        "vocab_size": 98,
        "d_model": width,
        "d_kv": 8,
        "d_ff": width,
        "num_heads": 2,
        "num_layers": 2,
    }
    if multilingual:
        return UMT5EncoderModel(UMT5Config(**settings))
    return T5EncoderModel(T5Config(**settings))


_QWEN_SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
_QWEN_CHAT = """\
{%- for message in messages if message.role != 'system' -%}
<|im_start|>{{ message.role }}
{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content -%}
{% if part.type == 'text' %}{{ part.text }}{% else -%}
<|vision_start|><|image_pad|><|vision_end|>{% endif %}{% endfor %}{% endif %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
"""Without the pipelines' long introductions, which would be most of the tokens."""


def qwen_tokenizer() -> Qwen2Tokenizer:
    """One token per byte, as in ``clip_tokenizer``, and those that stand for pictures."""
    tokens = [*sorted(ByteLevel.alphabet()), *_QWEN_SPECIAL]
    return Qwen2Tokenizer(
        vocab={token: i for i, token in enumerate(tokens)},
        merges=[],
        extra_special_tokens=list(_QWEN_SPECIAL[1:]),
        chat_template=_QWEN_CHAT,
    )


def _qwen_id(token: str) -> int:
    return len(ByteLevel.alphabet()) + _QWEN_SPECIAL.index(token)


QWEN_LANGUAGE: dict[str, Any] = {
    "vocab_size": len(ByteLevel.alphabet()) + len(_QWEN_SPECIAL),
    "bos_token_id": _qwen_id("<|endoftext|>"),
    "eos_token_id": _qwen_id("<|endoftext|>"),
    "pad_token_id": _qwen_id("<|endoftext|>"),
    "hidden_size": WIDTH,
    "intermediate_size": WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "initializer_range": 0.2,
}
"""A two-layer language model for ``qwen_tokenizer``."""

_QWEN_SIGHT: dict[str, Any] = {
    "depth": 1,
    "hidden_size": WIDTH,
    "intermediate_size": WIDTH,
    "out_hidden_size": WIDTH,
    "num_heads": 2,
    "patch_size": 8,
}
_QWEN_PICTURES = {
    "image_token_id": _qwen_id("<|image_pad|>"),
    "video_token_id": _qwen_id("<|video_pad|>"),
    "vision_start_token_id": _qwen_id("<|vision_start|>"),
    "vision_end_token_id": _qwen_id("<|vision_end|>"),
}
_ROTARY = {"rope_type": "default", "mrope_section": [2, 3, 3]}


class ChatTokenizer(Qwen2Tokenizer):
    """A tokenizer that is called like the processors of vision-language models, without pictures.

    Those processors need torchvision.
    """

    def __call__(self, text: Any, images: None = None, videos: None = None, **settings: Any) -> Any:
        assert images is None
        assert videos is None
        return super().__call__(text, **settings)


def chat_tokenizer() -> ChatTokenizer:
    """``qwen_tokenizer`` in that shape; of a chat it takes in what was said last."""
    plain = qwen_tokenizer()
    chat = "{{ messages[-1]['content'][0]['text'] }}"
    return ChatTokenizer(vocab=plain.get_vocab(), merges=[], chat_template=chat)


def qwen_encoder() -> Qwen2_5_VLForConditionalGeneration:
    """A two-layer Qwen2.5-VL for ``qwen_tokenizer`` and ``QwenStillsProcessor``."""
    return Qwen2_5_VLForConditionalGeneration(
        Qwen2_5_VLConfig(
            text_config=QWEN_LANGUAGE | {"rope_scaling": _ROTARY},
            vision_config=_QWEN_SIGHT,
            **_QWEN_PICTURES,
        )
    )


def qwen3_encoder(layers: int = 2) -> Qwen3VLForConditionalGeneration:
    """A Qwen3-VL for ``qwen_tokenizer`` and ``QwenStillsProcessor``."""
    language = QWEN_LANGUAGE | {"head_dim": 16, "num_hidden_layers": layers}
    sight = _QWEN_SIGHT | {"num_position_embeddings": 16, "deepstack_visual_indexes": [0]}
    return Qwen3VLForConditionalGeneration(
        Qwen3VLConfig(
            text_config=language | {"rope_scaling": _ROTARY},
            vision_config=sight,
            **_QWEN_PICTURES,
        )
    )


def gemma_encoder() -> Gemma2Model:
    """A two-layer Gemma 2 for ``qwen_tokenizer``."""
    return Gemma2Model(Gemma2Config(**QWEN_LANGUAGE, head_dim=16))


def qwen3_text_encoder() -> Qwen3ForCausalLM:
    """A two-layer Qwen3 for ``qwen_tokenizer``."""
    return Qwen3ForCausalLM(Qwen3Config(**QWEN_LANGUAGE, head_dim=16))


class QwenStillsProcessor(Qwen2VLProcessor):
    """Pictures and text for the Qwen models; the real processor wants one of videos, too."""

    def __init__(
        self, image_processor: Qwen2VLImageProcessorPil, tokenizer: Qwen2Tokenizer
    ) -> None:
        self.image_token, self.video_token = "<|image_pad|>", "<|video_pad|>"
        self.image_token_id = tokenizer.convert_tokens_to_ids(self.image_token)
        self.video_token_id = tokenizer.convert_tokens_to_ids(self.video_token)
        ProcessorMixin.__init__(
            self, image_processor, tokenizer, chat_template=tokenizer.chat_template
        )


def qwen_processor() -> QwenStillsProcessor:
    """Scales pictures down to some ten tokens."""
    pictures = Qwen2VLImageProcessorPil(
        patch_size=8, merge_size=2, min_pixels=SIZE * SIZE, max_pixels=SIZE * SIZE
    )
    return QwenStillsProcessor(pictures, qwen_tokenizer())


def tiny_vae(
    channels: int = 4, widths: tuple[int, ...] = (8, 16), colours: int = 3
) -> AutoencoderKL:
    """An image VAE that halves height and width, once less than it has levels."""
    return AutoencoderKL(
        in_channels=colours,
        out_channels=colours,
        block_out_channels=widths,
        down_block_types=("DownEncoderBlock2D",) * len(widths),
        up_block_types=("UpDecoderBlock2D",) * len(widths),
        latent_channels=channels,
        norm_num_groups=4,
        shift_factor=0.0,
    )


def certain(vae: Any) -> Any:
    """The VAE, with an encoder that leaves nothing to chance.

    For pipelines that draw a picture's latents from torch's own generator: those of one sample
    would depend on the batch it is in.
    """
    with torch.no_grad():
        mean, log_variance = vae.quant_conv.weight.chunk(2)
        log_variance.zero_()
        vae.quant_conv.bias[len(mean) :] = -30.0
    return vae


UNET_SHAPE: dict[str, Any] = {
    "block_out_channels": (16, 32),
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "attention_head_dim": 2,
    "cross_attention_dim": WIDTH,
}


def tiny_unet(**changes: Any) -> UNet2DConditionModel:
    """A two-level text-conditioned UNet, with attention on its upper level."""
    shape = UNET_SHAPE | {"up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D")} | changes
    return UNet2DConditionModel(sample_size=SIZE // 2, **shape)


def tiny_picture_unet(channels: int = 3, out_channels: int = 3, **changes: Any) -> UNet2DModel:
    """A two-level UNet that is told nothing but the timestep."""
    shape = {
        "block_out_channels": (16, 32),
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "sample_size": SIZE // 2,
    }
    return UNet2DModel(in_channels=channels, out_channels=out_channels, **shape | changes)


def tiny_vq_model() -> VQModel:
    """A quantising VAE that halves height and width."""
    return VQModel(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=4,
        num_vq_embeddings=8,
        vq_embed_dim=4,
    )


CONDITION_CHANNELS = (8, 16)
"""Channels of a ControlNet's way from a picture to the size of its latents."""


def ip_adapter_weights(unet: UNet2DConditionModel) -> dict[str, dict[str, torch.Tensor]]:
    """Weights as an IP-Adapter's file has them: the UNet attends to 4 tokens of a picture, too."""
    width = unet.config.cross_attention_dim
    attention = {}
    for number, name in enumerate(unet.attn_processors):
        layer = unet.get_submodule(name.removesuffix(".processor"))
        if layer.is_cross_attention:
            for projection in ("to_k_ip", "to_v_ip"):
                weight = torch.randn(layer.inner_dim, width) * width**-0.5
                attention[f"{number}.{projection}.weight"] = weight
    image = {
        "proj.weight": torch.randn(4 * width, WIDTH),
        "proj.bias": torch.zeros(4 * width),
        "norm.weight": torch.ones(width),
        "norm.bias": torch.zeros(width),
    }
    return {"image_proj": image, "ip_adapter": attention}


def tiny_prior() -> PriorTransformer:
    """A two-layer transformer that makes a picture's embedding of a prompt."""
    return PriorTransformer(
        num_attention_heads=2,
        attention_head_dim=12,
        embedding_dim=WIDTH,
        num_embeddings=CLIP_LENGTH,
        num_layers=2,
    )


WAN_SHAPE: dict[str, Any] = {
    "num_attention_heads": 2,
    "attention_head_dim": 12,
    "in_channels": 16,
    "out_channels": 16,
    "text_dim": WIDTH,
    "freq_dim": 32,
    "ffn_dim": 32,
    "num_layers": 2,
    "rope_max_seq_len": 32,
}


def tiny_wan_transformer(
    kind: type[ModelMixin] = WanTransformer3DModel, **changes: Any
) -> ModelMixin:
    """A two-layer video transformer of Wan's shape."""
    return kind(**WAN_SHAPE | changes)


def tiny_wan_vae() -> AutoencoderKLWan:
    """A Wan VAE: 8 times smaller in space, 4 times in time."""
    return AutoencoderKLWan(base_dim=4, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1)


BETAS: dict[str, Any] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
}
"""Stable Diffusion's noise schedule, for all: ε of a random network makes samples grow by
1 / sqrt(ᾱ) of the first timestep, which is 15 here and 160 with the linear schedule."""


def ddim() -> DDIMScheduler:
    """DDIM as Stable Diffusion 1.5 has it."""
    return DDIMScheduler(**BETAS, clip_sample=False, set_alpha_to_one=False, steps_offset=1)
