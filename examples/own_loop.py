"""A sampling loop of one's own: wrap the denoiser and the step, say which timesteps come, and loop.

python examples/own_loop.py
"""

import torch

import adaptive_diffusion as ad

digits = ad.load_miniature("digits")
levels = digits.scheduler.alphas_cumprod
timesteps = torch.arange(980, -1, -20)
signal = [*levels[timesteps].sqrt().tolist(), 1.0]
noise = [*(1 - levels[timesteps]).sqrt().tolist(), 0.0]


def step(predicted_noise, t, x):
    """DDIM, written out."""
    i = timesteps.tolist().index(int(t))
    clean = (x - noise[i] * predicted_noise) / signal[i]
    return signal[i + 1] * clean + noise[i + 1] * predicted_noise


@torch.no_grad()
def sample(denoise, step, x):
    for t in timesteps:
        x = step(denoise(x, t), t, x)
    return x


def model(x, t):
    return digits.unet(x, t).sample


start = torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(0))
full = sample(model, step, start)

# the step is optional: with it, skipped steps are corrected when the next output is known
denoise = ad.AdaptiveDenoiser(model, policy=ad.ErrorControlled(tolerance=0.005), step=step)
# the noise levels are optional: without them, t itself is what outputs are extrapolated along
denoise.start(timesteps, schedule=ad.NoiseSchedule.from_levels(signal, noise, "epsilon"))
fast = sample(denoise, denoise.step, start)

print(denoise.report())
print("PSNR to the full run, in dB:", ad.psnr(fast, full, data_range=2.0).tolist())
