"""Other kinds of data: paths past obstacles, planned in a sampling loop of one's own.

python examples/plan_paths.py
"""

import torch

import adaptive_diffusion as ad
from adaptive_diffusion.miniatures.rooms import Rooms

STEPS = 50

motions = ad.load_miniature("motions")
rooms = Rooms.random(16, seed=7)  # where to start, where to go, and what is in the way
times = [1 - i / STEPS for i in range(STEPS)]


def step(velocity, t, x):
    """Euler's method."""
    return x - velocity / STEPS


@torch.no_grad()
def sample(denoise, step, x):
    for t in times:
        velocity = denoise(x, t, start=rooms.start, goal=rooms.goal, obstacles=rooms.obstacles)
        x = step(velocity, t, x)
    return x


noise = motions.noise(seeds=range(16))
full = sample(motions.denoiser, step, noise)

denoise = ad.AdaptiveDenoiser(motions.denoiser, step=step)
denoise.start(times, motions.schedule(STEPS))
fast = sample(denoise, denoise.step, noise)

print(denoise.report())
print("PSNR to the full run, in dB:", ad.psnr(fast, full, data_range=2.0).round().tolist())
for name, paths in (("full", full), ("accelerated", fast)):
    touch_nothing = int((rooms.clearance(paths) >= 0).sum())
    print(f"{name}: {touch_nothing} of {len(rooms)} paths touch no obstacle")
