"""The GPU benchmark runs at tiny size, and writes what it promises."""

from __future__ import annotations

import json

import gpu


def test_measures_a_unet_and_a_transformer(tmp_path, capsys):
    out = tmp_path / "gpu.json"
    words = ["--scale", "tiny", "--no-compile", "--repeats", "1", "--models", "sd15", "flux"]
    gpu.main([*words, "--out", str(out)])
    result = json.loads(out.read_text())
    assert result["device"]
    assert {"torch", "diffusers", "adaptive_diffusion"} <= result["versions"].keys()
    for name, dtype in (("sd15", "torch.float16"), ("flux", "torch.bfloat16")):
        model = result["models"][name]
        assert model["dtype"] == dtype
        assert "compiled" not in model
        runs = model["eager"]["runs"]
        assert {loop: run["nfe"] for loop, run in runs.items() if loop != "error_controlled"} == {
            "plain": 8,
            "skips_nothing": 8,
            "every_2nd": 4,
            "every_4th": 2,
        }
        assert runs["every_4th"]["us_per_skipped_step"] is not None
        assert runs["skips_nothing"]["overhead_percent"] is not None
        assert model["eager"]["synchronizations"]["plain"]["aten::item"] > 0
        assert set(model["eager"]["extra_synchronizations"]) == {"every_4th", "error_controlled"}
        for run in runs.values():
            assert len(run["seconds"]) == 1
            assert {"speedup", "ratio", "peak_memory_mib"} <= run.keys()
            assert run["finite"]
    assert "| flux eager | every_2nd |" in capsys.readouterr().out


def test_a_failure_is_recorded(tmp_path, monkeypatch, capsys):
    def fail(*_):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(gpu, "measure", fail)
    out = tmp_path / "gpu.json"
    gpu.main(["--scale", "tiny", "--no-compile", "--models", "wan", "--out", str(out)])
    assert json.loads(out.read_text())["models"]["wan"]["eager"]["error"].endswith("out of memory")
    assert "out of memory" in capsys.readouterr().out
