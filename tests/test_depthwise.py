"""Depthwise convolution: the grouped convolution's values and gradients, in every setting."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array, lax
from jax.test_util import check_grads

from deeplab_mnv2.models.ops.depthwise import depthwise_conv
from tests.support.convolutions import assert_close, example, reference_conv, value_and_gradients

# Rows that do and do not divide into the chunks of the kernel's gradient.
SIZES = ((19, 9), (16, 6))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("padding", ["same", "symmetric"])
@pytest.mark.parametrize("dilation", [1, 2, 4])
@pytest.mark.parametrize("stride", [1, 2])
def test_equals_reference_convolution(stride, dilation, padding, size):
    settings = {"stride": stride, "dilation": dilation, "padding": padding}
    x, kernel = example((2, *size, 5)), example((3, 3, 1, 5))
    expected = value_and_gradients(reference_conv, x, kernel, **settings)
    for dtype in (jnp.float32, jnp.bfloat16):
        actual = value_and_gradients(
            depthwise_conv, x.astype(dtype), kernel.astype(dtype), **settings
        )
        assert all(array.dtype == dtype for array in actual)
        assert_close(actual, expected)


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
@pytest.mark.parametrize("padding", ["same", "symmetric"])
@pytest.mark.parametrize("stride", [1, 2])
def test_other_devices_branch_equals_reference_convolution(stride, padding, platform, monkeypatch):
    def choose(*operands: Array, default: Callable, **forms: Callable):
        return forms.get(platform, default)(*operands)

    monkeypatch.setattr(lax, "platform_dependent", choose)
    settings = {"stride": stride, "dilation": 2, "padding": padding}
    x, kernel = example((2, 10, 7, 5)), example((3, 3, 1, 5))
    # Inside depthwise_conv's own jit, whose cache would not notice the change of platform.
    actual = value_and_gradients(depthwise_conv.__wrapped__, x, kernel, **settings)
    assert_close(actual, value_and_gradients(reference_conv, x, kernel, **settings))


@pytest.mark.parametrize("taps", [(1, 1), (5, 3), (2, 4)])
def test_kernels_of_other_sizes(taps):
    settings = {"stride": 2, "dilation": 1, "padding": "same"}
    x, kernel = example((2, 9, 8, 3)), example((*taps, 1, 3))
    actual = value_and_gradients(depthwise_conv, x, kernel, **settings)
    assert_close(actual, value_and_gradients(reference_conv, x, kernel, **settings))


@pytest.mark.parametrize(
    ("stride", "dilation", "padding"), [(1, 2, "same"), (2, 1, "same"), (2, 1, "symmetric")]
)
def test_gradients_equal_finite_differences(stride, dilation, padding):
    def convolve(x: Array, kernel: Array) -> Array:
        # Not linear in the output, so that an output's gradient is a number of its own.
        y = depthwise_conv(x, kernel, stride=stride, dilation=dilation, padding=padding)
        return jnp.sum(y**2)

    check_grads(convolve, (example((1, 9, 6, 2)), example((3, 3, 1, 2))), 1, ["rev"], rtol=2e-2)


def test_symmetric_stride_samples_the_dense_output():
    x, kernel = example((2, 13, 10, 4)), example((3, 3, 1, 4))
    dense = depthwise_conv(x, kernel, padding="symmetric")
    strided = depthwise_conv(x, kernel, stride=2, padding="symmetric")
    np.testing.assert_allclose(strided, dense[:, ::2, ::2], atol=1e-6)


def test_vmap_over_inputs_and_kernels():
    x, kernel = example((3, 2, 9, 8, 4)), example((3, 3, 3, 1, 4))

    def gradients(x: Array, kernel: Array) -> list[Array]:
        return value_and_gradients(depthwise_conv, x, kernel, stride=2)

    together = jax.vmap(gradients)(x, kernel)
    one_by_one = [gradients(x[i], kernel[i]) for i in range(3)]
    assert_close(together, [jnp.stack(arrays) for arrays in zip(*one_by_one, strict=True)])
    shared = jax.vmap(gradients, in_axes=(0, None))(x, kernel[0])
    np.testing.assert_allclose(shared[0][0], together[0][0], rtol=1e-5, atol=1e-5)


def test_checkpoint_keeps_the_gradients():
    x, kernel = example((2, 9, 8, 4)), example((3, 3, 1, 4))

    def twice(x: Array, kernel: Array) -> Array:
        return depthwise_conv(jnp.tanh(depthwise_conv(x, kernel, dilation=2)), kernel, stride=2)

    assert_close(
        value_and_gradients(jax.checkpoint(twice), x, kernel),
        value_and_gradients(twice, x, kernel),
    )


@pytest.mark.parametrize("axis", [0, 1])
def test_sharded_input(axis):
    devices = min(4, jax.device_count())
    if devices < 2:
        pytest.skip("sharding needs two devices")
    mesh = jax.make_mesh((devices,), ("parts",), axis_types=(jax.sharding.AxisType.Auto,))
    x, kernel = example((4, 16, 8, 4)), example((3, 3, 1, 4))

    @jax.jit
    def run(x: Array, kernel: Array) -> list[Array]:
        y, pull_back = jax.vjp(lambda x, k: depthwise_conv(x, k, stride=2), x, kernel)
        return [y, *pull_back(jnp.cos(y))]

    parts = jax.NamedSharding(mesh, jax.P(*(None,) * axis, "parts"))
    whole = jax.NamedSharding(mesh, jax.P())
    actual = run(jax.device_put(x, parts), jax.device_put(kernel, whole))
    assert all(array.sharding.is_equivalent_to(parts, 4) for array in actual[:2])
    assert_close(actual, run(x, kernel))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("padding", ["same", "symmetric"])
def test_export_with_symbolic_sizes(stride, padding):
    x = jax.ShapeDtypeStruct(jax.export.symbolic_shape("b, h, w, 4"), jnp.float32)
    kernel = example((3, 3, 1, 4))

    @jax.jit
    def convolve(x: Array) -> Array:
        return depthwise_conv(x, kernel, stride=stride, dilation=2, padding=padding)

    exported = jax.export.export(convolve, platforms=("cpu", "cuda", "tpu"))(x)
    loaded = jax.export.deserialize(exported.serialize())
    for shape in ((2, 19, 10, 4), (1, 8, 5, 4)):
        x = example(shape)
        np.testing.assert_allclose(loaded.call(x), convolve(x), rtol=1e-5, atol=1e-5)


def test_jaxpr_shows_one_named_call():
    x, kernel = example((1, 9, 8, 4)), example((3, 3, 1, 4))

    def layer(x: Array, kernel: Array) -> Array:
        return jnp.tanh(depthwise_conv(x + 1, kernel, stride=2))

    program = jax.make_jaxpr(layer)(x, kernel)
    (call,) = (e for e in program.eqns if e.params.get("name") == "depthwise_conv")
    assert [variable.aval.shape for variable in call.invars] == [x.shape, kernel.shape]
    assert [variable.aval.shape for variable in call.outvars] == [(1, 5, 4, 4)]


def test_refuses_what_does_not_fit():
    x = example((1, 9, 8, 4))
    with pytest.raises(ValueError, match=r"\(kh, kw, 1, 4\)"):
        depthwise_conv(x, example((3, 3, 1, 1)))
    with pytest.raises(ValueError, match="symmetric"):
        depthwise_conv(x, example((3, 3, 1, 4)), padding="valid")
