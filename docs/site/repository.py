"""Shows documents of the repository that are not in docs/ on the site, and leads links to them.

A link from docs/ to `../examples/one_line.py` works on a forge. On the site that file is at
`repository/examples/one_line.py`. Links between all documents are rewritten accordingly.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
_SHOWN = (
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "benchmarks/*.py",
    "examples/*.py",
    "integrations/comfyui/*.md",
    "integrations/comfyui/*.png",
    "integrations/comfyui/example_workflows/*.json",
    "src/adaptive_diffusion/miniatures/weights/*/*.gif",
    "src/adaptive_diffusion/miniatures/weights/*/*.md",
    "src/adaptive_diffusion/miniatures/weights/*/*.png",
    "src/adaptive_diffusion/miniatures/weights/*/*.wav",
)
_LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)#\s]+)")


def on_files(files: Files, config: Any) -> Files:
    """Adds the shown files to those of the site."""
    for pattern in _SHOWN:
        for path in sorted(ROOT.glob(pattern)):
            place = _site_path(path.relative_to(ROOT).as_posix())
            files.append(File.generated(config, place, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Rewrites links between docs/ and the rest of the repository."""
    here = page.file.src_uri
    folder = PurePosixPath(_repository_path(here)).parent

    def moved(link: re.Match[str]) -> str:
        target = posixpath.normpath(f"{folder}/{link[1]}")
        if (ROOT / target / "README.md").exists():
            target += "/README.md"
        return posixpath.relpath(_site_path(target), PurePosixPath(here).parent)

    return _LINK.sub(moved, markdown)


def _site_path(path: str) -> str:
    """Where a file of the repository is on the site."""
    return path.removeprefix("docs/") if path.startswith("docs/") else f"repository/{path}"


def _repository_path(place: str) -> str:
    """Where a page of the site is in the repository."""
    outside = place.startswith("repository/")
    return place.removeprefix("repository/") if outside else f"docs/{place}"
