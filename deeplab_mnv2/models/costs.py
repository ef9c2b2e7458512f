"""The table of layers with strides, shapes and costs, read off the traced program."""

import dataclasses
import math
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.extend.core import jaxprs_in_params

from deeplab_mnv2.models.layers import Conv


@dataclasses.dataclass(frozen=True)
class LayerCost:
    """One convolution: where it is, what it does and what it costs for one image."""

    name: str
    kernel: tuple[int, ...]
    stride: int
    dilation: int
    output: tuple[int, ...]  # (H, W, C)
    parameters: int  # including its norm's scale and bias, but no running statistics
    multiply_adds: int

    @property
    def output_bytes(self) -> int:
        """The memory of its output for one image, in float32."""
        return 4 * math.prod(self.output)

    @property
    def padded_multiply_adds(self) -> int:
        """Multiply-adds where a dilated layer runs as TensorFlow 1 ran it.

        Cut into `dilation` x `dilation` coarser maps of one size (space to batch), which pads the
        output to a multiple of the dilation; the padding is computed and thrown away.
        """
        height, width = (-(-length // self.dilation) for length in self.output[:2])
        padded = height * width * self.dilation**2
        return self.multiply_adds * padded // math.prod(self.output[:2])


def receptive_field(costs: Sequence[LayerCost]) -> int:
    """Return the side of the square of the image that a feature of the backbone can depend on.

    Exact: the convolutions of both backbones are one chain, shortcuts run beside them, and each
    adds (kernel - 1) * dilation steps of the grid that it reads.
    """
    side, step = 1, 1
    for cost in costs:
        if cost.name.startswith("backbone."):
            side += (cost.kernel[0] - 1) * cost.dilation * step
            step *= cost.stride
    return side


def layer_costs(model: nnx.Module, image_size: tuple[int, int]) -> list[LayerCost]:
    """Return the convolutions of a model in the order of execution, for one image.

    Multiply-adds are counted in the jaxpr that runs, with the shapes in it. Norm, activation and
    resizing do not count, as in the papers.
    """
    layers = {m.path: m for _, m in nnx.iter_modules(model) if isinstance(m, Conv)}
    first = next(iter(layers[name] for name in layers if name.endswith("stem")))
    image = jax.ShapeDtypeStruct((1, *image_size, first.kernel.shape[2]), jnp.float32)
    sizes = _parameters(model)

    graphdef, state = nnx.split(model)

    def forward(state: nnx.State, image: jax.Array) -> Any:
        merged = nnx.merge(graphdef, state, copy=True)
        merged.eval()
        return merged(image)

    costs: dict[str, LayerCost] = {}
    program = jax.make_jaxpr(forward)(state, image).jaxpr
    for name, multiply_adds, output in _convolutions(program, layers.keys()):
        layer = layers[name]
        costs[name] = LayerCost(
            name=name,
            kernel=layer.kernel.shape,
            stride=layer.stride,
            dilation=layer.dilation,
            output=output[1:],
            parameters=sizes[name],
            multiply_adds=multiply_adds,
        )
    return list(costs.values())


def cost_table(model: nnx.Module, image_size: tuple[int, int] = (513, 513)) -> str:
    """Return the table of `layer_costs` as text, with totals."""
    costs = layer_costs(model, image_size)
    lines = [
        f"{'layer':38} {'kernel':>14} {'stride':>6} {'dilation':>8} {'output':>15} "
        f"{'parameters':>11} {'multiply-adds':>14}"
    ]
    for cost in costs:
        lines.append(
            f"{cost.name:38} {'x'.join(map(str, cost.kernel)):>14} {cost.stride:>6} "
            f"{cost.dilation:>8} {'x'.join(map(str, cost.output)):>15} "
            f"{cost.parameters:>11,} {cost.multiply_adds:>14,}"
        )
    parameters = sum(cost.parameters for cost in costs)
    multiply_adds = sum(cost.multiply_adds for cost in costs)
    height, width = image_size
    lines.append(
        f"{f'total at {height} x {width}':38} {'':>14} {'':>6} {'':>8} {'':>15} "
        f"{parameters:>11,} {multiply_adds:>14,}"
    )
    return "\n".join(lines)


def _parameters(model: nnx.Module) -> dict[str, int]:
    """Return the number of parameters by layer; a norm counts with its convolution."""
    sizes: dict[str, int] = {}
    for path, leaf in nnx.to_flat_state(nnx.state(model, nnx.Param)):
        parts = [str(part) for part in path[:-1]]
        if parts[-1] in ("conv", "norm"):
            parts.pop()
        name = ".".join(parts)
        sizes[name] = sizes.get(name, 0) + math.prod(leaf.shape)
    return sizes


def _convolutions(
    jaxpr: Any, layers: Collection[str], scope: str = ""
) -> Iterator[tuple[str, int, tuple[int, ...]]]:
    """Yield (layer path, multiply-adds, output shape) of the products inside named layers."""
    for equation in jaxpr.eqns:
        # Each `Conv` opens a scope named by its path; products outside such a scope are resizing.
        stack = str(equation.source_info.name_stack)
        name = stack if stack in layers else scope
        output = equation.outvars[0].aval
        kind = equation.primitive.name
        if equation.params.get("name") == "depthwise_conv":
            kernel = equation.invars[1].aval.shape
            yield name, math.prod(output.shape) * kernel[0] * kernel[1], output.shape
        elif kind == "conv_general_dilated" and name:
            kernel = equation.invars[1].aval.shape  # HWIO
            yield name, math.prod(output.shape) * math.prod(kernel[:3]), output.shape
        elif kind == "dot_general" and name:
            (contracted, _), _ = equation.params["dimension_numbers"]
            left = equation.invars[0].aval.shape
            products = math.prod(left[axis] for axis in contracted)
            yield name, math.prod(output.shape) * products, output.shape
        else:
            for inner in jaxprs_in_params(equation.params):
                yield from _convolutions(inner, layers, name)
