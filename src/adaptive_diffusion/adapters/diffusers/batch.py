"""Which rows of a denoiser call belong to which sample, and calls on some of them only.

With classifier-free guidance one call holds every sample several times, one block after the other:
`[unconditional, conditional]`. Row `block * samples + sample` belongs to that sample, in every
tensor argument that has a row per input row; nested dicts and lists too. A denoiser that takes its
samples in a list has lists with an entry per row instead.

Videos may have their frames in rows, the frames of one sample after those of another: in the
sample that the scheduler steps (video UNets), in a ControlNet's input, in a text that is repeated
for every frame. Or the scheduler steps one frame at a time (diffusion forcing), or what it steps
has been packed into tokens for the denoiser.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from adaptive_diffusion.adapters.calls import has_unclear_rows
from adaptive_diffusion.adapters.containers import (
    is_plain,
    items,
    leaves,
    map_items,
    tensors,
)

__all__ = ["Layout", "call_on_rows", "input_of", "layout_of", "rows_of", "shapes", "takes"]

# Tables of positions have a row per token, not per sample: never cut, however many rows they have.
_POSITION_TABLES = ("freqs", "img_ids", "indices", "rope", "rotary", "txt_ids")  # in their names
_POSITIONS = "position_ids"  # such a table, unless it has as many rows as the denoiser's input
_ALIKE, _ROUNDING = 0.9, 1e-3  # cosines: of a sample and what was made of it, and their rounding
_VIDEO = 5  # dimensions of a tensor whose frames have a dimension of their own, and are no rows


@dataclass(frozen=True)
class Layout:
    """How the rows of the denoiser calls' tensors belong to samples.

    Attributes:
        samples: how many samples decide for themselves; 1 for a batch decided as a whole.
        is_sure: False where all samples are alike, so that the order of rows does not show.
        frames: rows that a sample has in each block of a tensor with frames in its rows.
        reason: why a batch is decided as a whole; None if it is not.
    """

    samples: int
    frames: int = 1
    reason: str | None = None
    is_sure: bool = True


def input_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    """The noisy sample among a denoiser's arguments: the first tensor, by position or by name.

    A list of samples is put together.
    """
    given = _given(args, kwargs)
    return torch.stack(given) if isinstance(given, list) else given


def shapes(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[torch.Size, ...]:
    """The shapes of all tensor arguments, which tell one branch of a step from another."""
    return tuple(tensor.shape for tensor in tensors((args, kwargs)))


def layout_of(
    calls: Sequence[tuple[tuple[Any, ...], dict[str, Any]]],
    sample: Tensor,
    outputs: Sequence[Any] = (),
) -> Layout:
    """How the batch of these denoiser calls can be told apart into samples.

    Args:
        calls: positional and named arguments of the calls of one iteration.
        sample: what the scheduler steps after them: one row per sample, or per frame of a sample.
        outputs: what the calls answered, in their order.
    """
    if len(sample) == 1:
        return Layout(1)
    inputs = [tensor for call in calls if (tensor := input_of(*call)) is not None]
    videos = [tensor for tensor in (*inputs, sample) if tensor.ndim == _VIDEO]
    reasons = []
    sizes = (1, *dict.fromkeys(size for video in videos for size in video.shape[2:0:-1]))
    for packed, frames in itertools.product((False, True), sizes):
        samples, rest = divmod(len(sample), frames if videos and sample.ndim < _VIDEO else 1)
        if rest:
            continue
        found = [
            *(_mismatch(*call, sample, samples, frames, packed) for call in calls),
            *(
                _output_mismatch(*call, output, frames)
                for call, output in zip(calls, outputs, strict=False)
            ),
        ]
        reason = next((reason for reason in found if reason is not None), None)
        if reason is None:
            rows = (len(tensor) for tensor in inputs)
            are_alike = torch.equal(sample, sample[:1].expand_as(sample))
            return Layout(samples, frames, is_sure=not are_alike or max(rows) <= len(sample))
        reasons.append(reason)
    return Layout(1, reason=reasons[0])


def takes(args: tuple[Any, ...], kwargs: dict[str, Any], sample: Tensor) -> bool:
    """Whether a call's input is the sample, whole, packed, or with more beside it."""
    given = input_of(args, kwargs)
    if given is None:
        return False
    if given.ndim != sample.ndim:
        videos = [each for each in (given, sample) if each.ndim == _VIDEO]
        sizes = {size for each in videos for size in each.shape[1:3]}
        pairs = (_as_pictures(given, sample, frames) for frames in (1, *sizes))
        given, sample = next((p for p in pairs if p[0].ndim == p[1].ndim), (given, sample))
    if given.ndim != sample.ndim:
        return _is_packed(given, sample)
    part = given[tuple(slice(size) for size in (len(given), *sample.shape[1:]))]
    return part.shape[1:] == sample.shape[1:] and _are_scaled(part, sample)


def rows_of(samples: list[bool], rows: int, each: int = 1) -> list[int]:
    """The rows, of `rows` in all, that belong to the true entries of `samples`.

    A sample has `each` rows, one after the other, in every block.
    """
    return [row for row in range(rows) if samples[row // each % len(samples)]]


def call_on_rows(
    call: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    samples: list[bool],
    frames: int,
    last: Any,
) -> Any:
    """Calls the denoiser on the rows of some samples and puts the others' last outputs beside."""
    given = input_of(args, kwargs)
    assert given is not None
    indices = {
        rows: torch.tensor(rows_of(samples, rows, each), device=given.device)
        for rows, each in _rows(given, frames).items()
    }
    is_row_list = _row_list_test(args, kwargs)

    def index_of(value: Any) -> Tensor | None:
        has_rows = value.ndim > 0 if isinstance(value, Tensor) else is_row_list(value)
        return indices.get(len(value)) if has_rows else None

    def gather(value: Any) -> Any:
        index = index_of(value)
        if index is None:
            return map_items(gather, value)
        if isinstance(value, Tensor):
            return value.index_select(0, index.to(value.device))
        return [value[row] for row in index.tolist()]

    def scatter(part: Any, whole: Any) -> Any:
        index = index_of(whole)
        if isinstance(whole, Tensor):
            if index is None:
                return part
            return whole.index_copy(0, index.to(whole.device), part.to(whole.dtype))
        if index is None:
            parts = iter(items(part))
            return map_items(lambda item: scatter(next(parts), item), whole)
        computed = dict(zip(index.tolist(), part, strict=True))
        return [computed.get(row, entry) for row, entry in enumerate(whole)]

    output = call(
        *gather(args),
        **{
            name: value if _is_position_table(name) else gather(value)
            for name, value in kwargs.items()
        },
    )
    return scatter(output, last)


def _given(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | list[Tensor] | None:
    """The noisy samples as the denoiser takes them."""
    named = [kwargs.get("sample"), kwargs.get("hidden_states"), *kwargs.values()]
    records = [value for value in (*args, *named) if not isinstance(value, (list, tuple))]
    found = [v for v in (*args, *named, *tensors(records)) if _may_be_samples(v)]
    # a time, or one for every row, may stand before the samples
    return next(
        (v for v in found if isinstance(v, list) or v.ndim > 1), found[0] if found else None
    )


def _may_be_samples(value: Any) -> bool:
    if isinstance(value, list):
        sizes = {getattr(entry, "shape", None) for entry in value}
        return len(sizes) == 1 and None not in sizes
    return isinstance(value, Tensor)


def _row_list_test(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Callable[[Any], bool]:
    """What tells the lists with an entry per row.

    There are some if the samples come in a list. Beside a tensor it is one if its entries have the
    shape of the tensor's rows.
    """
    given = _given(args, kwargs)
    if given is None:
        return lambda value: False
    shape = given[0].shape if len(given) else None

    def is_row_list(value: Any) -> bool:
        if not isinstance(value, list) or len(value) != len(given):
            return False
        return isinstance(given, list) or all(
            isinstance(each, Tensor) and each.shape == shape for each in value
        )

    return is_row_list


def _is_cache(value: Any) -> bool:
    """Whether it keeps keys and values of all rows; they are only read once they are kept."""
    return "Cache" in type(value).__name__ and hasattr(value, "__dict__")


def _may_keep(value: Any) -> bool:
    """Whether it is more than data: an object that may keep what a call shows it.

    The caches known are filled in the first step, which is computed for all rows.
    """
    data = isinstance(value, (Mapping, list, tuple, SimpleNamespace))
    if is_plain(value) or dataclasses.is_dataclass(value) or hasattr(value, "__attrs_attrs__"):
        return False
    if data:
        return any(map(_may_keep, items(value)))
    return not _is_cache(value) and bool(tensors(value))


def _rows(given: Tensor, frames: int) -> dict[int, int]:
    """How many rows the tensors beside the input `given` have, and how many of them each sample."""
    videos = len(given) // (1 if given.ndim == _VIDEO else frames)
    return {videos: 1, videos * frames: frames}


def _mismatch(
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    sample: Tensor,
    samples: int,
    frames: int,
    packed: bool,
) -> str | None:
    """Why a call does not have this many samples with this many frames, or None if it does.

    Whether samples may have been packed is asked last: the frames of one may be taken for that.
    """
    given = input_of(args, kwargs)
    if given is None:
        return "the denoiser's input is laid out differently from the scheduler's sample"
    blocks = given
    if given.ndim != sample.ndim:
        blocks, sample = _as_pictures(given, sample, frames)
    if blocks.ndim != sample.ndim and not (packed and _is_packed(blocks, sample)):
        return "the denoiser's input is laid out differently from the scheduler's sample"
    if blocks.ndim == sample.ndim:
        if len(blocks) % len(sample) or any(
            a < b for a, b in zip(blocks.shape[1:], sample.shape[1:], strict=True)
        ):
            return "the denoiser's input has other dimensions than the scheduler's sample"
        blocks = blocks[tuple(slice(size) for size in (len(blocks), *sample.shape[1:]))]
    blocks = blocks.unflatten(0, (-1, len(sample)))
    if not torch.equal(blocks, blocks[:1].expand_as(blocks)):
        return "the denoiser's input does not repeat the samples block by block"
    if blocks[0].shape == sample.shape and not _are_in_order(blocks[0], sample):
        return "the denoiser's input has the samples in another order"
    is_row_list = _row_list_test(args, kwargs)
    for name, value in _named(args, kwargs):
        if _may_keep(value):
            kind = type(value).__name__
            return f"the denoiser's argument {name!r} ({kind}) may keep what it is shown"
        if is_row_list(value) or _is_cache(value) or _is_position_table(name):
            continue
        if isinstance(_given(args, kwargs), Tensor) and has_unclear_rows(value, len(given)):
            return f"the rows of the denoiser's argument {name!r} can't be matched to samples"
    rows = _rows(given, frames)
    for name, tensor in _named_tensors(args, kwargs):
        if name == _POSITIONS or _is_position_table(name) or not tensor.ndim or len(tensor) == 1:
            continue
        if "cache" in name:  # two rows may be keys and values
            return f"the rows of the denoiser's argument {name!r} can't be matched to samples"
        each = rows.get(len(tensor))
        unknown = each is None and len(tensor) % samples == 0 and samples > 1
        if unknown or (len(tensor) != len(given) and _is_tiled(tensor, each or 1)):
            return f"the rows of the denoiser's argument {name!r} can't be matched to samples"
    return None


def _output_mismatch(
    args: tuple[Any, ...], kwargs: dict[str, Any], output: Any, frames: int
) -> str | None:
    """Why what a call answered has no row for every row of its input, or None if it has."""
    given = input_of(args, kwargs)
    assert given is not None
    is_row_list = _row_list_test(args, kwargs)
    if is_row_list(output) or any(map(is_row_list, items(output))):
        return None
    if not all(map(is_plain, leaves(output))):
        return f"the rows of the denoiser's answer ({type(output).__name__}) can't be told apart"
    rows = _rows(given, frames)
    if any(tensor.ndim and len(tensor) not in rows for tensor in tensors(output)):
        return "the denoiser's answer has not a row for every row of its input"
    return None


def _as_pictures(given: Tensor, sample: Tensor, frames: int) -> tuple[Tensor, Tensor]:
    """Input and sample, one of them a video, as two batches of pictures that are about the same.

    Either all frames are stepped, sample by sample, or one is. Two tensors that are not so are
    given back as they are.
    """
    pairs = [(_frames_in_rows(given, frames), _frames_in_rows(sample, frames))]
    if given.ndim == _VIDEO and frames == 1:
        pairs += [(frame, sample) for frame in given.unbind(2)]
    return next((pair for pair in pairs if _are_scaled(*pair)), (given, sample))


def _frames_in_rows(tensor: Tensor, frames: int) -> Tensor:
    """A video with as many frames as a batch of pictures; any other tensor as it is."""
    if tensor.ndim != _VIDEO or frames not in tensor.shape[1:3]:
        return tensor
    return tensor.movedim(2 if tensor.shape[2] == frames else 1, 1).flatten(0, 1)


def _are_scaled(rows: Tensor, others: Tensor) -> bool:
    """Whether the first of the rows are the others, but for a factor each."""
    rows = rows[: len(others)]
    if rows.shape != others.shape:
        return False
    pairs = rows.float().flatten(1), others.float().flatten(1)
    return bool((torch.cosine_similarity(*pairs) > 0.99).all())


def _are_in_order(rows: Tensor, samples: Tensor) -> bool:
    """Whether no row is another sample than its own.

    One that is like none of them may be cut from another place, as where the first frame is given.
    """
    pairs = [functional.normalize(each.float().flatten(1)) for each in (rows, samples)]
    similarity = pairs[0] @ pairs[1].T
    nearest = similarity.amax(1)
    return bool(((nearest < _ALIKE) | (similarity.diagonal() >= nearest - _ROUNDING)).all())


def _is_packed(rows: Tensor, samples: Tensor) -> bool:
    """Whether each sample's numbers are those of its row in another order, or some of them."""
    return len(rows) % len(samples) == 0 and all(
        bool(torch.isin(sample.to(row.dtype).cpu(), row.cpu()).all())
        for row, sample in zip(rows, samples, strict=False)
    )


def _is_tiled(tensor: Tensor, frames: int) -> bool:
    """Whether all rows together, and not each row in turn, are repeated for the frames."""
    tiles = tensor.unflatten(0, (frames, -1))
    runs = tensor.unflatten(0, (-1, frames))
    return torch.equal(tiles, tiles[:1].expand_as(tiles)) and not torch.equal(
        runs, runs[:, :1].expand_as(runs)
    )


def _is_position_table(name: str) -> bool:
    return any(part in name for part in _POSITION_TABLES)


def _named(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[tuple[str, Any]]:
    return [*((str(position), value) for position, value in enumerate(args)), *kwargs.items()]


def _named_tensors(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[tuple[str, Tensor]]:
    """All tensors in the arguments, but for those in lists with an entry per row."""
    is_row_list = _row_list_test(args, kwargs)
    return [
        (name, tensor)
        for name, value in _named(args, kwargs)
        if not is_row_list(value) and not _is_cache(value)
        for tensor in tensors(value)
    ]
