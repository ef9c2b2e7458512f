"""TF-slim's variables by name; and, where TensorFlow is installed, its checkpoint files."""

import numpy as np
import pytest

from deeplab_mnv2 import weights
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.weights.tensorflow import from_model_garden, from_slim
from tests.random_weights import random_weights

PROVENANCE = {"source": "model.ckpt-30000", "sha256": "0"}


def slim_scope(layer: str) -> str:
    """Return TF-slim's scope of one of our layers."""
    heads = {
        "backbone.stem": "MobilenetV2/Conv",
        "head": "MobilenetV2/Conv_1",
        "aspp.image_pool": "image_pooling",
        "aspp.project": "concat_projection",
        "decoder.low_level": "decoder/feature_projection0",
    }
    if layer in heads:
        return heads[layer]
    parts = layer.split(".")
    if parts[0] == "backbone":
        number = sum((1, 2, 3, 4, 3, 3, 1)[: int(parts[2])]) + int(parts[3])
        suffix = f"_{number}" if number else ""
        return f"MobilenetV2/expanded_conv{suffix}/{parts[4]}"
    stem = "aspp" if parts[0] == "aspp" else "decoder/decoder_conv"
    return "_".join([stem + parts[2], *parts[3:]])


def slim_variables(given: weights.Weights) -> dict[str, np.ndarray]:
    fields = {"scale": "gamma", "bias": "beta", "mean": "moving_mean", "var": "moving_variance"}
    arrays = {"global_step": np.array(30000)}
    logits = "MobilenetV2/Logits/Conv2d_1c_1x1"
    if given.kind == "segmentation":
        logits = "logits/semantic"
    for name, array in given.tensors.items():
        if name.startswith("classifier."):
            slim = f"{logits}/{'weights' if name.endswith('kernel') else 'biases'}"
        elif name.endswith("conv.kernel"):
            depthwise = name.endswith("depthwise.conv.kernel")
            array = array.transpose(0, 1, 3, 2) if depthwise else array
            scope = slim_scope(name.removesuffix(".conv.kernel"))
            slim = f"{scope}/{'depthwise_weights' if depthwise else 'weights'}"
        else:
            layer, _, field = name.rpartition(".norm.")
            slim = f"{slim_scope(layer)}/BatchNorm/{fields[field]}"
        arrays[slim] = array
        arrays[f"{slim}/Momentum"] = np.zeros_like(array)
    return arrays


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("segmentation", {"width_multiplier": 0.5, "divisible_by": 1}),
        ("segmentation", {"atrous_rates": (6, 12, 18), "separable_aspp": True, "decoder": True}),
        ("segmentation", {"atrous_rates": (6, 12, 18)}),
        ("classification", {"output_stride": 32, "num_classes": 1001}),
    ],
    ids=["mobile", "separable and decoder", "plain", "classifier"],
)
def test_every_variable_finds_its_place(kind, settings):
    given = random_weights(kind, **settings)
    found = from_slim(slim_variables(given), PROVENANCE)
    assert (found.kind, found.config) == (given.kind, given.config)
    assert found.tensors.keys() == given.tensors.keys()
    for name, array in given.tensors.items():
        np.testing.assert_array_equal(found.tensors[name], array)


def test_moving_averages_are_preferred():
    given = random_weights("classification", output_stride=32)
    arrays = slim_variables(given)
    name = "MobilenetV2/Conv/weights"
    arrays[f"{name}/ExponentialMovingAverage"] = arrays[name] + 1
    found = from_slim(arrays, PROVENANCE)
    np.testing.assert_array_equal(found.tensors["backbone.stem.conv.kernel"], arrays[name] + 1)


def test_unknown_variable_is_named():
    arrays = slim_variables(random_weights())
    arrays["MobilenetV2/Conv/weights_quant/min"] = np.zeros(())
    with pytest.raises(UserError, match=r"another network: MobilenetV2/Conv/weights_quant/min"):
        from_slim(arrays, PROVENANCE)


def test_backbone_of_model_garden_finds_its_place():
    given = random_weights("backbone", output_stride=32)
    fields = {"scale": "gamma", "bias": "beta", "mean": "moving_mean", "var": "moving_variance"}
    arrays = {}
    for name, array in given.tensors.items():
        depthwise = name.endswith("depthwise.conv.kernel")
        number, layer = 0, 0
        if ".stages." in name:
            parts = name.split(".")
            number = 1 + sum((1, 2, 3, 4, 3, 3, 1)[: int(parts[2])]) + int(parts[3])
            layer = ("expand", "depthwise", "project").index(parts[4])
        prefix = f"backbone/layer_with_weights-{number}"
        if name.endswith("kernel"):
            array = array.transpose(0, 1, 3, 2) if depthwise else array
            key = f"{prefix}/_conv{layer}/{'depthwise_kernel' if depthwise else 'kernel'}"
        else:
            key = f"{prefix}/_norm{layer}/{fields[name.rpartition('.')[2]]}"
        arrays[f"{key}/.ATTRIBUTES/VARIABLE_VALUE"] = array
        arrays[f"{key}/.OPTIMIZER_SLOT/optimizer/momentum/.ATTRIBUTES/VARIABLE_VALUE"] = array
    arrays["decoder/aspp/kernel/.ATTRIBUTES/VARIABLE_VALUE"] = np.zeros(3)
    found = from_model_garden(arrays, PROVENANCE)
    assert found.kind == "backbone"
    assert found.config.image_mean == (123.675, 116.28, 103.53)
    assert found.tensors.keys() == given.tensors.keys()
    for name, array in given.tensors.items():
        np.testing.assert_array_equal(found.tensors[name], array)


def test_checkpoint_files_are_read_and_damage_is_noticed(tmp_path):
    tf = pytest.importorskip("tensorflow", reason="the extra `tensorflow` is not installed")
    given = random_weights("classification", output_stride=32, num_classes=1001)
    graph = tf.Graph()
    prefix = str(tmp_path / "model.ckpt")
    with graph.as_default(), tf.compat.v1.Session() as session:
        for name, array in slim_variables(given).items():
            tf.compat.v1.Variable(array, name=name)
        session.run(tf.compat.v1.global_variables_initializer())
        tf.compat.v1.train.Saver().save(session, prefix)
    found = weights.read(prefix)
    for name, array in given.tensors.items():
        np.testing.assert_array_equal(found.tensors[name], array)
    data = tmp_path / "model.ckpt.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:1000])
    with pytest.raises(UserError, match="damaged"):
        weights.read(f"{prefix}.index")
