"""keras.applications.MobileNetV2 against the real library, in every format it writes."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deeplab_mnv2 import weights
from deeplab_mnv2.errors import UserError
from tests.support.networks import apply
from tests.support.random_weights import random_weights, relative_error

h5py = pytest.importorskip("h5py", reason="the extra `keras` is not installed")

# Keras's variables lack NumPy 2's `copy` argument.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

CASES = [
    pytest.param(0.35, 96, 0, id="0.35"),
    pytest.param(1.4, 96, 0, id="1.4"),
    *(
        pytest.param(alpha, size, seed, marks=pytest.mark.slow)
        for alpha in (0.35, 1.0, 1.4)
        for size in (96, 224)
        for seed in (0, 1)
    ),
]


@pytest.fixture(scope="module")
def keras():
    os.environ["KERAS_BACKEND"] = "jax"
    module = pytest.importorskip("keras", reason="the extra `parity` is not installed")
    # Keras promotes ranks in silence, which the other tests forbid.
    with jax.numpy_rank_promotion("allow"):
        yield module


def randomized(keras, seed: int = 0, **settings):
    """Return Keras's network filled with seeded values, norm statistics included."""
    model = keras.applications.MobileNetV2(weights=None, classifier_activation=None, **settings)
    random = np.random.default_rng(seed)
    values = []
    for variable in model.weights:
        shape = variable.shape
        if len(shape) > 1:
            # The third axis counts the inputs, of which a depthwise kernel sums none.
            inputs = np.prod(shape[:2]) if "depthwise" in variable.path else np.prod(shape[:-1])
            values.append(random.normal(0, np.sqrt(2 / inputs), shape))
        elif variable.name in ("gamma", "moving_variance"):
            values.append(random.uniform(0.5, 1.5, shape))
        else:
            values.append(random.uniform(-0.5, 0.5, shape))
    model.set_weights(values)
    return model


@pytest.mark.parametrize(("alpha", "size", "seed"), CASES)
def test_logits_equal_keras(keras, tmp_path, alpha, size, seed):
    peer = randomized(keras, seed, alpha=alpha, input_shape=(size, size, 3))
    path = str(tmp_path / "model.weights.h5")
    peer.save_weights(path)
    x = np.random.default_rng(0).uniform(-1, 1, (2, size, size, 3)).astype(np.float32)
    wanted = peer.predict(x, verbose=0)
    model = weights.load_classifier(path)
    assert model.config.width_multiplier == alpha
    assert relative_error(apply(model, jnp.asarray(x)), wanted) < 1e-4


@pytest.mark.parametrize("alpha", [0.5, 0.75, 1.0, 1.3])
def test_every_published_width_is_recognised(keras, tmp_path, alpha):
    model = keras.applications.MobileNetV2(
        weights=None, alpha=alpha, input_shape=(96, 96, 3), include_top=False
    )
    path = str(tmp_path / "model.weights.h5")
    model.save_weights(path)
    found = weights.read(path)
    assert found.kind == "backbone"
    assert (found.config.width_multiplier, found.config.divisible_by) == (alpha, 8)


def test_every_format_holds_the_same(keras, tmp_path):
    peer = randomized(keras, alpha=0.35, input_shape=(96, 96, 3), classes=7)
    paths = [str(tmp_path / f"model.{suffix}") for suffix in ("weights.h5", "keras", "h5")]
    peer.save_weights(paths[0])
    peer.save(paths[1])
    peer.save(paths[2])
    first, *others = (weights.read(path) for path in paths)
    assert first.config.num_classes == 7
    for other in others:
        assert other.config == first.config
        for name, array in first.tensors.items():
            np.testing.assert_array_equal(other.tensors[name], array)


def write_h5(path, layout: str) -> weights.Weights:
    """Write a random network as older versions of Keras did; return it."""
    given = random_weights("classification", output_stride=32, num_classes=10)
    layers = keras_layers()
    with h5py.File(path, "w") as file:
        for number, (conv, norm, ours) in enumerate(layers):
            kernel = given.tensors[f"{ours}.conv.kernel"]
            depthwise = ours.endswith("depthwise")
            stored = {
                "kernel": kernel.transpose(0, 1, 3, 2) if depthwise else kernel,
                **{
                    theirs: given.tensors[f"{ours}.norm.{field}"]
                    for theirs, field in (
                        ("gamma", "scale"),
                        ("beta", "bias"),
                        ("moving_mean", "mean"),
                        ("moving_variance", "var"),
                    )
                },
            }
            same_kind = [c for c, _, _ in layers[:number] if c.endswith("depthwise") == depthwise]
            for index, (name, array) in enumerate(stored.items()):
                if layout == "keras 2":
                    layer = norm if index else conv
                    variable = "depthwise_kernel" if depthwise and not index else name
                    file[f"{layer}/{layer}/{variable}:0"] = array
                elif index:
                    file[f"{ROOT}{numbered('batch_normalization', number)}/vars/{index - 1}"] = (
                        array
                    )
                else:
                    kind = "depthwise_conv2d" if depthwise else "conv2d"
                    file[f"{ROOT}{numbered(kind, len(same_kind))}/vars/0"] = array
        kernel, bias = given.tensors["classifier.kernel"][0, 0], given.tensors["classifier.bias"]
        if layout == "keras 2":
            file["predictions/predictions/kernel:0"] = kernel
            file["predictions/predictions/bias:0"] = bias
        else:
            file[f"{ROOT}dense/vars/0"], file[f"{ROOT}dense/vars/1"] = kernel, bias
            file["optimizer/vars/0"] = np.zeros(3, np.float32)
    return given


ROOT = "_layer_checkpoint_dependencies/"


def numbered(kind: str, number: int) -> str:
    return f"{kind}_{number}" if number else kind


def keras_layers() -> list[tuple[str, str, str]]:
    """Return (convolution, norm, our layer) in the order in which Keras makes them."""
    layers = [("Conv1", "bn_Conv1", "backbone.stem")]
    number = 0
    for stage, repeats in enumerate((1, 2, 3, 4, 3, 3, 1)):
        for block in range(repeats):
            prefix = f"block_{number}" if number else "expanded_conv"
            for part in ("expand", "depthwise", "project")[0 if number else 1 :]:
                name = f"{prefix}_{part}"
                layers.append((name, f"{name}_BN", f"backbone.stages.{stage}.{block}.{part}"))
            number += 1
    return [*layers, ("Conv_1", "Conv_1_bn", "head")]


@pytest.mark.parametrize("layout", ["keras 2", "keras 2.12 weights"])
def test_older_layouts_are_read(tmp_path, layout):
    path = tmp_path / "model.h5"
    given = write_h5(path, layout)
    found = weights.read(str(path))
    assert found.config.num_classes == 10
    assert found.tensors.keys() == given.tensors.keys()
    for name, array in given.tensors.items():
        np.testing.assert_array_equal(found.tensors[name], array)


def test_damaged_and_foreign_files_end_in_one_sentence(tmp_path):
    path = tmp_path / "model.h5"
    write_h5(path, "keras 2")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match=r"model\.h5 is damaged"):
        weights.read(str(path))
    for name in ("garbage.h5", "garbage.keras"):
        (tmp_path / name).write_bytes(b"garbage")
        with pytest.raises(UserError, match="is damaged"):
            weights.read(str(tmp_path / name))
    with h5py.File(path, "w") as file:
        file["conv1_conv/conv1_conv/kernel:0"] = np.zeros((7, 7, 3, 64), np.float32)
    with pytest.raises(UserError, match=r"another network: conv1_conv/kernel"):
        weights.read(str(path))
