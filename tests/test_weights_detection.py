"""Detectors as weights: from TensorFlow's graphs, to our file and back, onto other classes."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from flax import nnx
from PIL import Image

from deeplab_mnv2 import weights
from deeplab_mnv2.config import OptimizerConfig, TrainConfig, to_dict
from deeplab_mnv2.data.classes import COCO_CLASSES
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.models.ssdlite import SSDLite
from deeplab_mnv2.tasks.detection.transforms import resize_legacy
from deeplab_mnv2.training.checkpoint import Checkpoints
from deeplab_mnv2.training.optimizer import make_optimizer
from deeplab_mnv2.training.state import create_state
from deeplab_mnv2.weights.model_weights import abstract_model, variables, weights_digest
from deeplab_mnv2.weights.naming import read_kind
from tests.support.frozen_graphs import FrozenGraph
from tests.support.networks import apply
from tests.support.random_weights import random_weights

PUBLISHED = "weights/ssdlite_mobilenet_v2_person_frozen.pb"
TINY = {"width_multiplier": 0.35, "num_classes": 3}
NETWORKS = {
    "one class": {**TINY, "num_classes": 1},
    # As many class slots as box codes: names alone tell the heads apart.
    "as wide": {**TINY, "image_size": 320},
    "other settings": {**TINY, "backbone_epsilon": 0.02, "head_epsilon": 0.01},
    "wider": {"width_multiplier": 0.5, "num_classes": 2, "divisible_by": 1},
}


def assert_same(found: weights.Weights, given: weights.Weights) -> None:
    assert (found.kind, found.config) == ("detection", given.config)
    assert found.tensors.keys() == given.tensors.keys()
    for name, array in given.tensors.items():
        np.testing.assert_array_equal(found.tensors[name], array, err_msg=name)


def write(path, graph: FrozenGraph) -> str:
    path.write_bytes(graph.encode())
    return str(path)


@pytest.mark.parametrize("notation", ["slim", "dilations"])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_tensor_and_setting_comes_back_from_a_graph(tmp_path, name, notation):
    given = random_weights("detection", **NETWORKS[name])
    found = weights.read(write(tmp_path / "frozen.pb", FrozenGraph(given, notation)))
    assert_same(found, given)
    assert found.class_names == tuple(f"class {i}" for i in range(given.config.num_classes))
    assert read_kind(found.tensors) == "detection"


def test_a_graph_that_says_nothing_of_its_size_has_the_published_one(tmp_path):
    given = random_weights("detection", **TINY, image_size=320)
    graph = FrozenGraph(given)
    graph.nodes["mul"][1][1] = "ExpandDims"
    del graph.nodes["ResizeImage"]
    assert weights.read(write(tmp_path / "frozen.pb", graph)).config.image_size == 300


def oblong_image(graph):
    graph.const("size", np.array([300, 400], np.int32))


def plain_extras(graph):
    graph.nodes["layer_19_2_Conv2d_3_3x3_s2_depthwise/Relu6"][0] = "Relu"


def unknown_heads(graph):
    graph.logits("BoxPredictor_0/MaskPredictor", graph.detected, "class_heads.0.predict")


def head_with_norm(graph):
    scope = "BoxPredictor_1/ClassPredictor"
    norm = graph.conv(scope + "_more", "class_heads.1.depthwise", graph.detected, "")
    (inputs,) = [n[1] for n in graph.nodes.values() if norm and n[0] == "FusedBatchNorm"][-1:]
    graph.nodes[f"{scope}/BiasAdd"][0] = "FusedBatchNorm"
    graph.nodes[f"{scope}/BiasAdd"][1] = [f"{scope}/Conv2D", *inputs[1:]]
    graph.nodes[f"{scope}/BiasAdd"][2] = {"is_training": False, "epsilon": 1e-3}
    del graph.nodes[f"{scope}_more/Identity"]
    del graph.nodes[f"{scope}_more/depthwise"]


def no_classes(graph):
    for number in range(6):
        for name in ("weights", "biases"):
            value = graph.nodes[f"BoxPredictor_{number}/ClassPredictor/{name}"][2]
            value["value"] = value["value"][..., : (3 if number == 0 else 6)]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (oblong_image, "300 x 400 pixels"),
        (plain_extras, "0 layers that could be extras.1.depthwise"),
        (unknown_heads, "1 of its convolutions are left over"),
        (head_with_norm, "its logits have a norm"),
        (no_classes, "it tells no classes apart"),
    ],
)
def test_other_detectors_are_refused_with_what_differs(tmp_path, change, words):
    graph = FrozenGraph(random_weights("detection", **TINY))
    change(graph)
    with pytest.raises(UserError, match=rf"frozen\.pb .*({words}).*\.$"):
        weights.read(write(tmp_path / "frozen.pb", graph))


@pytest.mark.parametrize("share", [0.3, 0.9, 0.999])
def test_graphs_that_are_cut_off_are_refused(tmp_path, share):
    data = FrozenGraph(random_weights("detection", **TINY)).encode()
    path = tmp_path / "cut.pb"
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(UserError, match=r"cut\.pb"):
        weights.read(str(path))


def test_our_file_gives_everything_back(tmp_path):
    given = random_weights("detection", **TINY, separable=False)
    given.class_names = ("cat", "dog", "bird")
    weights.save(tmp_path / "detector.safetensors", given)
    found = weights.read(str(tmp_path / "detector.safetensors"))
    assert_same(found, given)
    assert found.class_names == given.class_names


@pytest.mark.parametrize(
    ("classes", "names"), [(1, ["class 0"]), (80, COCO_CLASSES), (81, ["class 0", "class 1"])]
)
def test_classes_of_cocos_number_have_cocos_names(tmp_path, classes, names):
    given = random_weights("detection", width_multiplier=0.35, num_classes=classes)
    weights.save(tmp_path / "detector.safetensors", given)
    found = weights.read(str(tmp_path / "detector.safetensors"))
    assert list(found.class_names[: len(names)]) == list(names)


def test_tensorflows_ninety_slots_keep_cocos_numbers(tmp_path):
    given = random_weights("detection", width_multiplier=0.35, num_classes=90)
    weights.save(tmp_path / "detector.safetensors", given)
    names = weights.read(str(tmp_path / "detector.safetensors")).class_names
    assert (names[0], names[11], names[12], names[89]) == (
        "person",
        "class 11",
        "stop sign",
        "toothbrush",
    )
    assert [name for name in names if not name.startswith("class ")] == list(COCO_CLASSES)


def zeros(config) -> SSDLite:
    model = abstract_model(config)
    nnx.update(model, jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), nnx.state(model)))
    return model


def test_another_number_of_classes_leaves_the_class_logits_alone():
    given = random_weights("detection", **TINY)
    model = zeros(dataclasses.replace(given.config, num_classes=1))
    (message,) = weights.fill(model, given)
    assert message == "The logits start afresh: random has 3 classes, the model 1."
    for name, variable in variables(model).items():
        is_own = name.startswith("class_heads.") and ".predict." in name
        wanted = 0 if is_own else given.tensors[name]
        np.testing.assert_array_equal(variable[...], wanted, err_msg=name)


def test_parts_of_an_image_classifier_start_a_detector():
    given = random_weights("classification", output_stride=32, num_classes=10)
    model = zeros(random_weights("detection").config)
    assert weights.fill(model, given, ("backbone", "head")) == []
    for name, variable in variables(model).items():
        of_both = name.startswith(("backbone.", "head."))
        np.testing.assert_array_equal(variable[...], given.tensors[name] if of_both else 0)


def test_heads_of_another_form_are_refused():
    given = random_weights("detection", **TINY)
    model = zeros(dataclasses.replace(given.config, separable=False))
    with pytest.raises(UserError, match=r"random was trained with model\.separable=True"):
        weights.fill(model, given)
    assert weights.fill(model, given, ("backbone", "head")) == []


def test_each_way_to_load_names_the_right_one(tmp_path):
    paths = {}
    for kind, settings in (("detection", TINY), ("classification", {"output_stride": 32, **TINY})):
        paths[kind] = str(tmp_path / f"{kind}.safetensors")
        weights.save(paths[kind], random_weights(kind, **settings))
    for load in (weights.load, weights.load_classifier):
        with pytest.raises(UserError, match=r"holds a detector.*weights\.load_detector"):
            load(paths["detection"])
    with pytest.raises(UserError, match=r"no network of detection; .*weights\.load_classifier\.$"):
        weights.load_detector(paths["classification"])
    assert weights.load_detector(paths["detection"]).config.num_classes == 3


def test_a_model_gives_its_weights_back():
    given = random_weights("detection", **TINY)
    found = weights.from_model(weights.build(given), {"source": "test"}, ("a", "b", "c"))
    assert_same(found, given)
    assert found.class_names == ("a", "b", "c")


def test_a_run_is_read_with_its_scores(tmp_path):
    given = random_weights("detection", **TINY)
    model = weights.build(given)
    optimizer = make_optimizer(OptimizerConfig(), 100, nnx.state(model, nnx.Param))
    _, state = create_state(model, optimizer, TrainConfig())
    with Checkpoints(tmp_path, "ap") as checkpoints:
        checkpoints.save(7, state, {"ap": 0.25})
        checkpoints.wait()
    settings = {"model": to_dict(given.config), "class_names": ["a", "b", "c"]}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    _, params, batch_stats = nnx.split(model, nnx.Param, nnx.BatchStat)
    protocol = {"weights": weights_digest(params, batch_stats)}
    scores = {"ap": 0.25, "ci95": [0.2, 0.3], "images": 10}
    result = {**scores, "ap_per_class": {"a": 0.5}, "protocol": protocol}
    (tmp_path / "eval.json").write_text(json.dumps(result))
    found = weights.read(f"{tmp_path}@best")
    assert_same(found, given)
    assert (found.class_names, found.scores) == (("a", "b", "c"), {**scores, "protocol": protocol})


def test_google_published_this_network(shared):
    found = weights.read(str(shared / PUBLISHED))
    config = found.config
    assert (found.kind, found.class_names, config.num_classes) == ("detection", ("class 0",), 1)
    assert (config.width_multiplier, config.image_size, config.padding) == (1.0, 300, "same")
    assert (config.backbone_epsilon, config.head_epsilon) == (1e-3, 1e-3)
    assert (config.image_mean, config.image_std) == ((127.5,) * 3, (127.5,) * 3)
    trained = [a for n, a in found.tensors.items() if not n.endswith(("mean", "var"))]
    assert sum(array.size for array in trained) == 3_045_126
    statistics = [a for n, a in found.tensors.items() if n.endswith(("mean", "var"))]
    assert sum(array.size for array in statistics) == 50_752
    assert "norm" not in found.provenance


def test_published_weights_predict_what_tensorflows_graph_does(shared):
    """Sums of an independent interpreter of the graph, over all anchors, in float32."""
    model = weights.load_detector(str(shared / PUBLISHED))
    annotations = shared / "coco_sample/annotations/instances_val2017.json"
    name = json.loads(annotations.read_text())["images"][0]["file_name"]
    image = np.asarray(Image.open(shared / "coco_sample/val2017" / name).convert("RGB"))
    image = resize_legacy(image, model.config.image_size)[None]
    codes, logits = (np.asarray(x, np.float64) for x in apply(model, model.normalize(image)))
    assert (codes.shape, logits.shape) == ((1, 1917, 4), (1, 1917, 2))
    assert codes.sum() == pytest.approx(132.1714, abs=2e-3)
    assert logits.sum() == pytest.approx(-19.7752, abs=2e-3)
