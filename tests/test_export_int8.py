"""Files of 8 bits compute what the rounded network does."""

import jax
import numpy as np
import pytest

from deeplab_mnv2 import weights
from deeplab_mnv2.data.classes import VOC_CLASSES
from deeplab_mnv2.export import export
from deeplab_mnv2.exporting.graph import Convolution, evaluate
from deeplab_mnv2.exporting.post_training import quantize
from deeplab_mnv2.exporting.target import Target
from deeplab_mnv2.exporting.tracing import trace
from tests.support.exported_networks import NETWORKS, SIZE, images_for, source_of
from tests.support.networks import apply


def test_int8_agrees_and_is_a_third(shared, tmp_path):
    pytest.importorskip("litert_quantizer")
    source = weights.read(str(shared / "weights" / "deeplabv3_mnv2_dm05_pascal_quant.tflite"))
    target = Target(class_names=VOC_CLASSES, size=(129, 129), precision="int8")
    folder = shared / "voc2012" / "JPEGImages"
    assert export(source, "litert", tmp_path / "file", target, folder).share > 0.95
    floats = 4 * sum(array.size for array in source.tensors.values())
    assert (tmp_path / "file").stat().st_size < floats / 3


def test_a_rounded_network_has_no_score_of_the_one_it_was_made_of(shared, tmp_path):
    source = weights.read(str(weights.PACKAGED))
    assert source.scores
    target = Target(source.class_names, size=(129, 129), precision="int8")
    file = tmp_path / "file.safetensors"
    export(source, "safetensors", file, target, shared / "voc2012" / "JPEGImages")
    assert weights.read(str(file)).scores is None


# Without the windows of `aspp`, which no rounded network has, nor the shortcut of `decoder`: where
# a sum of two has twice the step of each, half of the sums are ties.
_ROUNDED = {
    "mobile": {},
    "symmetric": NETWORKS["symmetric"],
    "aspp": {"atrous_rates": (1, 2), "linear_bottleneck": False},
    "decoder": {**NETWORKS["decoder"], "shortcut": "bottleneck"},
}


@pytest.mark.parametrize("name", _ROUNDED)
def test_integers_compute_what_the_rounded_network_does(name):
    """Each operation to the last digit, but for ties of sums and resizing; they add up."""
    network = weights.build(source_of(**_ROUNDED[name]))
    images = images_for(3, network)
    model = quantize(network, [network.normalize(image) for image in images])
    expected = np.concatenate([apply(model, model.normalize(image)) for image in images])
    floats = np.concatenate([apply(network, model.normalize(image)) for image in images])
    within = model.logits_range
    step = float(within.high[...] - within.low[...]) / 255
    target = Target(class_names=("a", "b", "c", "d", "é"), size=SIZE, precision="int8")
    for kind in ("onnx", "litert"):
        runtime = pytest.importorskip(f"deeplab_mnv2.exporting.{kind}")
        run = runtime.load(runtime.build(model, target), model)
        found = np.concatenate([run(image)[0] for image in images])
        distance = np.abs(found - expected).mean() / step
        assert distance < 1.5
        # Far nearer than what rounding changes.
        assert distance < 0.25 * np.abs(floats - expected).mean() / step


def test_corrected_biases_keep_the_mean_of_a_rounded_layer():
    model = weights.build(source_of())
    images = [model.normalize(image) for image in images_for(4, model)]
    graph = trace(model, SIZE, upsample=False)
    corrected = trace(quantize(model, images), SIZE, upsample=False)
    image = np.concatenate(images)
    inputs = jax.jit(lambda x: evaluate(graph, x))(image)
    layers = zip(graph.operations, corrected.operations, strict=True)
    found = []
    for before, after in layers:
        if isinstance(before, Convolution) and before.kernel.shape[:2] == (1, 1):
            x = np.asarray(inputs[before.input])
            scale = np.abs(before.kernel).max(axis=(0, 1, 2)) / 127
            rounded = (np.round(before.kernel / scale) * scale)[0, 0]
            exact = np.mean(x @ before.kernel[0, 0] + before.bias, axis=(0, 1, 2))
            plain = np.mean(x @ rounded + before.bias, axis=(0, 1, 2))
            mended = np.mean(x @ rounded + after.bias, axis=(0, 1, 2))
            found.append((np.abs(plain - exact).mean(), np.abs(mended - exact).mean()))
    plain, mended = np.array(found).T
    assert (mended < 0.01 * plain + 1e-5).all()
