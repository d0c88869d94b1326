"""From the command's options to a finished benchmark."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from adaptive_diffusion.apps.bench.outputs import commit, write_outputs
from adaptive_diffusion.apps.bench.progress import BenchProgress
from adaptive_diffusion.apps.bench.prompts import prompts_for
from adaptive_diffusion.apps.bench.rows import check_patterns
from adaptive_diffusion.apps.bench.run import Bench, expand
from adaptive_diffusion.apps.bench.store import FeatureStore, Store
from adaptive_diffusion.apps.bench.suite import Suite, load_suite
from adaptive_diffusion.apps.bench.summary import CellSummary
from adaptive_diffusion.apps.inputs import writable_folder
from adaptive_diffusion.apps.loading import locate

__all__ = ["Choice", "bench", "choose"]


@dataclass(frozen=True)
class Choice:
    """Which part of a suite is run; None is all of it."""

    models: Sequence[str] | None = None
    schedulers: Sequence[str] | None = None
    steps: Sequence[str] | None = None
    guidance: Sequence[str] | None = None
    rows: Sequence[str] | None = None
    samples: int | None = None
    dtype: str | None = None


def bench(
    name: str,
    choice: Choice,
    folder: Path,
    *,
    prompts: Path | None = None,
    device: str | None = None,
    timed_samples: int = 4,
    console: Console,
) -> list[CellSummary]:
    """Runs what is missing in the folder, and writes the outputs.

    Interrupted, it writes the outputs of what has been measured.
    """
    suite = choose(load_suite(name), choice)
    for model in suite.models:
        locate(model.name)  # raises on one that can't be loaded
    check_patterns(suite.rows, suite.steps)
    texts = prompts_for(suite, prompts)
    settings = {
        "suite": suite.text,
        "prompts": [prompt.text for prompt in texts],
        "dtype": choice.dtype,
        "device": device,
        "commit": commit(),
    }
    _check_same(writable_folder(folder) / "settings.json", settings)
    store = Store(folder / "results.jsonl")
    work = Bench(
        suite, texts, store, FeatureStore(folder / "features"), timed_samples, device=device
    )
    try:
        with BenchProgress(console) as progress:
            work.run(progress)
    except KeyboardInterrupt:
        write_outputs(folder, work)
        raise
    return write_outputs(folder, work)


def choose(suite: Suite, choice: Choice) -> Suite:
    """The part of the suite that was asked for."""
    models = expand(suite.models)
    names = _filter("--models", [model.name for model in models], choice.models)
    models = [model for model in models if model.name in names]
    if choice.dtype is not None:
        models = [replace(model, dtype=choice.dtype) for model in models]
    return replace(
        suite,
        models=tuple(models),
        schedulers=tuple(_filter("--schedulers", suite.schedulers, choice.schedulers)),
        steps=tuple(_filter("--steps", suite.steps, choice.steps)),
        guidance=tuple(_filter("--guidance", suite.guidance, choice.guidance)),
        rows=suite.rows if choice.rows is None else tuple(choice.rows),
        samples=choice.samples or suite.samples,
    )


def _filter(option: str, values: Iterable[Any], wanted: Sequence[str] | None) -> list[Any]:
    """The values that are wanted, by the words that they are written with."""
    words = {_word(value): value for value in values}
    for word in wanted or []:
        if word not in words:
            raise ValueError(f"{option} {word} is not in the suite, which has {', '.join(words)}")
    return [value for word, value in words.items() if wanted is None or word in wanted]


def _word(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _check_same(file: Path, settings: dict[str, Any]) -> None:
    """Results of other settings must not be mixed with these, for they look the same."""
    text = json.dumps(settings, indent=1, ensure_ascii=False) + "\n"
    if file.is_file() and file.read_text(encoding="utf-8") != text:
        raise ValueError(
            f"{file.parent} holds results of another suite, prompts, dtype, device or commit: "
            "choose another --out, or delete it"
        )
    file.write_text(text, encoding="utf-8")
