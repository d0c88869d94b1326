"""How EasyCache and LazyCache decide: by how much the output has probably changed.

The rule of EasyCache (Zhou et al., "Less is Enough: Training-Free Video Diffusion Acceleration via
Runtime-Adaptive Caching", https://arxiv.org/abs/2507.02860) as ComfyUI's core has it
(`comfy_extras/nodes_easycache.py`), written from this description. x is the input of a call and y
its output, x' and y' are those of the last computed call, and a bar is the mean over all numbers:

- Each computed call measures the rate :math:`k = \\overline{|y - y'|} / \\overline{|x - x'|}`.
- Each input x adds :math:`k\\,\\overline{|x - x'|} / \\overline{|y'|}` to the change. While that is
  below the threshold, the call is skipped and its output is :math:`x + (y' - x')`. Otherwise the
  call is computed, and the change begins at 0 again.

Calls are skipped between 15 % and 95 % of the run, ComfyUI's defaults.
"""

from __future__ import annotations

from torch import Tensor

__all__ = ["ChangeRate", "is_within"]

_START, _END = 0.15, 0.95  # shares of the run


def is_within(index: int, steps: int, measuring: int) -> bool:
    """Whether step `index` of `steps` may be skipped.

    The first `measuring` steps of the part in which steps are skipped are computed to measure k.
    """
    return (index - measuring) / steps >= _START and index / steps < _END


class ChangeRate:
    """The decisions of one run, about tensors of one shape.

    Attributes:
        threshold: of the accumulated change, as a share of the output's mean size.
    """

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self._computed: tuple[Tensor, Tensor] | None = None  # input and output
        self._rate: float | None = None  # k
        self._change = 0.0  # c

    @property
    def is_known(self) -> bool:
        """Whether there is a computed call to reuse."""
        return self._computed is not None

    def skips(self, entering: Tensor) -> bool:
        """Whether the call with this input is skipped; to be asked once per call."""
        if self._computed is None or self._rate is None:
            return False
        before, output = self._computed
        self._change += self._rate * _size(entering - before) / max(_size(output), _TINY)
        if self._change < self.threshold:
            return True
        self._change = 0.0
        return False

    def learn(self, entering: Tensor, output: Tensor) -> None:
        """Notes a computed call."""
        if self._computed is not None:
            before, output_before = self._computed
            self._rate = _size(output - output_before) / max(_size(entering - before), _TINY)
        self._computed = entering.float().clone(), output.float().clone()

    def reuse(self, entering: Tensor) -> Tensor:
        """The output of a skipped call, in single precision."""
        assert self._computed is not None
        before, output = self._computed
        return entering + (output - before)


_TINY = 1e-12


def _size(values: Tensor) -> float:
    return float(values.abs().mean())
