"""Convolution, with norm and activation, separable; input form and range, bilinear resizing."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array, lax

from deeplab_mnv2.config import BackboneConfig
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.models.ops.batch_norm import BatchNorm
from deeplab_mnv2.models.ops.depthwise import depthwise_conv
from deeplab_mnv2.models.ops.fake_quantization import (
    Range,
    bias_correction,
    fake_quantize,
    fake_quantize_kernel,
    rounded,
    scale_and_zero_point,
    step_of,
)
from deeplab_mnv2.models.ops.few_channels import full_conv
from deeplab_mnv2.models.ops.pixel_sums import wide
from deeplab_mnv2.models.ops.pointwise import pointwise

# Fan-in, not fan-out: for a depthwise kernel (k, k, 1, C) fan-out counts C channels and the
# features of a fresh network would vanish.
he_normal = nnx.initializers.he_normal()


class Conv(nnx.Module):
    """Convolution with TensorFlow's or PyTorch's padding; kernel (k, k, I, O), depthwise I = 1.

    `path` is the layer's position in the network, set by `name_layers`; it is the layer's name in
    profiles and in `costs.cost_table`. With `quantized` the kernel is rounded to 8 bits.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 1,
        *,
        stride: int = 1,
        dilation: int = 1,
        depthwise: bool = False,
        use_bias: bool = False,
        padding: str = "same",
        kernel_init: Callable[..., Array] = he_normal,
        dtype: Any = jnp.float32,
        quantized: bool = False,
        rngs: nnx.Rngs,
    ):
        if depthwise and in_channels != out_channels:
            raise ValueError("a depthwise convolution keeps the number of channels")
        shape = (kernel_size, kernel_size, 1 if depthwise else in_channels, out_channels)
        self.kernel = nnx.Param(kernel_init(rngs.params(), shape, jnp.float32))
        self.bias = nnx.Param(jnp.zeros(out_channels, jnp.float32)) if use_bias else None
        self.kernel_size = kernel_size
        self.stride = stride
        self.dilation = dilation
        self.depthwise = depthwise
        self.padding = padding
        self.dtype = dtype
        self.rounds = quantized
        self.path = ""

    def __call__(self, x: Array, step: Array | None = None) -> Array:
        """Convolve (B, H, W, I) into (B, H/stride, W/stride, O); `step` as in `ConvNormAct`."""
        with jax.named_scope(self.path or "conv"):
            x = x.astype(self.dtype)
            kernel = self.kernel[...].astype(self.dtype)
            if self.rounds:
                kernel = fake_quantize_kernel(kernel)
            if self.depthwise:
                y = depthwise_conv(
                    x, kernel, stride=self.stride, dilation=self.dilation, padding=self.padding
                )
            elif self.kernel_size == 1 and self.stride == 1:
                # A matrix product: XLA's CPU backend runs it several times faster than a 1x1
                # convolution, forward and backward.
                y = pointwise(x, kernel[0, 0])
            else:
                y = full_conv(
                    x, kernel, stride=self.stride, dilation=self.dilation, padding=self.padding
                )
            if self.bias is None:
                return y
            bias = self.bias[...]
            if step is not None and self.rounds:
                bias = bias + bias_correction(bias, jnp.ones_like(bias), self.kernel[...], step)
            # Added in float32, so that its gradient is summed in float32: a sum of thousands of
            # pixels in bfloat16 stops growing half way.
            return (wide(y) + bias[None, None, None]).astype(self.dtype)


class ConvNormAct(nnx.Module):
    """Convolution, batch norm and, where given, an activation.

    With `quantized` kernel and output are rounded to 8 bits; without `own_range` the output is left
    to the caller, who rounds it together with others. `step` is what the input's values are
    multiples of, of which rounding the bias depends; None where nothing is rounded.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 1,
        *,
        activation: Callable[[Array], Array] | None,
        epsilon: float,
        momentum: float,
        stride: int = 1,
        dilation: int = 1,
        depthwise: bool = False,
        padding: str = "same",
        kernel_init: Callable[..., Array] = he_normal,
        dtype: Any = jnp.float32,
        quantized: bool = False,
        own_range: bool = True,
        rngs: nnx.Rngs,
    ):
        self.conv = Conv(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            dilation=dilation,
            depthwise=depthwise,
            padding=padding,
            kernel_init=kernel_init,
            dtype=dtype,
            quantized=quantized,
            rngs=rngs,
        )
        # Flax's momentum is the decay of the running statistics, like TensorFlow's.
        self.norm = BatchNorm(
            out_channels, momentum=momentum, epsilon=epsilon, dtype=dtype, rngs=rngs
        )
        self.activation = activation
        self.range = Range() if quantized and own_range else None

    def __call__(self, x: Array, step: Array | None = None) -> Array:
        y = self.conv(x)
        if step is not None and self.conv.rounds and self.norm.use_running_average:
            # Of the stored statistics, of which alone there is a bias.
            y = self.norm(y) + self._bias_correction(step)[None, None, None]
            y = y if self.activation is None else self.activation(y)
        else:
            y = self.norm(y, self.activation)
        return rounded(y, self.range)

    @property
    def step(self) -> Array | None:
        """What the output's values are multiples of, None where it is not rounded here."""
        return step_of(self.range)

    def _bias_correction(self, step: Array) -> Array:
        mean, var, scale, bias = (
            variable[...]  # pyright: ignore[reportOptionalSubscript] - ours has all
            for variable in (self.norm.mean, self.norm.var, self.norm.scale, self.norm.bias)
        )
        factor = scale * lax.rsqrt(var + self.norm.epsilon)
        return bias_correction(bias - mean * factor, factor, self.conv.kernel[...], step)


class SeparableConv(nnx.Module):
    """Depthwise 3x3, then pointwise, each with the norm and activation of `layer`.

    The block of MobileNetV1 (arXiv:1704.04861, Figure 3) and of DeepLabv3+ (Section 3.1).
    """

    def __init__(
        self,
        layer: Callable[..., ConvNormAct],
        in_channels: int,
        out_channels: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        own_range: bool = True,
    ):
        self.depthwise = layer(
            in_channels, in_channels, 3, stride=stride, dilation=dilation, depthwise=True
        )
        self.pointwise = layer(in_channels, out_channels, own_range=own_range)

    def __call__(self, x: Array, step: Array | None = None) -> Array:
        """Map (B, H, W, I) to (B, H/stride, W/stride, O)."""
        return self.pointwise(self.depthwise(x, step), self.depthwise.step)

    @property
    def step(self) -> Array | None:
        """See `ConvNormAct.step`."""
        return self.pointwise.step


def name_layers(model: nnx.Module) -> None:
    """Give each convolution of `model` its path, such as `backbone.stages.1.0.expand`."""
    for path, module in nnx.iter_modules(model):
        if isinstance(module, Conv):
            module.path = ".".join(str(part) for part in path).removesuffix(".conv")


def check_image(image: Array | np.ndarray, channels: int) -> None:
    """Check the form of a network's input, (B, H, W, channels); at trace time, so it costs nothing.

    Compilers differ in what they make of other channels: on a CPU some multiply what there is.

    Raises:
        UserError: it is of another form, such as PyTorch's (B, channels, H, W).
    """
    shape = tuple(image.shape)
    if len(shape) == 4 and shape[3] == channels and 0 not in shape[1:3]:
        return
    remedy = f"give {channels} channels, last"
    if 0 in shape:
        remedy = "give one pixel or more"
    elif len(shape) == 3 and shape[2] == channels:
        remedy = "add the batch axis with image[None]"
    elif len(shape) == 4 and shape[1] == channels:
        remedy = "move the channels last with image.transpose(0, 2, 3, 1)"
    elif len(shape) == 3 and shape[0] == channels:
        remedy = "move the channels last with image.transpose(1, 2, 0)[None]"
    elif len(shape) == 4 and (shape[3], channels) == (4, 3):
        remedy = "leave the fourth channel out with image[..., :3]"
    elif len(shape) == 4 and shape[3] == 1:
        remedy = f"repeat the grey channel with image.repeat({channels}, -1)"
    raise UserError(f"The network takes images (B, H, W, {channels}), not {shape}; {remedy}.")


def check_normalized(image: Array, channels: int) -> None:
    """Check what a backbone is given: the form, as `check_image`, and that it is normalised.

    Raises:
        UserError: the image is of another form, or of whole numbers.
    """
    check_image(image, channels)
    if not jnp.issubdtype(image.dtype, jnp.floating):
        raise UserError(
            f"The network takes normalised images, not grey levels of type {image.dtype}; "
            "give it net.normalize(image)."
        )


def normalize(image: Array | np.ndarray, config: BackboneConfig) -> Array:
    """Map grey levels 0-255 (B, H, W, in_channels) to the convention's range, float32.

    Raises:
        UserError: the image is of another form.
    """
    check_image(image, config.in_channels)
    mean, std = (
        jnp.asarray(values, jnp.float32)[None, None, None]
        for values in (config.image_mean, config.image_std)
    )
    return (jnp.asarray(image, jnp.float32) - mean) / std


def image_range(config: BackboneConfig) -> tuple[float, float]:
    """Return the range that the int8 file rounds normalised images in.

    Half a grey level wider at both ends than they are: in the exact range of TensorFlow's
    convention every grey level lies halfway between two numbers, so that the last digit of a
    division decides.
    """
    pairs = list(zip(config.image_mean, config.image_std, strict=True))
    return (
        min((-0.5 - mean) / std for mean, std in pairs),
        max((255.5 - mean) / std for mean, std in pairs),
    )


def round_image(image: Array, config: BackboneConfig) -> tuple[Array, Array | None]:
    """Return a normalised image rounded to 256 values and their step, as it is without ranges."""
    if not config.quantized:
        return image, None
    low, high = (jnp.float32(end) for end in image_range(config))
    return fake_quantize(image, low, high), scale_and_zero_point(low, high)[0]


def resize(x: Array, size: Sequence[int], *, align_corners: bool) -> Array:
    """Resize (B, H, W, C) to (B, *size, C), `size` (H', W'), bilinearly, without antialiasing.

    With `align_corners` the corner pixels of input and output coincide (TensorFlow DeepLab);
    without, pixel centres are at half integers (PyTorch's default). Computed as two small matrix
    products: gathers, and their scatter in the backward pass, are slower on every device.
    """
    rows = interpolation(x.shape[1], size[0], align_corners, x.dtype)  # (H', H)
    columns = interpolation(x.shape[2], size[1], align_corners, x.dtype)  # (W', W)
    # Columns first, while the tensor is small; then rows, one product with W' * C columns for each
    # image. Without the batch axis XLA's CPU backend stores rows last in memory, and reading the
    # classes of a pixel then starts with a copy that takes longer than the product.
    # In full float32: GPUs and TPUs would round the weights to a few bits.
    x = jnp.einsum("pw,bhwc->bhpc", columns, x, precision="highest")
    batch, height, width, channels = x.shape
    rows = jnp.broadcast_to(rows, (batch, *rows.shape))
    x = jnp.matmul(rows, x.reshape(batch, height, width * channels), precision="highest")
    return x.reshape(batch, size[0], width, channels)


def interpolation(length: int, new_length: int, align_corners: bool, dtype: Any) -> Array:
    """Return the (new_length, length) matrix of linear interpolation weights."""
    at = sample_positions(lax.iota(jnp.float32, new_length), length, new_length, align_corners)
    distance = jnp.abs(at[:, None] - lax.iota(jnp.float32, length)[None, :])
    return jnp.maximum(0, 1 - distance).astype(dtype)


def sample_positions(new: Any, length: int, new_length: int, align_corners: bool) -> Any:
    """Return where positions `new` on an axis of `new_length` fall on one of `length`.

    Of JAX's arrays or NumPy's, in their own precision; lengths may be symbolic.
    """
    if align_corners:
        # A single output pixel takes the first input pixel, as TensorFlow does.
        return new * (length - 1) / max(new_length - 1, 1)
    return ((new + 0.5) * length / new_length - 0.5).clip(0, length - 1)
