"""The data: Noto emoji pictures, and the phrases that name them."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import tarfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

PACKAGE = "emoji-datasource-google"
VERSION = "16.0.0"
SHA256 = "fb5fd131b362aab7a55542d2a147a79708cce0a8b1c1bbacd470172708b5c438"
IMAGE_SIZE = 32
"""Half the size of the package's pictures: what two CPU cores can learn in the time they have."""
SUBSETS = {"small": {"Animals & Nature", "Food & Drink"}, "all": None}
"""Which categories a subset holds; None stands for every category."""

TEMPLATES = (
    "{name}",
    "{article} {name}",
    "{name} emoji",
    "emoji of {article} {name}",
    "a picture of {article} {name}",
)


@dataclass(frozen=True)
class Emoji:
    """One picture and everything it may be called; the first name is the canonical one."""

    names: tuple[str, ...]
    subcategory: str
    image: Path

    @property
    def name(self) -> str:
        """The canonical name, which no other emoji bears."""
        return self.names[0]

    def captions(self) -> list[str]:
        """Every template filled with every name."""
        return [fill(template, name) for name in self.names for template in TEMPLATES]


def fill(template: str, name: str) -> str:
    """Put a name into a template, with the article that fits it."""
    return template.format(name=name, article="an" if name[0] in "aeiou" else "a")


def fetch(cache: Path) -> Path:
    """Return the unpacked npm package, downloading and verifying it on the first call."""
    cache.mkdir(parents=True, exist_ok=True)
    folder = cache / "package"
    if (folder / "emoji.json").exists():
        return folder
    archive = cache / f"{PACKAGE}-{VERSION}.tgz"
    if not archive.exists():
        subprocess.run(["npm", "pack", "--silent", f"{PACKAGE}@{VERSION}"], cwd=cache, check=True)
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    if digest != SHA256:
        raise ValueError(f"{archive} has SHA-256 {digest}, expected {SHA256}: delete it and retry")
    with tarfile.open(archive) as tar:
        images = [m for m in tar.getmembers() if m.name.startswith("package/img/google/64/")]
        tar.extractall(cache, members=images, filter="data")
        tar.extract("package/emoji.json", cache, filter="data")  # last: it marks completion
    return folder


def load_emoji(package: Path, subset: str) -> list[Emoji]:
    """Read the declared subset, in the package's own sort order."""
    categories = SUBSETS[subset]
    entries = [
        entry
        for entry in json.loads((package / "emoji.json").read_text())
        if entry["has_img_google"] and (categories is None or entry["category"] in categories)
    ]
    entries.sort(key=lambda entry: entry["sort_order"])
    names = [_plain(entry["name"]) for entry in entries]
    aliases = [_aliases(name, entry) for name, entry in zip(names, entries, strict=True)]
    uses = Counter(names) + Counter(alias for row in aliases for alias in row)
    return [
        Emoji(
            names=(name, *(alias for alias in row if uses[alias] == 1)),
            subcategory=entry["subcategory"],
            image=package / "img" / "google" / "64" / entry["image"],
        )
        for name, row, entry in zip(names, aliases, entries, strict=True)
    ]


def load_images(emoji: list[Emoji]) -> torch.Tensor:
    """Composite the pictures on white: (n, 3, size, size) floats in [-1, 1]."""
    pictures = []
    for item in emoji:
        layer = Image.open(item.image).convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        picture = Image.alpha_composite(white, layer).convert("RGB")
        picture = picture.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.LANCZOS)
        pictures.append(np.asarray(picture))
    pixels = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
    return pixels.float() / 127.5 - 1


def _plain(name: str) -> str:
    """Lower case, words parted by single spaces."""
    return re.sub(r"[\s_]+", " ", name.lower()).strip()


def _aliases(name: str, entry: dict) -> list[str]:
    """Other names an emoji may go by: its short names, and a face's animal.

    Short names that end in a digit only number the variants, so they are left out.
    """
    found = {_plain(short) for short in entry["short_names"] if not short[-1].isdigit()}
    found.add(name.removesuffix(" face"))
    return sorted(found - {name})
