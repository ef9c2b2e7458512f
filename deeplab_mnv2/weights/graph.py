"""A network as a small graph, whatever kind of file it was read from.

Converters write one network in several ways: dilation as a field or between space-to-batch and
batch-to-space, padding as a mode or as a pad, bias and activation inside the convolution or after
it, norm as a layer or folded into the kernel. A reader turns its file into these nodes, in which
notation no longer shows; `walk` then finds the network in them.
"""

import dataclasses

import numpy as np

# What a file calls a tensor.
Tensor = int | str


@dataclasses.dataclass
class Norm:
    """Batch norm at inference; the arrays are (channels,) float32."""

    scale: np.ndarray
    bias: np.ndarray
    mean: np.ndarray
    var: np.ndarray
    epsilon: float


@dataclasses.dataclass
class Conv:
    """Convolution with activation; kernel (k, k, I, O), depthwise I = 1.

    Between the two stands a bias or, where it was not folded into the kernel, a norm. `paddings`
    are the rules ("same", "symmetric") that give the padding found.
    """

    input: Tensor
    output: Tensor
    kernel: np.ndarray
    bias: np.ndarray
    activation: str
    depthwise: bool = False
    stride: int = 1
    dilation: int = 1
    paddings: frozenset[str] = frozenset({"same", "symmetric"})
    norm: Norm | None = None


@dataclasses.dataclass
class Add:
    """Sum of two activations."""

    inputs: list[Tensor]
    output: Tensor


@dataclasses.dataclass
class Pool:
    """Average over the whole image, or over a window (height, width) that ought to be as large."""

    input: Tensor
    output: Tensor
    window: tuple[int, ...] | None = None


@dataclasses.dataclass
class Resize:
    """Bilinear resizing; `align_corners` is None where both rules give the same.

    `size` (height, width) is None where the file does not tell it.
    """

    input: Tensor
    output: Tensor
    align_corners: bool | None
    size: tuple[int, ...] | None = None


@dataclasses.dataclass
class Concat:
    """Concatenation of channels."""

    inputs: list[Tensor]
    output: Tensor


Node = Conv | Add | Pool | Resize | Concat


@dataclasses.dataclass
class Graph:
    """The nodes of a network that reads `input`.

    `input_scale` (scale, zero point) is how the file makes the network's input of grey levels,
    scale * (grey level - zero point); None where it does not tell.
    """

    nodes: list[Node]
    input: Tensor
    input_scale: tuple[float, float] | None
