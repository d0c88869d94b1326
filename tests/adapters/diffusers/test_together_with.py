"""With all else that is done to a pipeline: compiled, offloaded, quantised, cached, hooked."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import accelerate
import accelerate.hooks
import pytest
import torch
from diffusers import FirstBlockCacheConfig
from diffusers.hooks import HookRegistry, ModelHook
from diffusers.hooks.group_offloading import ModuleGroup
from schedulers import count_calls, relative_difference
from tiny_pipelines import TINY_PIPELINES, run
from torch import Tensor, nn
from torch._dynamo.utils import counters

import adaptive_diffusion as ad
from adaptive_diffusion import FixedSchedule, Policy, Trace

Tiny = Callable[[str], Any]
Change = Callable[[nn.Module], Any]
STEPS = 6
MASK = [True, True, False, True, False, True]
COMPUTED = sum(MASK)
SLOW = pytest.mark.slow


@dataclass(frozen=True)
class ByChance(Policy):
    """Plans that differ from sample to sample."""

    observes = "changes"

    def decide(self, trace: Trace) -> bool:
        return trace.step < 2 or int(trace.changes[-1] * 1e2) % 2 == 0


def generate(pipe: Any, name: str, batch: int = 1, **options: Any) -> Tensor:
    return run(pipe, TINY_PIPELINES[name].inputs(batch), steps=STEPS, **options)


def change(pipe: Any, name: str, how: Change) -> None:
    """Does something to every denoiser and ControlNet; what comes back, if any, takes its place."""
    tiny = TINY_PIPELINES[name]
    for part in (*tiny.denoisers, *tiny.side_networks):
        changed = how(getattr(pipe, part))
        if changed is not None:
            setattr(pipe, part, changed)


def check_identity_and_skips(pipe: Any, name: str) -> None:
    """At tolerance zero nothing differs; with skips the result is another, near it."""
    plain = generate(pipe, name)
    with ad.accelerate(pipe, tolerance=0):
        assert torch.equal(generate(pipe, name), plain)
    with ad.accelerate(pipe, FixedSchedule(MASK)) as accelerated:
        skipped = generate(pipe, name)
    assert accelerated.report.mask == [MASK]
    assert 0 < relative_difference(skipped, plain) < 1
    assert torch.equal(generate(pipe, name), plain)


# Compilation --------------------------------------------------------------------------------------


def compile_forward(module: nn.Module) -> None:
    module.forward = torch.compile(module.forward, backend="eager")


COMPILED: dict[str, Change] = {
    "wrapped": lambda module: torch.compile(module, backend="eager"),
    "in place": lambda module: module.compile(backend="eager"),
    "forward": compile_forward,
    "repeated blocks": lambda module: module.compile_repeated_blocks(backend="eager"),
}


@pytest.fixture
def compilations() -> Iterator[Callable[[], tuple[int, int]]]:
    """How many graphs have been made, and how often one was broken."""
    torch._dynamo.reset()
    counters.clear()
    yield lambda: (counters["stats"]["unique_graphs"], sum(counters["graph_break"].values()))
    torch._dynamo.reset()


def mostly_slow(names: list[str]) -> list[Any]:
    """A pipeline and a way to compile it; `make test` takes one, for compiling takes seconds."""
    return [
        pytest.param(name, way, marks=[] if (name, way) == (names[0], "in place") else SLOW)
        for name, way in itertools.product(names, COMPILED)
    ]


@pytest.mark.parametrize(("name", "way"), mostly_slow(["flux", "sd15"]))
def test_a_compiled_denoiser_is_not_compiled_again(
    name: str, way: str, tiny: Tiny, compilations: Callable[[], tuple[int, int]]
) -> None:
    """Neither when it is enabled, nor while steps are skipped, nor afterwards."""
    pipe = tiny(name)
    change(pipe, name, COMPILED[way])
    generate(pipe, name)
    before = compilations()
    assert before[0] > 0
    check_identity_and_skips(pipe, name)
    assert compilations() == before


@pytest.mark.parametrize(("name", "way"), mostly_slow(["sd15"]))
def test_a_denoiser_may_be_compiled_while_enabled(
    name: str, way: str, tiny: Tiny, compilations: Callable[[], tuple[int, int]]
) -> None:
    pipe = tiny(name)
    plain = generate(pipe, name)
    ad.enable(pipe, FixedSchedule(MASK))
    expected = generate(pipe, name)
    change(pipe, name, COMPILED[way])
    assert relative_difference(generate(pipe, name), expected) < 1e-5
    assert ad.report(pipe).mask == [MASK]
    before = compilations()
    ad.disable(pipe)
    assert relative_difference(generate(pipe, name), plain) < 1e-5
    assert compilations() == before


@pytest.mark.slow
def test_plans_that_differ_within_a_batch_need_one_more_graph(
    tiny: Tiny, compilations: Callable[[], tuple[int, int]]
) -> None:
    """One for any number of rows, since that changes from call to call then."""
    pipe = tiny("sd15")
    pipe.unet.compile(backend="eager")
    generate(pipe, "sd15", batch=4)
    graphs, breaks = compilations()
    rows = count_calls(pipe.unet)
    with ad.accelerate(pipe, ByChance()):
        run(pipe, TINY_PIPELINES["sd15"].inputs(4), steps=12)
    assert len({*rows}) > 2
    assert compilations() == (graphs + 1, breaks)


# Offloading ---------------------------------------------------------------------------------------


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Grows whenever offloaded weights are loaded for a module to be run."""
    seen: list[Any] = []

    def count(cls: type, method: str) -> None:
        original = getattr(cls, method)

        def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
            if getattr(self, "offload", True):
                seen.append(args[0] if args else self)
            return original(self, *args, **kwargs)

        monkeypatch.setattr(cls, method, counted)

    count(accelerate.hooks.CpuOffload, "pre_forward")
    count(accelerate.hooks.AlignDevicesHook, "pre_forward")
    count(ModuleGroup, "onload_")
    return seen


def offload_in_groups(**options: Any) -> Change:
    device = torch.device("cpu")
    return lambda module: module.enable_group_offload(device, device, **options)


OFFLOADED: dict[str, Change] = {
    "module": lambda module: accelerate.cpu_offload_with_hook(module, "cpu")[0],
    "sequential": lambda module: accelerate.cpu_offload(module, torch.device("cpu")),
    "blocks": offload_in_groups(offload_type="block_level", num_blocks_per_group=1),
    "leaves": offload_in_groups(offload_type="leaf_level"),
}


# asked for its device, the ControlNet pipeline answers with that of its offloaded weights
_WITH_CONTROLNET = [("controlnet", way) for way in OFFLOADED if way != "sequential"]


@pytest.mark.parametrize(
    ("name", "way"),
    [*itertools.product(["sd15", "flux"], OFFLOADED), *_WITH_CONTROLNET],
)
def test_a_skipped_step_loads_no_weights(name: str, way: str, tiny: Tiny, loads: list[Any]) -> None:
    pipe = tiny(name)
    change(pipe, name, OFFLOADED[way])
    generate(pipe, name)
    assert loads
    in_full = len(loads)
    check_identity_and_skips(pipe, name)
    loads.clear()
    with ad.accelerate(pipe, FixedSchedule(MASK)):
        generate(pipe, name)
    assert len(loads) * STEPS == in_full * COMPUTED


def test_weights_may_be_offloaded_to_disk(tiny: Tiny, tmp_path: Path, loads: list[Any]) -> None:
    pipe = tiny("flux")
    in_blocks = {"offload_type": "block_level", "num_blocks_per_group": 1}
    change(pipe, "flux", offload_in_groups(**in_blocks, offload_to_disk_path=str(tmp_path)))
    check_identity_and_skips(pipe, "flux")
    assert loads


@pytest.mark.parametrize("enabled_first", [False, True], ids=["before", "while enabled"])
def test_a_pipeline_may_be_offloaded_model_by_model(enabled_first: bool, tiny: Tiny) -> None:
    """diffusers takes its hooks off and puts them on again after every call."""
    pipe = tiny("wan22")
    tiny_pipe = TINY_PIPELINES["wan22"]
    plain = generate(pipe, "wan22")
    if enabled_first:
        ad.enable(pipe, tolerance=0)
    pipe.enable_model_cpu_offload(device="cpu")
    ad.enable(pipe, tolerance=0)
    for _ in range(2):
        assert torch.equal(generate(pipe, "wan22"), plain)
    calls = count_calls(*(getattr(pipe, part) for part in tiny_pipe.denoisers))
    ad.enable(pipe, FixedSchedule(MASK))
    generate(pipe, "wan22")
    assert len(calls) == 2 * sum(ad.report(pipe).mask[0])
    pipe.remove_all_hooks()
    ad.disable(pipe)
    assert torch.equal(generate(pipe, "wan22"), plain)


# Precision ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["sd15", "controlnet", "flux", "wan"])
def test_half_precision(name: str, dtype: torch.dtype, tiny: Tiny) -> None:
    pipe = tiny(name).to(dtype=dtype)
    check_identity_and_skips(pipe, name)


@pytest.mark.parametrize("storage", [torch.float8_e4m3fn, torch.bfloat16])
@pytest.mark.parametrize("name", ["sd15", "flux"])
def test_layerwise_casting(name: str, storage: torch.dtype, tiny: Tiny) -> None:
    pipe = tiny(name)
    casting = {"storage_dtype": storage, "compute_dtype": torch.float32}
    change(pipe, name, lambda module: module.enable_layerwise_casting(**casting))
    check_identity_and_skips(pipe, name)
    denoiser = getattr(pipe, TINY_PIPELINES[name].denoisers[0])
    assert storage in {weight.dtype for weight in denoiser.parameters()}


def quantise_with_torch(module: nn.Module) -> None:
    torch.ao.quantization.quantize_dynamic(module, {nn.Linear}, torch.qint8, inplace=True)


def quantise_with_torchao(module: nn.Module) -> None:
    torchao = pytest.importorskip("torchao.quantization")
    torchao.quantize_(module, torchao.Int8WeightOnlyConfig())


@pytest.mark.parametrize("quantise", [quantise_with_torch, quantise_with_torchao])
@pytest.mark.parametrize("name", ["sd15", "flux"])
def test_quantised_weights(name: str, quantise: Change, tiny: Tiny) -> None:
    pipe = tiny(name)
    full = generate(pipe, name)
    change(pipe, name, quantise)
    assert not torch.equal(generate(pipe, name), full)
    check_identity_and_skips(pipe, name)


# Caches and hooks ---------------------------------------------------------------------------------


def test_first_block_cache_works_on_the_computed_steps(tiny: Tiny) -> None:
    pipe = tiny("flux")
    second_block = count_calls(pipe.transformer.single_transformer_blocks[0].attn)
    full = generate(pipe, "flux")
    pipe.transformer.enable_cache(FirstBlockCacheConfig(threshold=10.0))
    second_block.clear()
    plain = generate(pipe, "flux")
    spared = STEPS - len(second_block)
    assert spared > 0
    assert not torch.equal(plain, full)
    with ad.accelerate(pipe, tolerance=0):
        assert torch.equal(generate(pipe, "flux"), plain)
    second_block.clear()
    with ad.accelerate(pipe, FixedSchedule(MASK)):
        first = generate(pipe, "flux")
        assert len(second_block) <= COMPUTED
        assert torch.equal(generate(pipe, "flux"), first)
    pipe.transformer.disable_cache()
    assert torch.equal(generate(pipe, "flux"), full)


def test_deep_cache_works_on_the_computed_steps(tiny: Tiny) -> None:
    helpers = pytest.importorskip("DeepCache")
    pipe = tiny("sd15")
    full = generate(pipe, "sd15")
    helper = helpers.DeepCacheSDHelper(pipe=pipe)
    helper.set_params(cache_interval=2, cache_branch_id=0)
    helper.enable()
    plain = generate(pipe, "sd15")
    assert not torch.equal(plain, full)
    with ad.accelerate(pipe, tolerance=0):
        assert torch.equal(generate(pipe, "sd15"), plain)
    with ad.accelerate(pipe, FixedSchedule(MASK)) as accelerated:
        assert generate(pipe, "sd15").isfinite().all()
    assert accelerated.report.mask == [MASK]
    helper.disable()
    assert torch.equal(generate(pipe, "sd15"), full)


class Split(ModelHook):
    """Changes what goes in and out, as the hooks do that share a sequence among devices."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def pre_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        self.calls += 1
        return args, kwargs | {"hidden_states": 0.5 * kwargs["hidden_states"]}

    def post_forward(self, module: nn.Module, output: Any) -> Any:
        return (output[0] + 1, *output[1:])


@pytest.mark.parametrize("enabled_first", [False, True], ids=["before", "while enabled"])
def test_hooks_of_the_registry_run_on_the_computed_steps(enabled_first: bool, tiny: Tiny) -> None:
    pipe, hook = tiny("flux"), Split()
    unhooked = generate(pipe, "flux")
    if enabled_first:
        ad.enable(pipe)
    HookRegistry.check_if_exists_or_initialize(pipe.transformer).register_hook(hook, "split")
    ad.disable(pipe)
    assert not torch.equal(generate(pipe, "flux"), unhooked)
    check_identity_and_skips(pipe, "flux")
    hook.calls = 0
    with ad.accelerate(pipe, FixedSchedule(MASK)):
        generate(pipe, "flux")
    assert hook.calls == COMPUTED


def test_hooks_of_torch_run_on_the_computed_steps(tiny: Tiny) -> None:
    pipe = tiny("sd15")
    calls = count_calls(pipe.unet)
    with ad.accelerate(pipe, FixedSchedule(MASK)):
        generate(pipe, "sd15")
    assert len(calls) == COMPUTED
