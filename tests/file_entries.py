"""What a picture's file says of how it was made."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image

from adaptive_diffusion.apps.encoding import OWN_TEXT

__all__ = ["entries_of"]


def entries_of(path: Path) -> dict[str, str]:
    """The entries that are ours."""
    return json.loads(Image.open(path).text[OWN_TEXT])
