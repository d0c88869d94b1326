"""Stable Diffusion 1 and 2."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import diffusers
import torch
from diffusers import (
    ControlNetModel,
    ControlNetXSAdapter,
    DDIMInverseScheduler,
    DDIMScheduler,
    DDPMScheduler,
    DiffusionPipeline,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    LCMScheduler,
    T2IAdapter,
    UniDiffuserModel,
    UniDiffuserTextDecoder,
)
from diffusers.pipelines.deprecated.alt_diffusion.modeling_roberta_series import (
    RobertaSeriesConfig,
    RobertaSeriesModelWithTransformation,
)
from diffusers.pipelines.deprecated.paint_by_example import PaintByExampleImageEncoder
from diffusers.pipelines.stable_diffusion.clip_image_project_model import CLIPImageProjection
from diffusers.pipelines.stable_diffusion.stable_unclip_image_normalizer import (
    StableUnCLIPImageNormalizer,
)
from transformers import CLIPTextModelWithProjection

from tiny_pipelines.base import TinyPipeline
from tiny_pipelines.core import (
    controlnet_inputs,
    inpaint_inputs,
    stable_diffusion,
)
from tiny_pipelines.inputs import image_inputs, masks, photographs, pictures, prompts
from tiny_pipelines.parts import (
    BETAS,
    CLIP_LENGTH,
    CONDITION_CHANNELS,
    SIZE,
    T5_LENGTH,
    UNET_SHAPE,
    WIDTH,
    clip_image_encoder,
    clip_image_processor,
    clip_text_encoder,
    clip_tokenizer,
    ddim,
    ip_adapter_weights,
    t5_tokenizer,
    tiny_prior,
    tiny_unet,
    tiny_vae,
)
from tiny_pipelines.sdxl import sdxl

Inputs = Callable[[int], dict[str, Any]]


def entry(
    kind: type[DiffusionPipeline],
    inputs: Inputs = image_inputs,
    variant: str = "",
    build: Callable[[], Any] | None = None,
    denoisers: tuple[str, ...] = ("unet",),
    side_networks: tuple[str, ...] = (),
    batches: bool = True,
    whole: str = "",
    strict: bool = True,
    **components: Callable[[], Any],
) -> TinyPipeline:
    """A pipeline class, made of Stable Diffusion's components and some that are its own."""

    def build_of_parts() -> DiffusionPipeline:
        return stable_diffusion(kind, **{name: make() for name, make in components.items()})

    return TinyPipeline(
        f"{kind.__name__}/{variant}" if variant else kind.__name__,
        kind,
        build or build_of_parts,
        inputs,
        denoisers,
        side_networks,
        batches,
        whole,
        strict,
    )


def unet(**changes: Any) -> Callable[[], Any]:
    return functools.partial(tiny_unet, **changes)


def v_prediction() -> DDIMScheduler:
    """As Stable Diffusion 2 has it."""
    return DDIMScheduler(
        **BETAS,
        prediction_type="v_prediction",
        clip_sample=False,
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
    )


def control_net() -> ControlNetModel:
    return ControlNetModel(conditioning_embedding_out_channels=CONDITION_CHANNELS, **UNET_SHAPE)


def img2img_inputs(batch: int) -> dict[str, Any]:
    """Two thirds of the steps: as many as it takes to skip one and come back."""
    return picture_inputs(batch) | {"strength": 0.8}


def picture_inputs(batch: int) -> dict[str, Any]:
    """Arguments of a call that takes a picture, and its size from there."""
    return {"prompt": prompts(batch), "guidance_scale": 5.0, "image": pictures(batch)}


def control_inputs(batch: int) -> dict[str, Any]:
    return img2img_inputs(batch) | {"control_image": pictures(batch).flip(-1)}


def control_inpaint_inputs(batch: int) -> dict[str, Any]:
    return inpaint_inputs(batch) | {"control_image": pictures(batch).flip(-1)}


def legacy_inpaint_inputs(batch: int) -> dict[str, Any]:
    """The pipeline takes tensors as they are: pictures from -1 to 1."""
    return img2img_inputs(batch) | {"image": 2 * pictures(batch) - 1, "mask_image": masks(batch)}


def ldm3d_inputs(batch: int) -> dict[str, Any]:
    """The pipeline knows neither of the output types "latent" and "pt"."""
    return image_inputs(batch) | {"output_type": "np"}


def semantic_inputs(batch: int) -> dict[str, Any]:
    """One edit, since the pipeline mixes up the edits of a batch."""
    return image_inputs(batch) | {
        "editing_prompt": ["apple"],
        "edit_warmup_steps": 1,
    }


def cycle_inputs(batch: int) -> dict[str, Any]:
    return img2img_inputs(batch) | {"source_prompt": ["a thing"] * batch}


def unclip_inputs(batch: int) -> dict[str, Any]:
    return image_inputs(batch) | {"prior_num_inference_steps": 6}


def unclip_picture_inputs(batch: int) -> dict[str, Any]:
    return image_inputs(batch) | {"image": pictures(batch)}


def diffedit_inputs(batch: int) -> dict[str, Any]:
    """The inverted latents of every step, as the pipeline's own ``invert`` gives them."""
    side = SIZE // 2
    inverted = [
        torch.randn(1, 6, 4, side, side, generator=torch.Generator().manual_seed(3000 + b))
        for b in range(batch)
    ]
    return {
        "prompt": prompts(batch),
        "guidance_scale": 5.0,
        "mask_image": masks(batch)[:, 0, ::2, ::2],
        "image_latents": torch.cat(inverted),
        "inpaint_strength": 1.0,
    }


def image_variation() -> DiffusionPipeline:
    return diffusers.StableDiffusionImageVariationPipeline(
        vae=tiny_vae(),
        image_encoder=clip_image_encoder(),
        unet=tiny_unet(),
        scheduler=ddim(),
        safety_checker=None,
        feature_extractor=clip_image_processor(),
        requires_safety_checker=False,
    )


def variation_inputs(batch: int) -> dict[str, Any]:
    return {"image": pictures(batch), "guidance_scale": 5.0, "height": SIZE, "width": SIZE}


def paint_by_example() -> DiffusionPipeline:
    config = clip_image_encoder().config
    return diffusers.PaintByExamplePipeline(
        vae=tiny_vae(),
        image_encoder=PaintByExampleImageEncoder(config, proj_size=WIDTH),
        unet=tiny_unet(in_channels=9),
        scheduler=ddim(),
        safety_checker=None,
        feature_extractor=clip_image_processor(),
    )


def example_inputs(batch: int) -> dict[str, Any]:
    return {
        "example_image": pictures(batch).flip(-1),
        "image": 2 * pictures(batch) - 1,
        "mask_image": masks(batch),
        "guidance_scale": 5.0,
    }


def latent_upscale() -> DiffusionPipeline:
    return diffusers.StableDiffusionLatentUpscalePipeline(
        vae=tiny_vae(),
        text_encoder=clip_text_encoder(),
        tokenizer=clip_tokenizer(),
        unet=tiny_unet(in_channels=8, out_channels=5, time_cond_proj_dim=128 + WIDTH),
        scheduler=EulerDiscreteScheduler(prediction_type="sample"),
    )


def latent_upscale_inputs(batch: int) -> dict[str, Any]:
    """Latents of half the usual size."""
    return {
        "prompt": prompts(batch),
        "guidance_scale": 5.0,
        "image": pictures(batch, channels=4, size=SIZE // 4),
    }


def upscale() -> DiffusionPipeline:
    return diffusers.StableDiffusionUpscalePipeline(
        vae=tiny_vae(),
        text_encoder=clip_text_encoder(),
        tokenizer=clip_tokenizer(),
        unet=tiny_unet(in_channels=7, num_class_embeds=1000),
        low_res_scheduler=DDPMScheduler(),
        scheduler=v_prediction(),
    )


def upscale_inputs(batch: int) -> dict[str, Any]:
    """A picture of the latents' size."""
    return picture_inputs(batch) | {"image": pictures(batch, size=SIZE // 2)}


def depth_to_image() -> DiffusionPipeline:
    return diffusers.StableDiffusionDepth2ImgPipeline(
        vae=tiny_vae(),
        text_encoder=clip_text_encoder(),
        tokenizer=clip_tokenizer(),
        unet=tiny_unet(in_channels=5),
        scheduler=ddim(),
        depth_estimator=None,
        feature_extractor=None,
    )


def depth_inputs(batch: int) -> dict[str, Any]:
    """With depth maps, so that nobody need estimate the depth."""
    return img2img_inputs(batch) | {"depth_map": pictures(batch, channels=1)[:, 0].flip(-1)}


def gligen_inputs(batch: int) -> dict[str, Any]:
    """Two boxes, for two thirds of the steps."""
    return image_inputs(batch) | {
        "gligen_phrases": ["apple", "boat"],
        "gligen_boxes": [[0.1, 0.1, 0.5, 0.5], [0.4, 0.4, 0.9, 0.9]],
        "gligen_scheduled_sampling_beta": 0.7,
    }


def t2i_adapter() -> T2IAdapter:
    return T2IAdapter(
        in_channels=3,
        channels=list(UNET_SHAPE["block_out_channels"]),
        num_res_blocks=1,
        downscale_factor=2,
        adapter_type="full_adapter",
    )


def controlnet_xs() -> DiffusionPipeline:
    """It takes for granted that a UNet has two layers per block."""
    unet = tiny_unet(layers_per_block=2)
    adapter = ControlNetXSAdapter.from_unet(
        unet,
        size_ratio=0.5,
        conditioning_embedding_out_channels=CONDITION_CHANNELS,
        num_attention_heads=2,
    )
    return stable_diffusion(
        diffusers.StableDiffusionControlNetXSPipeline, unet=unet, controlnet=adapter
    )


def video_zero_inputs(batch: int) -> dict[str, Any]:
    """The first frame's loop is stopped two steps before its end, then three go on together."""
    return image_inputs(batch) | {"video_length": 3, "t0": 1, "t1": 3, "output_type": "latent"}


def prior_scheduler() -> DDPMScheduler:
    return DDPMScheduler(
        beta_schedule="squaredcos_cap_v2",
        variance_type="fixed_small_log",
        prediction_type="sample",
        clip_sample_range=5.0,
    )


def stable_unclip_parts() -> dict[str, Any]:
    return {
        "image_normalizer": StableUnCLIPImageNormalizer(embedding_dim=WIDTH),
        "image_noising_scheduler": DDPMScheduler(beta_schedule="squaredcos_cap_v2"),
        "tokenizer": clip_tokenizer(),
        "text_encoder": clip_text_encoder(),
        "unet": tiny_unet(
            class_embed_type="projection", projection_class_embeddings_input_dim=2 * WIDTH
        ),
        "scheduler": ddim(),
        "vae": tiny_vae(),
    }


def stable_unclip() -> DiffusionPipeline:
    return diffusers.StableUnCLIPPipeline(
        prior_tokenizer=clip_tokenizer(),
        prior_text_encoder=clip_text_encoder(CLIPTextModelWithProjection),
        prior=tiny_prior(),
        prior_scheduler=prior_scheduler(),
        **stable_unclip_parts(),
    )


def stable_unclip_img2img() -> DiffusionPipeline:
    return diffusers.StableUnCLIPImg2ImgPipeline(
        feature_extractor=clip_image_processor(),
        image_encoder=clip_image_encoder(),
        **stable_unclip_parts(),
    )


def ip_adapter() -> DiffusionPipeline:
    pipe = stable_diffusion(
        diffusers.StableDiffusionPipeline,
        image_encoder=clip_image_encoder(),
        feature_extractor=clip_image_processor(),
    )
    pipe.load_ip_adapter(ip_adapter_weights(pipe.unet), subfolder="", weight_name="")
    return pipe


def ip_adapter_inputs(batch: int) -> dict[str, Any]:
    """One picture for all samples: the pipeline takes no batch of them."""
    return image_inputs(batch) | {"ip_adapter_image": pictures(1)}


def gligen_text_image() -> DiffusionPipeline:
    return stable_diffusion(
        diffusers.StableDiffusionGLIGENTextImagePipeline,
        unet=tiny_unet(attention_type="gated-text-image"),
        processor=clip_image_processor(),
        image_encoder=clip_image_encoder(),
        image_project=CLIPImageProjection(hidden_size=WIDTH),
    )


def gligen_images_inputs(batch: int) -> dict[str, Any]:
    return gligen_inputs(batch) | {"gligen_images": list(pictures(2))}


def marigold(kind: type[DiffusionPipeline], channels: int) -> DiffusionPipeline:
    """A UNet that sees the picture's latents beside those of ``channels`` to be found."""
    return kind(
        unet=tiny_unet(in_channels=4 + channels, out_channels=channels),
        vae=tiny_vae(),
        scheduler=v_prediction(),
        text_encoder=clip_text_encoder(),
        tokenizer=clip_tokenizer(),
        prediction_type=None,
        default_denoising_steps=6,
        default_processing_resolution=0,
    )


def marigold_inputs(batch: int) -> dict[str, Any]:
    return {
        "image": pictures(batch),
        "batch_size": batch,
        "processing_resolution": 0,
        "match_input_resolution": False,
        "output_latent": True,
    }


def roberta() -> RobertaSeriesModelWithTransformation:
    """AltDiffusion's multilingual encoder, for ``t5_tokenizer``."""
    return RobertaSeriesModelWithTransformation(
        RobertaSeriesConfig(
            vocab_size=98,
            hidden_size=WIDTH,
            intermediate_size=WIDTH,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=T5_LENGTH + 3,
            project_dim=WIDTH,
        )
    )


def versatile(kind: type[DiffusionPipeline]) -> DiffusionPipeline:
    """Each of the pipelines takes those of the components that it needs."""
    components = {
        "tokenizer": clip_tokenizer(),
        "image_feature_extractor": clip_image_processor(),
        "text_encoder": clip_text_encoder(CLIPTextModelWithProjection),
        "image_encoder": clip_image_encoder(),
        "image_unet": tiny_unet(),
        "text_unet": tiny_unet(),
        "vae": tiny_vae(),
        "scheduler": ddim(),
    }
    taken = inspect.signature(kind.__init__).parameters
    return kind(**{name: part for name, part in components.items() if name in taken})


def versatile_image_inputs(batch: int) -> dict[str, Any]:
    return {
        "image": photographs(batch),
        "guidance_scale": 5.0,
        "height": SIZE,
        "width": SIZE,
    }


def unidiffuser() -> DiffusionPipeline:
    """Pictures and captions, of which the one or the other or both are denoised."""
    return diffusers.UniDiffuserPipeline(
        vae=tiny_vae(),
        text_encoder=clip_text_encoder(),
        image_encoder=clip_image_encoder(),
        clip_image_processor=clip_image_processor(),
        clip_tokenizer=clip_tokenizer(),
        text_decoder=UniDiffuserTextDecoder(
            prefix_length=CLIP_LENGTH,
            prefix_inner_dim=WIDTH,
            prefix_hidden_dim=WIDTH,
            vocab_size=600,
            n_positions=2 * CLIP_LENGTH,
            n_embd=WIDTH,
            n_layer=1,
            n_head=2,
        ),
        text_tokenizer=clip_tokenizer(),
        unet=UniDiffuserModel(
            text_dim=WIDTH,
            clip_img_dim=WIDTH,
            num_text_tokens=CLIP_LENGTH,
            num_attention_heads=2,
            attention_head_dim=16,
            in_channels=4,
            out_channels=4,
            num_layers=2,
            sample_size=SIZE // 2,
            patch_size=2,
            norm_type="layer_norm",
            pre_layer_norm=False,
            use_patch_pos_embed=False,
        ),
        scheduler=DPMSolverMultistepScheduler(**BETAS, solver_order=3),
    )


def unprompted_inputs(batch: int) -> dict[str, Any]:
    inputs = image_inputs(batch)
    del inputs["prompt"]
    return inputs


def lcm() -> LCMScheduler:
    return LCMScheduler(**BETAS)


with_control = {"side_networks": ("controlnet",), "controlnet": control_net}
with_guidance_input = {"scheduler": lcm, "unet": unet(time_cond_proj_dim=32)}


class Proxy:
    """A scheduler of somebody's own: everything is the inner one's."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def injected() -> DiffusionPipeline:
    """With a scheduler that was put into the ready pipeline."""
    pipe = stable_diffusion(diffusers.StableDiffusionPipeline)
    pipe.scheduler = Proxy(pipe.scheduler)
    return pipe


@dataclass
class ForeignAnswer:
    """A plain dataclass, and no output class of diffusers."""

    sample: torch.Tensor

    def __getitem__(self, place: int) -> torch.Tensor:
        return (self.sample,)[place]


class ForeignUNet(torch.nn.Module):
    """A denoiser that is no model of diffusers."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner, self.config = inner, inner.config
        self.dtype, self.device = inner.dtype, inner.device

    def forward(self, sample: torch.Tensor, timestep: Any, **more: Any) -> ForeignAnswer:
        return ForeignAnswer(self.inner(sample, timestep, **more | {"return_dict": True}).sample)


def foreign() -> DiffusionPipeline:
    """With a denoiser that was put into the ready pipeline."""
    pipe = stable_diffusion(diffusers.StableDiffusionPipeline)
    pipe.unet = ForeignUNet(pipe.unet)
    return pipe


PIPELINES: list[TinyPipeline] = [
    entry(diffusers.StableDiffusionPipeline, variant="v-prediction", scheduler=v_prediction),
    entry(diffusers.StableDiffusionPipeline, ip_adapter_inputs, "ip-adapter", build=ip_adapter),
    entry(diffusers.StableDiffusionPipeline, variant="injected scheduler", build=injected),
    entry(diffusers.StableDiffusionPipeline, variant="foreign denoiser", build=foreign),
    entry(
        diffusers.StableDiffusionInpaintPipeline,
        inpaint_inputs,
        "mask as input",
        unet=unet(in_channels=9),
    ),
    entry(
        diffusers.StableDiffusionInstructPix2PixPipeline, picture_inputs, unet=unet(in_channels=8)
    ),
    entry(diffusers.StableDiffusionDepth2ImgPipeline, depth_inputs, build=depth_to_image),
    entry(diffusers.StableDiffusionUpscalePipeline, upscale_inputs, build=upscale),
    entry(
        diffusers.StableDiffusionLatentUpscalePipeline,
        latent_upscale_inputs,
        build=latent_upscale,
    ),
    entry(diffusers.StableDiffusionImageVariationPipeline, variation_inputs, build=image_variation),
    entry(diffusers.StableDiffusionControlNetImg2ImgPipeline, control_inputs, **with_control),
    entry(
        diffusers.StableDiffusionControlNetInpaintPipeline, control_inpaint_inputs, **with_control
    ),
    entry(diffusers.StableDiffusionControlNetXSPipeline, controlnet_inputs, build=controlnet_xs),
    entry(diffusers.StableDiffusionAdapterPipeline, controlnet_inputs, adapter=t2i_adapter),
    entry(diffusers.StableDiffusionPAGPipeline),
    entry(diffusers.StableDiffusionPAGImg2ImgPipeline, img2img_inputs),
    entry(diffusers.StableDiffusionPAGInpaintPipeline, inpaint_inputs),
    entry(diffusers.StableDiffusionControlNetPAGPipeline, controlnet_inputs, **with_control),
    entry(
        diffusers.StableDiffusionControlNetPAGInpaintPipeline,
        control_inpaint_inputs,
        **with_control,
    ),
    entry(diffusers.LatentConsistencyModelPipeline, **with_guidance_input),
    entry(diffusers.LatentConsistencyModelImg2ImgPipeline, img2img_inputs, **with_guidance_input),
    entry(
        diffusers.StableUnCLIPPipeline,
        unclip_inputs,
        build=stable_unclip,
        denoisers=("prior", "unet"),
    ),
    entry(
        diffusers.StableUnCLIPImg2ImgPipeline, unclip_picture_inputs, build=stable_unclip_img2img
    ),
    entry(
        diffusers.StableDiffusionGLIGENPipeline,
        gligen_inputs,
        unet=unet(attention_type="gated"),
    ),
    entry(
        diffusers.StableDiffusionGLIGENTextImagePipeline,
        gligen_images_inputs,
        build=gligen_text_image,
    ),
    entry(
        diffusers.StableDiffusionDiffEditPipeline,
        diffedit_inputs,
        inverse_scheduler=DDIMInverseScheduler,
    ),
    entry(
        diffusers.StableDiffusionLDM3DPipeline,
        ldm3d_inputs,
        image_encoder=lambda: None,
        vae=lambda: tiny_vae(colours=6),
    ),
    entry(diffusers.StableDiffusionModelEditingPipeline),
    entry(diffusers.StableDiffusionPipelineSafe),
    entry(diffusers.SemanticStableDiffusionPipeline, semantic_inputs),
    entry(
        diffusers.CycleDiffusionPipeline,
        cycle_inputs,
        batches=False,  # the first sample's output serves for all
    ),
    entry(diffusers.StableDiffusionInpaintPipelineLegacy, legacy_inpaint_inputs),
    entry(diffusers.PaintByExamplePipeline, example_inputs, build=paint_by_example),
    entry(diffusers.TextToVideoZeroPipeline, video_zero_inputs, batches=False, strict=False),
    entry(
        diffusers.TextToVideoZeroSDXLPipeline,
        video_zero_inputs,
        build=lambda: sdxl(diffusers.TextToVideoZeroSDXLPipeline, scheduler=ddim()),
        batches=False,
        strict=False,
    ),
    entry(diffusers.AltDiffusionPipeline, text_encoder=roberta, tokenizer=t5_tokenizer),
    entry(
        diffusers.AltDiffusionImg2ImgPipeline,
        img2img_inputs,
        text_encoder=roberta,
        tokenizer=t5_tokenizer,
    ),
    *(
        entry(kind, inputs, build=functools.partial(versatile, kind), denoisers=("image_unet",))
        for kind, inputs in (
            (diffusers.VersatileDiffusionTextToImagePipeline, image_inputs),
            (diffusers.VersatileDiffusionImageVariationPipeline, versatile_image_inputs),
        )
    ),
    entry(
        diffusers.UniDiffuserPipeline,
        build=unidiffuser,
        whole="laid out differently",
    ),
    entry(
        diffusers.UniDiffuserPipeline,
        unprompted_inputs,
        "with caption",
        build=unidiffuser,
        batches=False,
    ),
    *(
        entry(kind, marigold_inputs, build=functools.partial(marigold, kind, channels))
        for kind, channels in (
            (diffusers.MarigoldDepthPipeline, 4),
            (diffusers.MarigoldNormalsPipeline, 4),
            (diffusers.MarigoldIntrinsicsPipeline, 8),
        )
    ),
]

_WITHOUT_Q_FORMER = "its Q-Former fails with transformers 5: no attribute `invert_attention_mask`"

NOT_BUILT = {
    "BlipDiffusionPipeline": _WITHOUT_Q_FORMER,
    "BlipDiffusionControlNetPipeline": _WITHOUT_Q_FORMER,
    "VersatileDiffusionDualGuidedPipeline": "its own code fails: its `DualTransformer2DModel` "
    "takes no `encoder_attention_mask`",
}

REFUSED = {
    "VersatileDiffusionPipeline": "use and enable those instead",
    "StableDiffusionSAGPipeline": "attention maps",
    "StableDiffusionAttendAndExcitePipeline": "gradients",
    "StableDiffusionPix2PixZeroPipeline": "gradients",
    "StableDiffusionParadigmsPipeline": "many timesteps in one call",
    "StableDiffusionPanoramaPipeline": "interleaved views",
    "LEditsPPPipelineStableDiffusion": "attention maps",
    "OnnxStableDiffusionImg2ImgPipeline": "ONNX",
    "OnnxStableDiffusionInpaintPipeline": "ONNX",
    "OnnxStableDiffusionInpaintPipelineLegacy": "ONNX",
    "OnnxStableDiffusionPipeline": "ONNX",
    "OnnxStableDiffusionUpscalePipeline": "ONNX",
    "StableDiffusionOnnxPipeline": "ONNX",
}
