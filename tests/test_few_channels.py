"""Convolution over all channels: the compiler's values and gradients, however it is computed."""

import jax.numpy as jnp
import pytest
from jax.test_util import check_grads

from deeplab_mnv2.models.ops.few_channels import FEW_CHANNELS, full_conv
from tests.support.convolutions import assert_close, example, reference_conv, value_and_gradients


@pytest.mark.parametrize("size", [(19, 9), (16, 6)])
@pytest.mark.parametrize("padding", ["same", "symmetric"])
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (1, 2)])
@pytest.mark.parametrize("channels", [1, 3, FEW_CHANNELS, FEW_CHANNELS + 1])
def test_equals_the_compilers_convolution(channels, stride, dilation, padding, size):
    settings = {"stride": stride, "dilation": dilation, "padding": padding}
    x, kernel = example((2, *size, channels)), example((3, 3, channels, 7))
    expected = value_and_gradients(reference_conv, x, kernel, **settings)
    for dtype in (jnp.float32, jnp.bfloat16):
        actual = value_and_gradients(full_conv, x.astype(dtype), kernel.astype(dtype), **settings)
        assert all(array.dtype == dtype for array in actual)
        if dtype == jnp.float32 or channels <= FEW_CHANNELS:
            # Beyond, bfloat16 is summed as the compiler likes.
            assert_close(actual[:1], expected[:1])
        if dtype == jnp.float32:
            assert_close(actual, expected)


def test_gradients_equal_finite_differences():
    x, kernel = example((1, 7, 6, 3)), example((3, 3, 3, 2))
    check_grads(lambda x, k: full_conv(x, k, stride=2), (x, kernel), order=1, modes=["rev"])
