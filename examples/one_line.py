"""Any diffusers pipeline, one line: here the miniature that ships with the package.

python examples/one_line.py
"""

import torch

import adaptive_diffusion as ad

pipe = ad.load_miniature("emoji")  # yours: DiffusionPipeline.from_pretrained(...).to("cuda")
prompts = ["a red apple", "a tiger face"]


def seeds() -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in range(len(prompts))]


full = pipe(prompts, num_inference_steps=50, generator=seeds(), output_type="pt").images

with ad.accelerate(pipe, tolerance=0.01) as run:
    fast = pipe(prompts, num_inference_steps=50, generator=seeds(), output_type="pt").images

print(run.report)
print("PSNR to the full run, in dB:", ad.psnr(fast, full).tolist())
