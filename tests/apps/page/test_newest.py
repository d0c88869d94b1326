"""Of a visitor's runs only the newest goes on; other visitors' are untouched."""

from __future__ import annotations

from adaptive_diffusion.apps.page.newest import Newest


def test_a_newer_run_cancels_the_visitors_older_one_alone() -> None:
    newest = Newest()
    first, other = newest.begin("ann"), newest.begin("bob")
    second = newest.begin("ann")
    assert first.is_set()
    assert first.replaced
    assert not second.is_set()
    assert not other.is_set()


def test_cancelling_ends_the_visitors_run_and_nothing_else() -> None:
    newest = Newest()
    mine, other = newest.begin("ann"), newest.begin("bob")
    newest.cancel("ann")
    newest.cancel("nobody")
    assert mine.is_set()
    assert not mine.replaced
    assert not other.is_set()
    assert not newest.begin("ann").is_set()
