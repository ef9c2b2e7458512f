"""A network as a short list of operations, norm folded into the convolutions."""

import dataclasses

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from deeplab_mnv2.models.layers import resize

# The names of the first tensor and of the last; a detector's are two, codes of boxes and logits.
IMAGE, LOGITS, CODES = "image", "logits", "codes"


@dataclasses.dataclass(frozen=True)
class Convolution:
    """Convolution, bias and activation; `kernel` is (k, k, I, O), or (k, k, 1, C) depthwise.

    `pads` are the zero rows and columns before and after: ((top, bottom), (left, right)).
    """

    input: str
    output: str
    kernel: np.ndarray
    bias: np.ndarray
    stride: int
    dilation: int
    depthwise: bool
    pads: tuple[tuple[int, int], tuple[int, int]]
    activation: str  # "none", "relu" or "relu6"


@dataclasses.dataclass(frozen=True)
class Add:
    """Sum of two tensors."""

    inputs: tuple[str, str]
    output: str


@dataclasses.dataclass(frozen=True)
class Pool:
    """Average over windows (h, w) at stride 1, without padding."""

    input: str
    output: str
    window: tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Resize:
    """Bilinear resizing to the height and width of the tensor `like`."""

    input: str
    like: str
    output: str
    align_corners: bool


@dataclasses.dataclass(frozen=True)
class Concat:
    """Concatenation of maps (H, W, C) by channel, of rows (N, C) by row."""

    inputs: tuple[str, ...]
    output: str


@dataclasses.dataclass(frozen=True)
class Reshape:
    """A map (H, W, C) as rows (N, C), cell by cell, or one of one pixel as a vector (C,)."""

    input: str
    output: str


Operation = Convolution | Add | Pool | Resize | Concat | Reshape


@dataclasses.dataclass
class Graph:
    """Operations in order, from `IMAGE` to `LOGITS`, a detector's to `CODES` as well.

    `shapes` are (H, W, C) by tensor; a classifier's logits are (classes,), a detector's
    (anchors, classes + 1) and its codes (anchors, 4). `ranges` are the least and the largest value
    of each tensor that is rounded to 8 bits; of a network without ranges there are none.
    """

    operations: list[Operation]
    shapes: dict[str, tuple[int, ...]]
    ranges: dict[str, tuple[float, float]]


def evaluate(graph: Graph, image: Array) -> dict[str, Array]:
    """Return every tensor of the graph, (B, *shape) by name, for a normalised image."""
    tensors = {IMAGE: image}
    for operation in graph.operations:
        size = graph.shapes[operation.output][:2]
        if isinstance(operation, Convolution):
            value = _convolve(operation, tensors[operation.input])
        elif isinstance(operation, Add):
            value = tensors[operation.inputs[0]] + tensors[operation.inputs[1]]
        elif isinstance(operation, Concat):
            axis = -1 if len(graph.shapes[operation.output]) == 3 else 1
            value = jnp.concatenate([tensors[name] for name in operation.inputs], axis=axis)
        elif isinstance(operation, Pool):
            window = (1, *operation.window, 1)
            total = lax.reduce_window(
                tensors[operation.input], 0.0, lax.add, window, (1, 1, 1, 1), "VALID"
            )
            value = total / (window[1] * window[2])
        elif isinstance(operation, Reshape):
            value = tensors[operation.input].reshape(-1, *graph.shapes[operation.output])
        else:
            value = resize(tensors[operation.input], size, align_corners=operation.align_corners)
        tensors[operation.output] = value
    return tensors


def _convolve(conv: Convolution, x: Array) -> Array:
    y = lax.conv_general_dilated(
        x,
        jnp.asarray(conv.kernel),
        window_strides=(conv.stride, conv.stride),
        padding=conv.pads,
        rhs_dilation=(conv.dilation, conv.dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=conv.kernel.shape[-1] if conv.depthwise else 1,
    )
    y = y + jnp.asarray(conv.bias)[None, None, None]
    return {"none": y, "relu": jnp.maximum(y, 0), "relu6": jnp.clip(y, 0, 6)}[conv.activation]
