"""The documents: links lead somewhere, and the reference has every public name."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

import adaptive_diffusion as ad

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"\]\((?![a-z]+:)([^)#\s]*)(?:#([^)\s]+))?\)")


def documents() -> list[str]:
    """All Markdown files of the repository."""
    listed = subprocess.run(
        ["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return listed.stdout.split()


@cache
def anchors(file: Path) -> set[str]:
    """What a link to a part of the file may name: its headings, as forges write them."""
    text = re.sub(r"```.*?```", "", file.read_text(encoding="utf-8"), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each).strip().lower().replace(" ", "-") for each in headings}


@pytest.mark.parametrize("document", documents())
def test_every_link_leads_somewhere(document: str) -> None:
    file = ROOT / document
    text = re.sub(r"```.*?```", "", file.read_text(encoding="utf-8"), flags=re.DOTALL)
    for path, anchor in LINK.findall(text):
        target = (file.parent / path).resolve() if path else file
        assert target.exists(), path
        assert not anchor or anchor in anchors(target), f"{path}#{anchor}"


def test_the_reference_has_every_public_name() -> None:
    listed = re.findall(
        r"^::: adaptive_diffusion\.(\w+)$", (ROOT / "docs/reference.md").read_text(), re.MULTILINE
    )
    assert sorted(listed) == sorted(set(ad.__all__) - {"__version__"})
