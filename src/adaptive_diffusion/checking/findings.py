"""What an examination found, as one screen of text and as JSON."""

from __future__ import annotations

import json
import math
import textwrap
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any

__all__ = ["Check", "Finding", "Status"]

_WIDTH, _SCREEN = 100, 40  # columns and lines
_MOST_LINES = 3  # of one finding, unless it gets too long
_MOST_NOTES = 2
_MARK, _LABEL = 7, 13  # columns of the first two


class Status(str, Enum):
    """How one thing stands."""

    OK = "ok"
    LIMIT = "limit"  # it works, but less is to be had than elsewhere, or known
    NO = "no"  # nothing is accelerated, or could be tried
    FAULT = "fault"  # a promise of this package is broken


@dataclass(frozen=True)
class Finding:
    """One thing that was tried.

    Attributes:
        subject: what, in a word or two.
        status: how it stands.
        text: what was seen and, where it is not well, what to do.
    """

    subject: str
    status: Status
    text: str


@dataclass(frozen=True)
class Check:
    """What `check` found about one pipeline and one call of it.

    Attributes:
        subject: the pipeline and where it runs: texts by heading.
        findings: what was tried, in that order.
        figures: what was measured: steps, decibels, seconds and ratios by name.
        notes: what the runs' reports noted.
    """

    subject: dict[str, str]
    findings: list[Finding]
    figures: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether calls are accelerated here, and all promises kept."""
        return not self._with(Status.FAULT, Status.NO)

    @property
    def verdict(self) -> str:
        """What to expect, in a sentence or two."""
        broken, nothing = self._with(Status.FAULT), self._with(Status.NO)
        if broken:
            names = ", ".join(each.subject for each in broken)
            return (
                f"BROKEN PROMISE ({names}): do not use the acceleration for this call, and send "
                "this with a bug report."
            )
        if nothing:
            return f"NOT ACCELERATED: {nothing[0].text}"
        limits = [each.subject for each in self._with(Status.LIMIT)]
        works = f"WORKS, with limits ({', '.join(limits)})" if limits else "WORKS"
        return f"{works}: {self._expectation()}."

    def __str__(self) -> str:
        text = self._text(_MOST_LINES)
        return text if len(text.splitlines()) <= _SCREEN else self._text(_MOST_LINES - 1)

    def _text(self, most: int) -> str:
        """All of it, with so many lines of each finding at most."""
        found = [_hanging(each, most) for each in self.findings]
        noted = [_wrapped(f"note: {note}", 0, 2) for note in self.notes[:_MOST_NOTES]]
        facts = [
            _wrapped(f"{heading:{_LABEL}}{text}", _LABEL, 2)
            for heading, text in self.subject.items()
            if text
        ]
        parts = [_wrapped(self.verdict, 0, 4), "\n".join(facts), "\n".join(found + noted)]
        return "\n\n".join(part for part in parts if part)

    def to_dict(self) -> dict[str, Any]:
        """All of it, in what JSON can hold; what is not finite is a text."""
        found = asdict(self)
        found["findings"] = [{**each, "status": each["status"].value} for each in found["findings"]]
        found["figures"] = {
            name: value if math.isfinite(value) else str(value)
            for name, value in self.figures.items()
        }
        return {"ok": self.ok, "verdict": self.verdict, **found}

    def to_json(self) -> str:
        """The same as JSON."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    def _with(self, *statuses: Status) -> list[Finding]:
        return [each for each in self.findings if each.status in statuses]

    def _expectation(self) -> str:
        figures = self.figures
        if "nfe_reduction" not in figures:
            return "see below"
        faster = figures["seconds_plain"] / figures["seconds_default"]
        distance = figures["psnr_default"]
        close = "the same result" if math.isinf(distance) else f"{distance:.1f} dB PSNR"
        return (
            f"{figures['nfe_reduction']:.2f}x fewer denoiser calls at "
            f"{figures['steps']:.0f} steps, "
            f"{faster:.2f}x the speed, {close}"
        )


def _hanging(finding: Finding, most: int) -> str:
    text = f"{finding.status.value:{_MARK}}{finding.subject:{_LABEL}}{finding.text}"
    return _wrapped(text, _MARK + _LABEL, most)


def _wrapped(text: str, indent: int, most: int) -> str:
    """As many lines as there may be, all but the first indented."""
    return textwrap.fill(
        text, _WIDTH, subsequent_indent=" " * indent, max_lines=most, placeholder=" [...]"
    )
