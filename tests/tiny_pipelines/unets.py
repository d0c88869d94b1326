"""Older and other UNet pipelines: DeepFloyd IF, Kandinsky, Stable Cascade, unconditional models."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import diffusers
from diffusers import (
    CMStochasticIterativeScheduler,
    DDPMScheduler,
    DDPMWuerstchenScheduler,
    DiffusionPipeline,
    HeunDiscreteScheduler,
    Kandinsky3UNet,
    PNDMScheduler,
    PriorTransformer,
    RePaintScheduler,
    UnCLIPScheduler,
)
from diffusers.models.unets import StableCascadeUNet
from diffusers.pipelines.deprecated.unclip.text_proj import UnCLIPTextProjModel
from diffusers.pipelines.deprecated.wuerstchen import (
    PaellaVQModel,
    WuerstchenDiffNeXt,
    WuerstchenPrior,
)
from diffusers.pipelines.kandinsky.text_encoder import MCLIPConfig, MultilingualCLIP
from transformers import CLIPTextModelWithProjection, CLIPVisionModel

from tiny_pipelines.base import TinyPipeline
from tiny_pipelines.core import ddim_inputs, deepfloyd_parts, kandinsky_inputs, kandinsky_parts
from tiny_pipelines.inputs import image_inputs, masks, pictures, prompts
from tiny_pipelines.parts import (
    BETAS,
    CLIP_LENGTH,
    SIZE,
    WIDTH,
    clip_image_encoder,
    clip_image_processor,
    clip_text_encoder,
    clip_tokenizer,
    ddim,
    t5_encoder,
    t5_tokenizer,
    tiny_picture_unet,
    tiny_prior,
    tiny_unet,
    tiny_vae,
    tiny_vq_model,
)


def entry(
    kind: type[DiffusionPipeline],
    build: Callable[[], dict[str, Any]],
    inputs: Callable[[int], dict[str, Any]],
    *denoisers: str,
    **more: Any,
) -> TinyPipeline:
    """A pipeline of the class, made of the components that ``build`` builds."""
    return TinyPipeline(
        kind.__name__, kind, lambda: kind(**build()), inputs, denoisers or ("unet",), **more
    )


# Unconditional pictures, and what is made of given ones.


def unconditional(scheduler: Callable[[], Any], **more: Callable[[], Any]) -> Any:
    """Builds the components of an unconditional pipeline, with others that are asked for."""

    def build() -> dict[str, Any]:
        parts = {"unet": tiny_picture_unet, "scheduler": scheduler} | more
        return {name: make() for name, make in parts.items()}

    return build


def ddpm() -> DDPMScheduler:
    """Predicts v: with ε, a random network's samples end far outside the [0, 1] of the output."""
    return DDPMScheduler(prediction_type="v_prediction", clip_sample=False)


def pndm() -> PNDMScheduler:
    return PNDMScheduler(**BETAS)


def repaint_inputs(batch: int) -> dict[str, Any]:
    """Goes two steps back after every two, once."""
    return {
        "image": pictures(batch, size=SIZE // 2),
        "mask_image": masks(batch)[..., ::2, ::2],
        "jump_length": 2,
        "jump_n_sample": 2,
    }


def small_pictures(batch: int) -> dict[str, Any]:
    return {"image": 2 * pictures(batch, size=SIZE // 2) - 1}


# DeepFloyd IF.


def deepfloyd_resolution_parts() -> dict[str, Any]:
    """A stage that raises the resolution."""
    return deepfloyd_parts() | {
        "unet": tiny_unet(in_channels=6, out_channels=6, num_class_embeds=1000),
        "image_noising_scheduler": DDPMScheduler(beta_schedule="squaredcos_cap_v2"),
    }


def deepfloyd_picture_inputs(batch: int) -> dict[str, Any]:
    return {
        "prompt": prompts(batch),
        "guidance_scale": 5.0,
        "clean_caption": False,
        "image": 2 * pictures(batch, size=SIZE // 2) - 1,
    }


def deepfloyd_inpaint_inputs(batch: int) -> dict[str, Any]:
    return deepfloyd_picture_inputs(batch) | {"mask_image": masks(batch)[..., ::2, ::2]}


def small_and_large(batch: int) -> dict[str, Any]:
    """The picture that the stage before has made, and the one that it was made from."""
    return deepfloyd_picture_inputs(batch) | {
        "image": 2 * pictures(batch, size=SIZE // 4) - 1,
        "original_image": 2 * pictures(batch, size=SIZE // 2) - 1,
        "noise_level": 100,
    }


def deepfloyd_resolution_inputs(batch: int) -> dict[str, Any]:
    inputs = small_and_large(batch) | {"height": SIZE // 2, "width": SIZE // 2}
    del inputs["original_image"]
    return inputs


def deepfloyd_resolution_inpaint_inputs(batch: int) -> dict[str, Any]:
    return small_and_large(batch) | {"mask_image": masks(batch)[..., ::2, ::2]}


# Kandinsky.


def kandinsky_text_parts(channels: int = 4) -> dict[str, Any]:
    """Kandinsky 2.1 reads the prompt, too."""
    config = MCLIPConfig(
        transformerDimSize=WIDTH,
        imageDimSize=WIDTH,
        vocab_size=98,
        hidden_size=WIDTH,
        intermediate_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=CLIP_LENGTH + 3,
    )
    return kandinsky_parts(channels, "text_image") | {
        "text_encoder": MultilingualCLIP(config),
        "tokenizer": t5_tokenizer(),
    }


def kandinsky_img2img_inputs(batch: int) -> dict[str, Any]:
    return kandinsky_inputs(batch) | {"image": pictures(batch), "strength": 0.8}


def kandinsky_inpaint_inputs(batch: int) -> dict[str, Any]:
    return kandinsky_inputs(batch) | {"image": pictures(batch), "mask_image": masks(batch)}


def kandinsky22_inpaint_inputs(batch: int) -> dict[str, Any]:
    """The pipeline puts the first picture back into all samples, where the first mask says so."""
    return kandinsky_inputs(batch) | {
        "image": pictures(1).expand(batch, -1, -1, -1),
        "mask_image": masks(1).expand(batch, -1, -1, -1),
    }


def kandinsky_control_inputs(batch: int) -> dict[str, Any]:
    """The hint is 8 times as large as the latents."""
    size = {"height": SIZE // 2, "width": SIZE // 2}
    return kandinsky_inputs(batch) | size | {"hint": pictures(batch, size=2 * SIZE)}


def kandinsky_control_img2img_inputs(batch: int) -> dict[str, Any]:
    return kandinsky_control_inputs(batch) | {"image": pictures(batch), "strength": 0.8}


def prior_scheduler() -> UnCLIPScheduler:
    return UnCLIPScheduler(
        variance_type="fixed_small_log", prediction_type="sample", clip_sample_range=5.0
    )


def kandinsky_prior() -> dict[str, Any]:
    return {
        "prior": tiny_prior(),
        "image_encoder": clip_image_encoder(),
        "text_encoder": clip_text_encoder(CLIPTextModelWithProjection),
        "tokenizer": clip_tokenizer(),
        "scheduler": prior_scheduler(),
        "image_processor": clip_image_processor(),
    }


def prior_inputs(batch: int) -> dict[str, Any]:
    return {"prompt": prompts(batch), "guidance_scale": 4.0}


def emb2emb_inputs(batch: int) -> dict[str, Any]:
    """Starts from image embeddings."""
    embeddings = kandinsky_inputs(batch)["image_embeds"]
    return prior_inputs(batch) | {"image": embeddings, "strength": 0.7}


def with_prompts(inputs: Callable[[int], dict[str, Any]]) -> Callable[[int], dict[str, Any]]:
    return lambda batch: {"prompt": prompts(batch)} | inputs(batch)


def kandinsky3() -> dict[str, Any]:
    return {
        "tokenizer": t5_tokenizer(),
        "text_encoder": t5_encoder(),
        "unet": Kandinsky3UNet(
            time_embedding_dim=16,
            groups=2,
            attention_head_dim=8,
            layers_per_block=3,
            block_out_channels=(16, 32),
            cross_attention_dim=16,
            encoder_hid_dim=WIDTH,
        ),
        "scheduler": DDPMScheduler(**BETAS, clip_sample=False),
        "movq": tiny_vq_model(),
    }


def kandinsky3_inputs(batch: int) -> dict[str, Any]:
    """Prompts of one length: the network does not tell what a shorter one is padded with."""
    return image_inputs(batch, 4.0) | {"prompt": [p.ljust(16, ".") for p in prompts(batch)]}


def kandinsky3_img2img_inputs(batch: int) -> dict[str, Any]:
    inputs = kandinsky3_inputs(batch) | {"image": pictures(batch), "strength": 0.8}
    del inputs["height"], inputs["width"]
    return inputs


# UnCLIP.


def unclip_stages() -> dict[str, Any]:
    """The decoder, and two networks that raise its picture's resolution."""
    blocks = ("SimpleCrossAttnDownBlock2D", "ResnetDownsampleBlock2D")
    larger = functools.partial(
        tiny_picture_unet,
        channels=6,
        sample_size=SIZE,
        down_block_types=("ResnetDownsampleBlock2D",) * 2,
        up_block_types=("ResnetUpsampleBlock2D",) * 2,
    )
    return {
        "decoder": tiny_unet(
            in_channels=3,
            out_channels=6,
            down_block_types=blocks[::-1],
            up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
            mid_block_type="UNetMidBlock2DSimpleCrossAttn",
            resnet_time_scale_shift="scale_shift",
            class_embed_type="identity",
        ),
        "text_proj": UnCLIPTextProjModel(
            clip_embeddings_dim=WIDTH, time_embed_dim=4 * 16, cross_attention_dim=WIDTH
        ),
        "text_encoder": clip_text_encoder(CLIPTextModelWithProjection),
        "tokenizer": clip_tokenizer(),
        "super_res_first": larger(),
        "super_res_last": larger(),
        "decoder_scheduler": UnCLIPScheduler(variance_type="learned_range"),
        "super_res_scheduler": UnCLIPScheduler(variance_type="fixed_small_log"),
    }


def unclip() -> dict[str, Any]:
    return unclip_stages() | {"prior": tiny_prior(), "prior_scheduler": prior_scheduler()}


def unclip_variation() -> dict[str, Any]:
    return unclip_stages() | {
        "feature_extractor": clip_image_processor(),
        "image_encoder": clip_image_encoder(),
    }


_STAGES = {"decoder_num_inference_steps": 6, "super_res_num_inference_steps": 6}


def unclip_inputs(batch: int) -> dict[str, Any]:
    return {"prompt": prompts(batch), "prior_num_inference_steps": 6} | _STAGES


def unclip_variation_inputs(batch: int) -> dict[str, Any]:
    return {"image": pictures(batch)} | _STAGES


# Wuerstchen and Stable Cascade.


def paella() -> PaellaVQModel:
    return PaellaVQModel(bottleneck_blocks=1, embed_dim=16, num_vq_embeddings=8)


def wuerstchen_prior() -> dict[str, Any]:
    return {
        "tokenizer": clip_tokenizer(),
        "text_encoder": clip_text_encoder(),
        "prior": WuerstchenPrior(c_in=4, c=32, c_cond=WIDTH, c_r=16, depth=2, nhead=2),
        "scheduler": DDPMWuerstchenScheduler(),
        "latent_mean": 1.0,
    }


def wuerstchen_decoder() -> dict[str, Any]:
    return {
        "tokenizer": clip_tokenizer(),
        "text_encoder": clip_text_encoder(),
        "decoder": WuerstchenDiffNeXt(
            c_r=16,
            c_cond=WIDTH,
            c_hidden=[16, 32],
            nhead=[-1, 2],
            blocks=[1, 1],
            level_config=["CT", "CTA"],
            inject_effnet=[False, True],
            effnet_embd=4,
            clip_embd=WIDTH,
        ),
        "scheduler": DDPMWuerstchenScheduler(),
        "vqgan": paella(),
        "latent_dim_scale": 4.0,
    }


def stable_cascade_unet(channels: int, **more: Any) -> StableCascadeUNet:
    return StableCascadeUNet(
        in_channels=channels,
        out_channels=channels,
        timestep_ratio_embedding_dim=16,
        conditioning_dim=WIDTH,
        block_out_channels=(16, 32),
        num_attention_heads=(-1, 2),
        down_num_layers_per_block=(1, 1),
        up_num_layers_per_block=(1, 1),
        clip_text_pooled_in_channels=WIDTH,
        clip_seq=2,
        block_types_per_layer=(
            ("SDCascadeResBlock", "SDCascadeTimestepBlock"),
            ("SDCascadeResBlock", "SDCascadeTimestepBlock", "SDCascadeAttnBlock"),
        ),
        **more,
    )


def stable_cascade_prior() -> dict[str, Any]:
    return {
        "tokenizer": clip_tokenizer(),
        "text_encoder": clip_text_encoder(CLIPTextModelWithProjection),
        "prior": stable_cascade_unet(
            4,
            clip_text_in_channels=WIDTH,
            clip_image_in_channels=WIDTH,
            switch_level=(False,),
        ),
        "scheduler": DDPMWuerstchenScheduler(),
    }


def stable_cascade_decoder() -> dict[str, Any]:
    return {
        "decoder": stable_cascade_unet(4, patch_size=2, effnet_in_channels=4),
        "tokenizer": clip_tokenizer(),
        "text_encoder": clip_text_encoder(CLIPTextModelWithProjection),
        "scheduler": DDPMWuerstchenScheduler(),
        "vqgan": paella(),
        "latent_dim_scale": 4.0,
    }


def cascade_prior_inputs(batch: int) -> dict[str, Any]:
    """The embedding that is made has 12 rows and columns."""
    return image_inputs(batch) | {"height": 512, "width": 512, "negative_prompt": [""] * batch}


def cascade_decoder_inputs(batch: int) -> dict[str, Any]:
    return {
        "prompt": prompts(batch),
        "negative_prompt": [""] * batch,
        "guidance_scale": 3.0,
        "image_embeddings": pictures(batch, channels=4, size=4),
        "output_type": "latent",
    }


def wuerstchen_decoder_inputs(batch: int) -> dict[str, Any]:
    """The pipeline takes one prompt for all image embeddings."""
    return cascade_decoder_inputs(batch) | {"prompt": "red apple", "negative_prompt": ""}


# Shap-E: what it denoises are the weights of a renderer.


def shap_e_prior(**more: Any) -> PriorTransformer:
    return PriorTransformer(
        num_attention_heads=2,
        attention_head_dim=16,
        num_layers=1,
        embedding_dim=32,
        num_embeddings=16,
        additional_embeddings=0,
        time_embed_act_fn="gelu",
        norm_in_type="layer",
        encoder_hid_proj_type=None,
        added_emb_type=None,
        time_embed_dim=128,
        embedding_proj_dim=WIDTH,
        clip_embed_dim=64,
        **more,
    )


def shap_e_scheduler() -> HeunDiscreteScheduler:
    return HeunDiscreteScheduler(
        beta_schedule="exp",
        num_train_timesteps=1024,
        prediction_type="sample",
        use_karras_sigmas=True,
        clip_sample=True,
    )


def shap_e() -> dict[str, Any]:
    return {
        "prior": shap_e_prior(),
        "text_encoder": clip_text_encoder(CLIPTextModelWithProjection),
        "tokenizer": clip_tokenizer(),
        "scheduler": shap_e_scheduler(),
        "shap_e_renderer": None,
    }


def shap_e_img2img() -> dict[str, Any]:
    return {
        "prior": shap_e_prior(embedding_proj_norm_type="layer"),
        "image_encoder": CLIPVisionModel(clip_image_encoder().config),
        "image_processor": clip_image_processor(),
        "scheduler": shap_e_scheduler(),
        "shap_e_renderer": None,
    }


def shap_e_img2img_inputs(batch: int) -> dict[str, Any]:
    return {"image": pictures(batch), "guidance_scale": 4.0}


PIPELINES: list[TinyPipeline] = [
    entry(diffusers.DDPMPipeline, unconditional(ddpm), ddim_inputs),
    entry(diffusers.PNDMPipeline, unconditional(pndm), ddim_inputs),
    entry(
        diffusers.RePaintPipeline,
        unconditional(RePaintScheduler),
        repaint_inputs,
        batches=False,  # all samples' noise is drawn from the first one's generator
        exact=False,  # some of the scheduler's steps lead back, and call no denoiser
    ),
    entry(
        diffusers.ConsistencyModelPipeline,
        unconditional(CMStochasticIterativeScheduler),
        ddim_inputs,
    ),
    entry(
        diffusers.LDMPipeline,
        unconditional(ddim, unet=lambda: tiny_picture_unet(4, 4), vqvae=tiny_vq_model),
        ddim_inputs,
    ),
    entry(
        diffusers.LDMSuperResolutionPipeline,
        unconditional(ddim, unet=lambda: tiny_picture_unet(6), vqvae=lambda: tiny_vae(3)),
        small_pictures,
    ),
    entry(diffusers.IFImg2ImgPipeline, deepfloyd_parts, deepfloyd_picture_inputs),
    entry(diffusers.IFInpaintingPipeline, deepfloyd_parts, deepfloyd_inpaint_inputs),
    entry(
        diffusers.IFSuperResolutionPipeline, deepfloyd_resolution_parts, deepfloyd_resolution_inputs
    ),
    entry(diffusers.IFImg2ImgSuperResolutionPipeline, deepfloyd_resolution_parts, small_and_large),
    entry(
        diffusers.IFInpaintingSuperResolutionPipeline,
        deepfloyd_resolution_parts,
        deepfloyd_resolution_inpaint_inputs,
    ),
    entry(diffusers.KandinskyPipeline, kandinsky_text_parts, with_prompts(kandinsky_inputs)),
    entry(
        diffusers.KandinskyImg2ImgPipeline,
        kandinsky_text_parts,
        with_prompts(kandinsky_img2img_inputs),
    ),
    entry(
        diffusers.KandinskyInpaintPipeline,
        functools.partial(kandinsky_text_parts, 9),
        with_prompts(kandinsky_inpaint_inputs),
    ),
    entry(diffusers.KandinskyPriorPipeline, kandinsky_prior, prior_inputs, "prior"),
    entry(diffusers.KandinskyV22Img2ImgPipeline, kandinsky_parts, kandinsky_img2img_inputs),
    entry(
        diffusers.KandinskyV22InpaintPipeline,
        functools.partial(kandinsky_parts, 9),
        kandinsky22_inpaint_inputs,
    ),
    entry(
        diffusers.KandinskyV22ControlnetPipeline,
        functools.partial(kandinsky_parts, 8, "image_hint"),
        kandinsky_control_inputs,
    ),
    entry(
        diffusers.KandinskyV22ControlnetImg2ImgPipeline,
        functools.partial(kandinsky_parts, 8, "image_hint"),
        kandinsky_control_img2img_inputs,
    ),
    entry(diffusers.KandinskyV22PriorPipeline, kandinsky_prior, prior_inputs, "prior"),
    entry(diffusers.KandinskyV22PriorEmb2EmbPipeline, kandinsky_prior, emb2emb_inputs, "prior"),
    entry(diffusers.Kandinsky3Pipeline, kandinsky3, kandinsky3_inputs),
    entry(diffusers.Kandinsky3Img2ImgPipeline, kandinsky3, kandinsky3_img2img_inputs),
    entry(
        diffusers.UnCLIPPipeline,
        unclip,
        unclip_inputs,
        "prior",
        "decoder",
        "super_res_first",
        "super_res_last",
        strict=False,
    ),
    entry(
        diffusers.UnCLIPImageVariationPipeline,
        unclip_variation,
        unclip_variation_inputs,
        "decoder",
        "super_res_first",
        "super_res_last",
        strict=False,
    ),
    entry(diffusers.WuerstchenPriorPipeline, wuerstchen_prior, cascade_prior_inputs, "prior"),
    entry(
        diffusers.WuerstchenDecoderPipeline,
        wuerstchen_decoder,
        wuerstchen_decoder_inputs,
        "decoder",
    ),
    entry(
        diffusers.StableCascadePriorPipeline, stable_cascade_prior, cascade_prior_inputs, "prior"
    ),
    entry(
        diffusers.StableCascadeDecoderPipeline,
        stable_cascade_decoder,
        cascade_decoder_inputs,
        "decoder",
    ),
    entry(diffusers.ShapEPipeline, shap_e, prior_inputs, "prior"),
    entry(diffusers.ShapEImg2ImgPipeline, shap_e_img2img, shap_e_img2img_inputs, "prior"),
]

_TOKENS = "discrete tokens"
_COMBINED = "enable its inner ones instead"
_NO_STEP = "no scheduler whose step"

REFUSED = {
    "AmusedPipeline": _TOKENS,
    "AmusedImg2ImgPipeline": _TOKENS,
    "AmusedInpaintPipeline": _TOKENS,
    "VQDiffusionPipeline": _TOKENS,
    "KandinskyCombinedPipeline": _COMBINED,
    "KandinskyImg2ImgCombinedPipeline": _COMBINED,
    "KandinskyInpaintCombinedPipeline": _COMBINED,
    "KandinskyV22CombinedPipeline": _COMBINED,
    "KandinskyV22Img2ImgCombinedPipeline": _COMBINED,
    "KandinskyV22InpaintCombinedPipeline": _COMBINED,
    "StableCascadeCombinedPipeline": _COMBINED,
    "WuerstchenCombinedPipeline": _COMBINED,
    "ScoreSdeVePipeline": _NO_STEP,
    "KarrasVePipeline": _NO_STEP,
}
