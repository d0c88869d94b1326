"""Say which things are to be seen in a picture: a small network that was taught by drawn ones.

It looks at a picture in 12 x 12 places and says for each which kind of thing has its middle there,
if any, and of what colour it is.
"""

from __future__ import annotations

from pathlib import Path

import torch
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional

from recipes.scenes.data import COLOURS, draw_pictures
from recipes.scenes.drawing import KINDS, SIZE, Scene
from recipes.shared.training import learning_rate

SEED = 2024
"""Of its pictures; the miniature is trained on others."""
CELLS = 12
KIND_NAMES = tuple(KINDS)
NOTHING, NOT_ASKED = len(KINDS), -1
FOUND = 0.15
"""How probable a thing has to be in some place to be found."""


class Judge(nn.Module):
    """Kinds and colours in 12 x 12 places of pictures of 48 x 48."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for out, stride in ((1, 1), (2, 2), (2, 1), (3, 2), (3, 1), (3, 1)):
            layers += [
                nn.Conv2d(channels, out * width, 3, stride, padding=1),
                nn.BatchNorm2d(out * width),
                nn.ReLU(),
            ]
            channels = out * width
        self.features = nn.Sequential(*layers)
        self.kind = nn.Conv2d(channels, len(KINDS) + 1, 3, padding=1)
        self.colour = nn.Conv2d(channels, len(COLOURS), 1)

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of kinds and of colours, `(B, classes, 12, 12)`, of `(B, 3, 48, 48)` in [-1, 1].

        The last of the kinds is none.
        """
        features = self.features(pictures)
        return self.kind(features), self.colour(features)

    @torch.no_grad()
    def probabilities(self, pictures: Tensor) -> Tensor:
        """How sure it is of each kind in each colour, `(B, kinds, colours)`, at the best place."""
        kinds, colours = self(pictures)
        kinds, colours = kinds.softmax(dim=1)[:, :NOTHING], colours.softmax(dim=1)
        return torch.einsum("bkhw,bchw->bkchw", kinds, colours).flatten(3).amax(dim=3)

    def finds(self, pictures: Tensor, things: list[list[tuple[str | None, str]]]) -> list[bool]:
        """Whether all the things asked for, each colour (or None) and kind, are in each picture."""
        tables = self.probabilities(pictures)
        return [
            all(_probability(table, *thing) >= FOUND for thing in asked)
            for table, asked in zip(tables, things, strict=True)
        ]


def _probability(table: Tensor, colour: str | None, kind: str) -> float:
    row = table[KIND_NAMES.index(kind)]
    return (row.max() if colour is None else row[COLOURS.index(colour)]).item()


def to_network(pictures: Tensor) -> Tensor:
    """`(B, 48, 48, 3)` of uint8 to `(B, 3, 48, 48)` in [-1, 1]."""
    return pictures.permute(0, 3, 1, 2) / 127.5 - 1


def targets(scenes: list[Scene]) -> tuple[Tensor, Tensor]:
    """The classes of every place; where no thing has its middle, no colour is asked for."""
    kinds = torch.full((len(scenes), CELLS, CELLS), NOTHING)
    colours = torch.full_like(kinds, NOT_ASKED)
    for index, scene in enumerate(scenes):
        for thing in scene.things:
            at = (index, _cell(thing.y), _cell(thing.x))
            kinds[at] = KIND_NAMES.index(thing.kind)
            colours[at] = COLOURS.index(thing.colour)
    return kinds, colours


def _cell(position: float) -> int:
    return min(max(int(position / SIZE * CELLS), 0), CELLS - 1)


def train_judge(pictures: int, batch_size: int = 32, peak_lr: float = 3e-3) -> Judge:
    """Teach it with so many pictures, each of which it sees once."""
    torch.manual_seed(SEED)
    judge = Judge()
    optimizer = torch.optim.AdamW(judge.parameters(), lr=peak_lr)
    batches = pictures // batch_size
    for step in track(range(batches), description="teaching the judge"):
        first = step * batch_size
        drawn, _, scenes = draw_pictures(SEED, batch_size, first)
        kinds, colours = targets(scenes)
        kind_logits, colour_logits = judge(to_network(drawn))
        loss = functional.cross_entropy(kind_logits, kinds)
        loss = loss + 0.1 * functional.cross_entropy(colour_logits, colours, ignore_index=NOT_ASKED)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step / batches, peak_lr)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return judge.eval()


def load_judge(file: Path, pictures: int) -> Judge:
    """The judge kept in that file; taught first if there is none."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.save(train_judge(pictures).state_dict(), file)
    judge = Judge()
    judge.load_state_dict(torch.load(file, weights_only=True))
    return judge.eval()
