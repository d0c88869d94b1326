"""A sampling loop of one's own: wrap the denoiser, say which timesteps come, and loop.

python examples/own_loop.py
"""

import torch

import adaptive_diffusion as ad

digits = ad.load_miniature("digits")
levels = digits.scheduler.alphas_cumprod
timesteps = torch.arange(980, -1, -20)
signal = [*levels[timesteps].sqrt().tolist(), 1.0]
noise = [*(1 - levels[timesteps]).sqrt().tolist(), 0.0]


@torch.no_grad()
def sample(denoise, x):
    """DDIM, written out."""
    for i, t in enumerate(timesteps):
        predicted_noise = denoise(x, t)
        clean = (x - noise[i] * predicted_noise) / signal[i]
        x = signal[i + 1] * clean + noise[i + 1] * predicted_noise
    return x


def model(x, t):
    return digits.unet(x, t).sample


start = torch.randn(8, 1, 8, 8, generator=torch.manual_seed(0))
full = sample(model, start)

denoise = ad.AdaptiveDenoiser(model, policy=ad.ErrorControlled(tolerance=0.005))
# the noise levels are optional: without them, t itself is what outputs are extrapolated along
denoise.start(timesteps, schedule=ad.NoiseSchedule.from_levels(signal, noise, "epsilon"))
fast = sample(denoise, start)

print(denoise.report())
print("PSNR to the full run, in dB:", ad.psnr(fast, full, data_range=2.0).tolist())
