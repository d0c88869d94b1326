"""Any diffusers pipeline, one line: here the miniature that ships with the package.

python examples/one_line.py
"""

import torch

import adaptive_diffusion as ad

pipe = ad.load_miniature("emoji")  # yours: DiffusionPipeline.from_pretrained(...).to("cuda")
prompts = ["a red apple", "a tiger face"]
settings = {"num_inference_steps": 50, "guidance_scale": 3.0, "output_type": "pt"}


def seeds() -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in range(len(prompts))]


full = pipe(prompts, generator=seeds(), **settings).images

with ad.accelerate(pipe, tolerance=0.01) as run:
    fast = pipe(prompts, generator=seeds(), **settings).images

print(run.report)
print("PSNR to the full run, in dB:", ad.psnr(fast, full).tolist())
