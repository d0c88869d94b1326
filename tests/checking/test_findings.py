"""One screen of text, and JSON, whatever was found."""

from __future__ import annotations

import json
import math

import pytest

from adaptive_diffusion.checking import Check, Finding, Status

FIGURES = {
    "steps": 20.0,
    "nfe_reduction": 2.0,
    "psnr_default": 41.26,
    "seconds_plain": 3.0,
    "seconds_default": 2.0,
}
LONG = "word " * 200


def check(*statuses: Status, text: str = "Some text.", **figures: float) -> Check:
    findings = [Finding(f"subject {i}", status, text) for i, status in enumerate(statuses)]
    return Check({"pipeline": "Some pipeline"}, findings, {**FIGURES, **figures})


def test_the_verdict_says_what_to_expect() -> None:
    assert check(Status.OK).verdict == (
        "WORKS: 2.00x fewer denoiser calls at 20 steps, 1.50x the speed, 41.3 dB PSNR."
    )
    assert check(Status.OK, psnr_default=math.inf).verdict.endswith("the same result.")
    assert check(Status.OK, Status.LIMIT).verdict.startswith("WORKS, with limits (subject 1): ")


def test_the_worst_decides() -> None:
    assert check(Status.OK, Status.LIMIT).ok
    assert not check(Status.OK, Status.NO).ok
    assert check(Status.NO, Status.LIMIT).verdict == "NOT ACCELERATED: Some text."
    broken = check(Status.FAULT, Status.NO, Status.FAULT)
    assert not broken.ok
    assert broken.verdict.startswith("BROKEN PROMISE (subject 0, subject 2): ")


@pytest.mark.parametrize("status", Status)
def test_the_longest_text_fits_one_screen(status: Status) -> None:
    found = check(*[status] * 9, text=LONG)
    headings = ("pipeline", "scheduler", "denoiser", "machine", "versions", "call")
    subject = dict.fromkeys(headings, LONG)
    text = str(Check(subject, found.findings, FIGURES, [LONG] * 3))
    assert len(text.splitlines()) <= 40
    assert max(map(len, text.splitlines())) <= 100
    assert "[...]" in text


def test_json_holds_all_of_it() -> None:
    found = check(Status.OK, Status.LIMIT, text=LONG, psnr_default=math.inf)
    read = json.loads(found.to_json())
    assert read["verdict"] == found.verdict
    assert read["ok"] is True
    assert read["figures"]["psnr_default"] == "inf"
    assert read["findings"][1] == {"subject": "subject 1", "status": "limit", "text": LONG}
    assert read["subject"] == {"pipeline": "Some pipeline"}
