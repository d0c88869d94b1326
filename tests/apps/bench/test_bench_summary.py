"""What is made of the records: means, frontiers, equal cost, and files that can be read again."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_diffusion.apps.bench.cells import Cell
from adaptive_diffusion.apps.bench.fidelity import Judge, frechet_distance
from adaptive_diffusion.apps.bench.rows import OUR_DEFAULT
from adaptive_diffusion.apps.bench.store import FeatureStore, Key, Store
from adaptive_diffusion.apps.bench.summary import (
    CellSummary,
    Fidelity,
    RowSummary,
    at_default,
    equal_cost,
    fidelity_at,
    frontier,
    summarise,
    worst_tenth,
)
from adaptive_diffusion.apps.bench.table import default_table, equal_cost_tables, table
from adaptive_diffusion.apps.closeness import IDENTICAL_DB
from adaptive_diffusion.apps.media import Clip, Picture

CELL = Cell("emoji", "ddim", 48, 3.0)


def row(family: str, nfe: float, psnr: float, failures: int = 0) -> RowSummary:
    return RowSummary(
        f"{family} {nfe}",
        family,
        samples=3,
        failures=failures,
        nfe=nfe,
        psnr_db=Fidelity(psnr, psnr - 5, psnr - 10),
    )


def at(rows: list[RowSummary], nfe: float) -> Fidelity | None:
    return fidelity_at(frontier(rows), nfe)


def test_between_rows_the_frontier_is_a_line_over_the_logarithm():
    rows = [row("a", 32, 60), row("a", 8, 40)]
    assert at(rows, 8) == Fidelity(40, 35, 30)
    assert at(rows, 16).mean == pytest.approx(50)  # half-way from 8 to 32 in the logarithm
    assert at(rows, 16).worst == pytest.approx(40)
    assert at(rows, 8 * 4**0.25).tenth == pytest.approx(40)


def test_nothing_is_extrapolated():
    rows = [row("a", 32, 60), row("a", 8, 40)]
    assert at(rows, 7.9) is None
    assert at(rows, 32.1) is None
    assert at([], 8) is None
    assert at([row("a", 8, 40)], 8).mean == 40


def test_a_row_that_a_cheaper_one_surpasses_gives_what_that_one_does():
    rows = [row("a", 8, 40), row("a", 16, 30), row("a", 64, 60), row("a", 80, 50), row("a", 8, 20)]
    assert at(rows, 8).mean == 40
    assert at(rows, 12).mean == 40  # whoever may spend 12 can spend 8
    assert at(rows, 16).mean == 40
    assert at(rows, 32).mean == pytest.approx(50)  # the way up begins at 16, not at 8
    assert at(rows, 72).mean == 60


@given(st.lists(st.tuples(st.integers(1, 40), st.floats(0, 120)), min_size=1), st.floats(1, 40))
def test_the_frontier_never_promises_more_than_rows_around_have(pairs, nfe):
    rows = [row("a", cost, decibels) for cost, decibels in pairs]
    found = at(rows, nfe)
    if found is not None:
        next_row = min(cost for cost, _ in pairs if cost >= nfe)
        assert found.mean <= max(decibels for cost, decibels in pairs if cost <= next_row)
        assert found.mean >= max(decibels for cost, decibels in pairs if cost <= nfe) - 1e-9


def test_a_row_that_saves_nothing_is_no_neighbour():
    """Else the value beside it would be half the full run's own."""
    found = cell(row("ours", 20, 50), row("ours", 48, 120))
    assert equal_cost(found, nfe_reduction=2).ours is None


def cell(*rows: RowSummary) -> CellSummary:
    return CellSummary(CELL, [RowSummary("full run", "full run", 3, 0, nfe=48), *rows])


def test_equal_cost_compares_ours_the_papers_rule_and_the_best_other():
    compared = equal_cost(
        cell(
            *(row("ours", nfe, 70 - 30 / nfe) for nfe in (6, 24)),
            *(row("paper's rule", nfe, 30) for nfe in (24, 12)),
            *(row("fewer steps", nfe, 40) for nfe in (24, 12)),
            *(row("UniPC", nfe, 45) for nfe in (20, 12)),
            *(row("broken", nfe, 99, failures=1) for nfe in (30, 12)),
        ),
        nfe_reduction=2,
    )
    assert compared.ours.mean == pytest.approx(70 - 30 / 24)
    assert compared.best_family == "fewer steps"  # UniPC has no row as expensive, broken failed
    assert compared.gain_over_paper == pytest.approx(70 - 30 / 24 - 30)
    assert compared.gain_over_best == pytest.approx(70 - 30 / 24 - 40)


def test_plans_stand_beside_error_control_and_are_no_others():
    found = cell(
        *(row("ours", nfe, 50) for nfe in (30, 12)),
        *(row("ours: measured", nfe, 70) for nfe in (30, 12)),
        *(row("ours: nfe", nfe, 60) for nfe in (30, 12)),
        *(row("searched mask: reuse", nfe, 40) for nfe in (30, 12)),
    )
    compared = equal_cost(found, nfe_reduction=2)
    assert (compared.ours.mean, compared.planned.mean, compared.measured.mean) == (50, 60, 70)
    assert compared.best_family == "searched mask: reuse"
    assert compared.gain_of_measured == 30
    head, _, line = equal_cost_tables([found]).splitlines()[2:5]
    assert head.index("measured") < head.index("ours") < head.index("best other")
    assert "**70.0 (65.0, 60.0)**" in line
    assert "+30.0" in line


def test_the_default_policy_is_compared_at_its_own_cost():
    default = replace(row("ours", 16, 60), name=OUR_DEFAULT, nfe_reduction=3.0, speedup=2.5)
    found = cell(
        default,
        row("ours", 14, 65),  # another tolerance, cheaper and closer: not the default
        *(row("paper's rule", nfe, 30) for nfe in (24, 12)),
        *(row("fewer steps", nfe, nfe) for nfe in (32, 8)),
    )
    measured, compared = at_default(found)
    assert measured is default
    assert compared.ours.mean == 60
    assert compared.paper.mean == 30
    assert compared.best.mean == pytest.approx(20)  # half-way in the logarithm
    line = default_table([found]).splitlines()[-1]
    for words in ("16.0", "3.00×", "2.50×", "**60.0 (55.0, 50.0)**", "fewer steps"):
        assert words in line


def test_without_the_default_policy_nothing_is_said_of_it():
    found = cell(row("ours", 24, 50))
    assert at_default(found) is None
    assert default_table([found]) == ""
    assert "default" not in table("Benchmark", [], [found])


def test_what_can_not_be_compared_is_a_dash():
    text = equal_cost_tables([cell(row("ours", 24, 50))])
    two, three, _ = (part.splitlines()[4] for part in text.split("###")[1:])
    assert "**50.0 (45.0, 40.0)**" in two.replace("  ", "")
    assert two.count("–") == 5
    assert three.count("–") == 6
    assert f"count as {IDENTICAL_DB:.0f} dB" in text


def test_the_worst_tenth_has_at_least_one_sample():
    assert worst_tenth([5, 3, 4]) == 3
    assert worst_tenth(list(range(30, 0, -1))) == 2


def fill(store: Store) -> None:
    for seed in range(20):
        key = Key(CELL, "full run", "full run", seed, f"prompt {seed}")
        store.add(key, nfe=48.0, psnr_db=120.0, ssim=1.0, work=[1.0] * 48, error=None)
        key = Key(CELL, "ours 0.01", "ours", seed, f"prompt {seed}")
        if seed == 7:
            store.add(key, error="RuntimeError: bad luck")
        else:
            store.add(key, nfe=16.0, psnr_db=40.0 + seed, ssim=None, work=[1.0, 0.0], error=None)
        if seed < 2:
            store.add(key, seconds=1.0 + seed, full_seconds=3.0, memory_gib=None)


def test_a_row_in_means(tmp_path):
    store = Store(tmp_path / "results.jsonl")
    fill(store)
    [found] = summarise(store.records, lambda made, full: float(len(made) + len(full)))
    full, ours = found.rows
    assert found.full_nfe == 48
    assert (full.psnr_db.mean, full.fid) == (120, None)
    assert (ours.samples, ours.failures, ours.errors) == (19, 1, ("RuntimeError: bad luck",))
    assert ours.psnr_db.mean == pytest.approx(40 + (190 - 7) / 19)
    assert (ours.psnr_db.tenth, ours.psnr_db.worst) == (40.5, 40)
    assert (ours.nfe_reduction, ours.speedup, ours.fid) == (3, 2, 39)
    assert (ours.ssim, ours.memory_gib) == (None, None)
    assert found.family("ours") == []  # a family's curve is over all samples
    text = table("Title", ["About"], [found])
    assert "1 of 20: RuntimeError: bad luck" in text
    assert "LPIPS" not in text  # no row has one


def test_records_can_be_read_again_even_after_a_killed_run(tmp_path):
    path = tmp_path / "results.jsonl"
    store = Store(path)
    fill(store)
    with path.open("a") as file:
        file.write('{"model": "emo')
    again = Store(path)
    assert again.records == store.records
    key = next(iter(again.records))
    again.add(key, psnr_db=1.0)
    assert Store(path).records[key]["psnr_db"] == 1.0


def test_what_failed_was_not_measured(tmp_path):
    store = Store(tmp_path / "results.jsonl")
    key = Key(CELL, "ours 0.01", "ours", 0, None)
    store.add(key, error="no")
    assert not store.has(key, "psnr_db")
    store.add(key, psnr_db=40.0, error=None)
    assert store.has(key, "psnr_db")


def test_features_come_back_together(tmp_path):
    store = FeatureStore(tmp_path / "features")
    keys = [Key(CELL, "ours 0.01", "ours", seed, None) for seed in range(2)]
    assert store.load(keys) is None
    for key in keys:
        store.save(key, np.full((1, 3), key.seed))
    assert store.load(keys).tolist() == [[0] * 3, [1] * 3]


def test_frechet_distance_of_gaussians():
    generator = np.random.default_rng(0)
    a = generator.normal(size=(4000, 2))
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(a, a + np.array([3, 4])) == pytest.approx(25)
    assert frechet_distance(a, 2 * a) == pytest.approx(np.trace(np.cov(a.T)), rel=1e-2)


@pytest.fixture
def judge():
    import torch

    return Judge(torch.device("cpu"), features=False)


def test_identical_pictures_count_as_so_many_decibels(judge):
    picture = Picture(np.linspace(0, 1, 16 * 16 * 3, dtype=np.float32).reshape(16, 16, 3))
    assert judge.closeness(picture, picture)["psnr_db"] == IDENTICAL_DB
    assert judge.closeness(picture, picture)["ssim"] == pytest.approx(1)


def test_a_videos_closeness_is_the_mean_over_its_frames(judge):
    video = np.zeros((2, 16, 16, 3), dtype=np.float32)
    other = video.copy()
    other[0] += 0.1
    other[1] += 0.01
    assert judge.closeness(Clip(other), Clip(video))["psnr_db"] == pytest.approx(30, abs=0.01)


def test_small_pictures_have_no_ssim_and_broken_ones_nothing(judge):
    picture = np.zeros((8, 8, 1), dtype=np.float32)
    assert judge.closeness(Picture(picture + 0.1), Picture(picture))["ssim"] is None
    broken = picture.copy()
    broken[0, 0] = math.nan
    with pytest.raises(ValueError, match="no numbers"):
        judge.closeness(Picture(broken), Picture(picture))


def test_metrics_that_are_not_to_be_had_are_noted(monkeypatch):
    import torch

    from adaptive_diffusion.apps.bench import fidelity

    def fail() -> None:
        raise OSError("no weights\nfor you")

    monkeypatch.setattr(fidelity, "_load_lpips", fail)
    monkeypatch.setattr(fidelity, "_load_inception", fail)
    judge = Judge(torch.device("cpu"), features=True)
    picture = Picture(np.zeros((16, 16, 3), dtype=np.float32))
    assert judge.notes == ["no LPIPS: no weights", "no FID: no weights"]
    assert judge.closeness(picture, picture)["lpips"] is None
    assert judge.features(picture) is None


def test_networks_get_pictures_as_they_need_them(monkeypatch):
    import torch

    from adaptive_diffusion.apps.bench import fidelity

    class Lpips(torch.nn.Module):
        def forward(self, a, b):
            assert a.shape == b.shape == (2, 3, 16, 16)
            assert a.min() >= 0
            return (a - b).abs().mean()

        def reset(self):
            pass

    class Inception(torch.nn.Module):
        def forward(self, pictures):
            assert pictures.dtype == torch.uint8
            return pictures.float().mean(dim=(2, 3))

    monkeypatch.setattr(fidelity, "_load_lpips", Lpips)
    monkeypatch.setattr(fidelity, "_load_inception", Inception)
    judge = Judge(torch.device("cpu"), features=True)
    video = np.full((2, 16, 16, 1), 0.5, dtype=np.float32)
    assert judge.closeness(Clip(video), Clip(video - 0.25))["lpips"] == pytest.approx(0.25)
    assert judge.features(Clip(video)).tolist() == [[128.0] * 3] * 2
