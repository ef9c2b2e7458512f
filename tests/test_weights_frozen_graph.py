"""TensorFlow frozen graphs: networks come back exactly, others and damage end in one sentence."""

import dataclasses

import numpy as np
import pytest

from deeplab_mnv2 import weights
from deeplab_mnv2.data.classes import VOC_CLASSES
from deeplab_mnv2.errors import UserError
from tests.support.frozen_graphs import HOSTILE, FrozenGraph, field
from tests.support.random_weights import random_weights

TINY = {"width_multiplier": 0.35, "head_channels": 32}
NETWORKS = {
    "mobile": {"output_stride": 8, "width_multiplier": 0.5, "divisible_by": 1},
    "other settings": {
        "backbone_epsilon": 0.02,
        "head_epsilon": 0.01,
        "align_corners": False,
        "image_mean": (100.0, 100.0, 100.0),
        "image_std": (50.0, 50.0, 50.0),
        **TINY,
    },
    "separable": {"atrous_rates": (6, 12, 18), "separable_aspp": True, "num_classes": 5, **TINY},
    "plain, stride 8": {"atrous_rates": (6, 12), "output_stride": 8, **TINY},
    "stride 32": {"output_stride": 32, **TINY},
}


def write(path, graph: FrozenGraph) -> str:
    path.write_bytes(graph.encode())
    return str(path)


def frozen(given: weights.Weights, notation: str = "slim") -> FrozenGraph:
    graph = FrozenGraph(given, notation)
    mean, std = given.config.image_mean[0], given.config.image_std[0]
    if mean != 127.5:
        graph.const("mul/x", np.float32(1 / std))
        graph.const("sub_7/y", np.float32(mean / std))
    return graph


def assert_same(found: weights.Weights, given: weights.Weights) -> None:
    # What a graph says of its input went through float32.
    mean, std = found.config.image_mean, found.config.image_std
    np.testing.assert_allclose(mean, given.config.image_mean, rtol=1e-6)
    np.testing.assert_allclose(std, given.config.image_std, rtol=1e-6)
    config = dataclasses.replace(
        found.config, image_mean=given.config.image_mean, image_std=given.config.image_std
    )
    assert (found.kind, config) == (given.kind, given.config)
    assert found.tensors.keys() == given.tensors.keys()
    for name, array in given.tensors.items():
        np.testing.assert_array_equal(found.tensors[name], array, err_msg=name)


@pytest.mark.parametrize("notation", ["slim", "dilations"])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_tensor_and_setting_comes_back(tmp_path, name, notation):
    given = random_weights(**NETWORKS[name])
    found = weights.read(write(tmp_path / "frozen.pb", frozen(given, notation)))
    assert_same(found, given)
    assert found.provenance["importer"] == "frozen_graph"
    assert "norm" not in found.provenance


def test_a_classifier_comes_back(tmp_path):
    given = random_weights("classification", output_stride=32, num_classes=1001, **TINY)
    assert_same(weights.read(write(tmp_path / "frozen.pb", frozen(given))), given)


def test_folded_norms_compute_the_same(tmp_path):
    given = random_weights(**TINY)
    found = weights.read(write(tmp_path / "frozen.pb", frozen(given, "folded")))
    assert found.provenance["norm"] == "folded"
    assert found.config == given.config
    for layer in ("backbone.stages.3.1.depthwise", "aspp.project"):
        slopes, offsets = [], []
        for source in (given, found):
            kernel, scale, bias, mean, var = (
                source.tensors[f"{layer}.{name}"].astype(np.float64)
                for name in ("conv.kernel", "norm.scale", "norm.bias", "norm.mean", "norm.var")
            )
            slope = scale / np.sqrt(var + (1e-5 if layer.startswith("aspp") else 1e-3))
            slopes.append(kernel * slope)
            offsets.append(bias - mean * slope)
        np.testing.assert_allclose(*slopes, rtol=1e-5)
        np.testing.assert_allclose(*offsets, rtol=1e-5, atol=1e-6)


def test_order_of_nodes_and_of_branches_does_not_matter(tmp_path):
    given = random_weights(**TINY)
    graph = frozen(given)
    graph.nodes["concat"][1][:2] = reversed(graph.nodes["concat"][1][:2])
    kernel = graph.nodes["concat_projection/weights"][2]
    kernel["value"] = np.concatenate(np.split(kernel["value"], 2, axis=2)[::-1], axis=2)
    graph.nodes = dict(reversed(graph.nodes.items()))
    assert_same(weights.read(write(tmp_path / "frozen.pb", graph)), given)


def test_padding_of_pytorch_is_told_from_tensorflows(tmp_path):
    given = random_weights(padding="symmetric", **TINY)
    graph = frozen(given)
    pads = graph.const("pads", np.array([[0, 0], [1, 1], [1, 1], [0, 0]], np.int32))
    for name, (op, inputs, settings) in list(graph.nodes.items()):
        if "onv2" in op and settings["strides"] == (1, 2, 2, 1):
            inputs[0] = graph.node(f"{name}/Pad", "Pad", [inputs[0], pads])
            settings["padding"] = "VALID"
    assert_same(weights.read(write(tmp_path / "frozen.pb", graph)), given)


def test_padding_that_is_computed_follows_the_block(tmp_path):
    given = random_weights(output_stride=8, **TINY)
    graph = frozen(given)
    for name, node in graph.nodes.items():
        if name.endswith("/paddings"):
            graph.nodes[name] = ["ConcatV2", ["mul/x", "mul/x", "dim"], {}]
            assert node[0] == "Const"
    assert_same(weights.read(write(tmp_path / "frozen.pb", graph)), given)


def test_a_bias_before_a_norm_is_taken_off_its_mean(tmp_path):
    given = random_weights(**TINY)
    graph = frozen(given)
    norm = next(node for node in graph.nodes.values() if node[1][:1] == ["MobilenetV2/Conv/Conv2D"])
    mean = given.tensors["backbone.stem.norm.mean"]
    bias = np.arange(len(mean), dtype=np.float32)
    norm[1][0] = graph.node("BiasAdd", "BiasAdd", [norm[1][0], graph.const("bias", bias)])
    given.tensors["backbone.stem.norm.mean"] = mean - bias
    assert_same(weights.read(write(tmp_path / "frozen.pb", graph)), given)


def test_images_may_be_scaled_after_they_are_normalised(tmp_path):
    given = random_weights(**TINY)
    graph = frozen(given)
    graph.const("mul/x", np.float32(1 / 255))
    graph.const("sub_7/y", np.float32(0.5))
    size = graph.const("size", np.array([65, 65], np.int32))
    graph.nodes["MobilenetV2/input"][1] = [
        graph.node("Resize", "ResizeBilinear", ["sub_7", size], align_corners=True)
    ]
    config = weights.read(write(tmp_path / "frozen.pb", graph)).config
    np.testing.assert_allclose(config.image_mean, 127.5)
    np.testing.assert_allclose(config.image_std, 255)


def of_block(number: int, part: str) -> str:
    return f"MobilenetV2/expanded_conv_{number}/{part}"


def stride(graph):
    graph.nodes[of_block(3, "depthwise/depthwise")][2]["strides"] = (1, 1, 1, 1)


def dilation_of_model_garden(graph):
    # There, the block that loses its stride is dilated at once.
    graph.nodes[of_block(13, "depthwise/depthwise")][2]["dilations"] = (1, 2, 2, 1)


def oblong_stride(graph):
    graph.nodes["MobilenetV2/Conv/Conv2D"][2]["strides"] = (1, 2, 1, 1)


def epsilon_of_one(graph):
    graph.nodes[of_block(3, "project/BatchNorm/FusedBatchNorm")][2]["epsilon"] = 1e-5


def training(graph):
    graph.nodes[of_block(3, "project/BatchNorm/FusedBatchNorm")][2]["is_training"] = True


def activation(graph):
    graph.nodes["MobilenetV2/Conv/Relu6"][0] = "Relu"


def activation_of_the_head(graph):
    graph.nodes["concat_projection/Relu"][0] = "Relu6"


def no_shortcut(graph):
    graph.nodes[of_block(2, "output")][1] = [of_block(2, "project/Identity")]
    del graph.nodes[of_block(2, "add")]


def pooled_window(graph):
    graph.nodes["AvgPool2D/AvgPool"][2]["ksize"] = (1, 17, 17, 1)


def legacy_resize(graph):
    graph.nodes["ResizeBilinear_1"][2]["align_corners"] = False


def two_resizes(graph):
    graph.resize("second", "ResizeBilinear_1", graph.side)
    graph.nodes["second"][2] |= {"align_corners": False, "half_pixel_centers": True}


def padding(graph):
    graph.nodes["MobilenetV2/Conv/Conv2D"][2]["padding"] = "VALID"


def channels_first(graph):
    graph.nodes["MobilenetV2/Conv/Conv2D"][2]["data_format"] = "NCHW"


def channels_normalised_apart(graph):
    graph.const("sub_7/y", np.array([1, 2, 3], np.float32))


def one_more_layer(graph):
    graph.conv("extra", "aspp.project", "concat", "Relu")


def computed_kernel(graph):
    graph.nodes["aspp0/weights"] = ["Dequantize", ["mul/x"], {}]


def missing_norm(graph):
    name = "MobilenetV2/Conv/BatchNorm/gamma"
    graph.const(name, graph.nodes[name][2]["value"][:5])


def no_network(graph):
    graph.nodes = {"ImageTensor": graph.nodes["ImageTensor"]}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (stride, "2.0.depthwise has stride 1 and dilation 1, not 2 and 1"),
        (dilation_of_model_garden, "5.0.depthwise has stride 1 and dilation 2, not 1 and 1"),
        (oblong_stride, r"MobilenetV2/Conv/Conv2D is not square"),
        (epsilon_of_one, "the norms of its backbone have different epsilons"),
        (training, "FusedBatchNorm is no norm of inference"),
        (activation, "0 layers that could be backbone.stem"),
        (activation_of_the_head, "0 layers that could be aspp.project"),
        (no_shortcut, "shortcuts are not all of one kind"),
        (pooled_window, r"it pools over \[17, 17\] pixels"),
        (legacy_resize, "TensorFlow 1's rule"),
        (two_resizes, "resizes by different rules"),
        (padding, "padded by different rules"),
        (channels_first, "channels first"),
        (channels_normalised_apart, "normalises the channels of its image differently"),
        (one_more_layer, "2 layers that could be aspp.project"),
        (computed_kernel, "aspp0/weights/read is computed"),
        (missing_norm, r"backbone\.stem\.norm\.scale is \(5,\), not \(16,\)"),
        (no_network, "its image is read by 0 convolutions"),
    ],
)
def test_another_network_is_refused_with_what_differs(tmp_path, change, words):
    graph = frozen(random_weights(**TINY))
    change(graph)
    with pytest.raises(UserError, match=rf"frozen\.pb .*({words}).*\.$"):
        weights.read(write(tmp_path / "frozen.pb", graph))


def test_a_saved_model_is_named_as_such(tmp_path):
    path = tmp_path / "saved_model.pb"
    path.write_bytes(field(1, 1) + field(2, b""))
    with pytest.raises(UserError, match="is a SavedModel, not a frozen graph; freeze it"):
        weights.read(str(path))


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_end_in_one_sentence(tmp_path, name):
    path = tmp_path / "hostile.pb"
    path.write_bytes(HOSTILE[name])
    with pytest.raises(UserError, match=r"hostile\.pb (is a damaged|holds another)[^\n]*\.$"):
        weights.read(str(path))


@pytest.mark.parametrize("share", [0.01, 0.3, 0.9, 0.999])
def test_files_that_are_cut_off_are_refused(tmp_path, share):
    data = frozen(random_weights(**TINY)).encode()
    path = tmp_path / "cut.pb"
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(UserError, match=r"cut\.pb"):
        weights.read(str(path))


def test_google_published_this_network(shared):
    found = weights.read(str(shared / "weights/deeplabv3_mnv2_dm05_float_frozen.pb"))
    config = found.config
    assert (found.kind, found.class_names) == ("segmentation", VOC_CLASSES)
    assert (config.width_multiplier, config.divisible_by, config.output_stride) == (0.5, 1, 8)
    assert (config.backbone_epsilon, config.head_epsilon) == (1e-3, 1e-5)
    assert (config.image_mean, config.image_std) == ((127.5,) * 3, (127.5,) * 3)
    assert (config.padding, config.align_corners, config.atrous_rates) == ("same", True, ())
    trained = [a for n, a in found.tensors.items() if not n.endswith(("mean", "var"))]
    assert sum(array.size for array in trained) == 697_013
    assert found.tensors["backbone.stem.norm.var"].std() > 0
