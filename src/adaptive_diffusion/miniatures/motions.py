"""Paths through rooms: a diffusion model of data that are no pictures, with a loop of its own.

A path is 32 points from a start to a goal, past round obstacles. There are several good ones, and
the noise that the loop starts from decides between them, as in the trajectory planners that this is
a small relative of (Janner et al., "Planning with Diffusion for Flexible Behavior Synthesis", ICML
2022). The model learns by flow matching: a noisy path is `(1 - t) path + t noise`, and the denoiser
predicts the velocity `noise - path`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from adaptive_diffusion.miniatures.rooms import Rooms
from adaptive_diffusion.numerics.noise_schedule import NoiseSchedule

__all__ = ["Motions", "PathDenoiser", "euler"]

_FREQUENCIES = 32  # of the waves that the time is told by
_FEELERS = 32  # what a point feels of an obstacle
_NEAR = 0.2  # from an obstacle's edge


class PathDenoiser(nn.Module):
    """A transformer over the points of a path, the two ends and the obstacles.

    Before every block the path is read off as it is believed to be by then, and it is felt how near
    an obstacle each of its points comes.

    Args:
        points: of a path.
        points_per_token: neighbours that are read and written together.
        width: features of a token.
        depth: blocks.
        heads: of each attention.
    """

    def __init__(
        self, points: int, points_per_token: int, width: int, depth: int, heads: int
    ) -> None:
        super().__init__()
        self.config = {
            "points": points,
            "points_per_token": points_per_token,
            "width": width,
            "depth": depth,
            "heads": heads,
        }
        tokens = points // points_per_token
        self.path_in = nn.Linear(2 * points_per_token, width)
        self.path_embeddings = nn.Parameter(0.3 * torch.randn(tokens, width))
        self.ends_in = nn.Linear(2, width)
        self.ends_embeddings = nn.Parameter(0.3 * torch.randn(2, width))
        self.obstacles_in = _perceptron(3, width, width)
        self.time_in = _perceptron(_FREQUENCIES * 2, width, 6 * width)
        self.senses = nn.ModuleList(_Sense(points_per_token, width) for _ in range(depth))
        self.blocks = nn.ModuleList(_Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.path_out = nn.Linear(width, 2 * points_per_token)

    def forward(
        self, x: Tensor, t: Tensor | float, start: Tensor, goal: Tensor, obstacles: Tensor
    ) -> Tensor:
        """The velocity of the noisy paths `x`, `(B, points, 2)`, at the time `t` from 1 to 0.

        `start` and `goal` have shape `(B, 2)`, `obstacles` `(B, K, 3)`, as in `Rooms`; `t` is one
        number or `(B,)`.
        """
        path = self.path_in(x.unflatten(1, (len(self.path_embeddings), -1)).flatten(2))
        path = path + self.path_embeddings
        ends = self.ends_in(torch.stack([start, goal], dim=1)) + self.ends_embeddings
        room = torch.cat([ends, self.obstacles_in(obstacles)], dim=1)
        time = torch.as_tensor(t, dtype=x.dtype, device=x.device).expand(len(x))
        modulation = self.time_in(_waves(time)).unflatten(1, (6, -1))
        for block, sense in zip(self.blocks, self.senses, strict=True):
            believed = x - time[:, None, None] * self._velocity(path)
            path = path + sense(believed, obstacles)
            features = block(torch.cat([path, room], dim=1), modulation)
            path, room = features.split([path.shape[1], room.shape[1]], dim=1)
        return self._velocity(path)

    def _velocity(self, path: Tensor) -> Tensor:
        return self.path_out(self.norm(path)).unflatten(2, (-1, 2)).flatten(1, 2)


class _Sense(nn.Module):
    """What the points of a path feel of the obstacles."""

    def __init__(self, points_per_token: int, width: int) -> None:
        super().__init__()
        self._points_per_token = points_per_token
        self.feel_in = nn.Linear(4, _FEELERS)
        self.feel_out = nn.Linear(_FEELERS * points_per_token, width)

    def forward(self, path: Tensor, obstacles: Tensor) -> Tensor:
        outward = path[:, :, None] - obstacles[:, None, :, :2]
        distance = outward.norm(dim=-1, keepdim=True).clamp(min=1e-3)
        clearance = distance - obstacles[:, None, :, 2:]
        nearness = torch.exp(-clearance / _NEAR)
        felt = torch.cat([nearness * outward / distance, nearness, clearance], dim=-1)
        felt = functional.gelu(self.feel_in(felt)).sum(dim=2)
        return self.feel_out(felt.unflatten(1, (-1, self._points_per_token)).flatten(2))


class _Block(nn.Module):
    """Attention and a perceptron, scaled and shifted by the time (PixArt's shared modulation)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self._heads = heads
        self.norms = nn.ModuleList(nn.LayerNorm(width, elementwise_affine=False) for _ in "12")
        self.attention_in = nn.Linear(width, 3 * width)
        self.attention_out = nn.Linear(width, width)
        self.perceptron = _perceptron(width, 4 * width, width)
        self.modulation_embeddings = nn.Parameter(torch.zeros(6, width))

    def forward(self, features: Tensor, modulation: Tensor) -> Tensor:
        by_time = (modulation + self.modulation_embeddings)[:, :, None].unbind(dim=1)
        scale, shift, gate, scale2, shift2, gate2 = by_time
        features = features + gate * self._attend(self.norms[0](features) * (1 + scale) + shift)
        return features + gate2 * self.perceptron(self.norms[1](features) * (1 + scale2) + shift2)

    def _attend(self, features: Tensor) -> Tensor:
        parts = self.attention_in(features).unflatten(2, (3, self._heads, -1))
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(query, key, value)
        return self.attention_out(attended.transpose(1, 2).flatten(2))


def _perceptron(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.GELU(), nn.Linear(hidden, outputs))


def _waves(time: Tensor) -> Tensor:
    """Each time as sines and cosines; `(B, 2 * _FREQUENCIES)`."""
    frequencies = torch.logspace(0, 2, _FREQUENCIES, dtype=time.dtype, device=time.device)
    angles = time[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1)


class Motions:
    """The miniature: a denoiser, its noise levels, and the loop that makes paths with it.

    Attributes:
        denoiser: `denoiser(x, t, start=..., goal=..., obstacles=...)` is a velocity.
    """

    def __init__(self, denoiser: PathDenoiser) -> None:
        self.denoiser = denoiser

    @classmethod
    def load(cls, folder: Path) -> Motions:
        """The model that was saved to a folder, in float32."""
        from safetensors.torch import load_file

        denoiser = PathDenoiser(**json.loads((folder / "config.json").read_text()))
        denoiser.load_state_dict(load_file(folder / "model.safetensors"))
        return cls(denoiser.eval().requires_grad_(False))

    def save(self, folder: Path) -> None:
        """Writes the model to a folder, in half precision."""
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        weights = {name: value.half() for name, value in self.denoiser.state_dict().items()}
        save_file(weights, folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps(self.denoiser.config, indent=2) + "\n")

    def times(self, steps: int) -> list[float]:
        """What the denoiser is told in a loop of that many steps: from 1 down, the last above 0."""
        return [1 - step / steps for step in range(steps)]

    def schedule(self, steps: int) -> NoiseSchedule:
        """The noise levels at these times, for `AdaptiveDenoiser.start`."""
        noise = [*self.times(steps), 0.0]
        return NoiseSchedule.from_levels([1 - level for level in noise], noise, "flow_prediction")

    def noise(self, seeds: Iterable[int]) -> Tensor:
        """What the loop starts from, `(B, points, 2)`; each row from a seed of its own."""
        shape = (self.denoiser.config["points"], 2)
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        return torch.stack([torch.randn(shape, generator=generator) for generator in generators])

    @torch.no_grad()
    def sample(
        self,
        rooms: Rooms,
        noise: Tensor,
        steps: int = 50,
        denoiser: Callable[..., Tensor] | None = None,
        step: Callable[[Tensor, float, Tensor], Tensor] | None = None,
    ) -> Tensor:
        """Paths through the rooms, `(B, points, 2)`.

        Args:
            rooms: one for each row of `noise`.
            noise: what `noise` has drawn; it decides between the ways there are.
            steps: of the loop.
            denoiser: in place of the model's own, an `AdaptiveDenoiser` of it, started with
                `times(steps)`.
            step: in place of `euler(steps)`, the `step` of an `AdaptiveDenoiser` that was given it.
        """
        denoise, step = denoiser or self.denoiser, step or euler(steps)
        x = noise
        for t in self.times(steps):
            velocity = denoise(x, t, **vars(rooms))
            x = step(velocity, t, x)
        return x


def euler(steps: int) -> Callable[[Tensor, float, Tensor], Tensor]:
    """Euler's method in that many equal steps: `step(velocity, t, x)` is the next sample."""

    def step(velocity: Tensor, t: float, x: Tensor) -> Tensor:
        return x - velocity / steps

    return step
