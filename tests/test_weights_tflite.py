"""TFLite import: every notation of a graph, the published files, and LiteRT as the judge."""

import contextlib

import jax.numpy as jnp
import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest

from deeplab_mnv2 import weights
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.weights.model_weights import Weights
from deeplab_mnv2.weights.tflite import graph as tflite_graph
from deeplab_mnv2.weights.tflite.file import TfliteFile
from deeplab_mnv2.weights.walk import from_graph
from tests.support.networks import apply
from tests.support.random_weights import random_weights
from tests.support.tflite_graphs import ACTIVATIONS, FakeFile, FakeOperation


def read_fake(file: FakeFile) -> Weights:
    graph = tflite_graph.build_graph(file, "fake.tflite")
    return from_graph(graph, {"source": "fake.tflite", "sha256": "0"})


def folded(given: Weights) -> dict[str, np.ndarray]:
    """Return slope * kernel and offset of each layer: what inference computes."""
    result = {}
    for name, kernel in given.tensors.items():
        layer = name.removesuffix(".conv.kernel")
        if layer == name:
            continue
        head = layer.startswith("aspp")
        epsilon = given.config.head_epsilon if head else given.config.backbone_epsilon
        scale, bias, mean, var = (
            given.tensors[f"{layer}.norm.{field}"] for field in ("scale", "bias", "mean", "var")
        )
        slope = scale / np.sqrt(var + epsilon)
        result |= {f"{layer}.kernel": kernel * slope, f"{layer}.offset": bias - mean * slope}
    return result


HALF_WIDTH = {"width_multiplier": 0.5, "divisible_by": 1, "output_stride": 8}


def assert_same_network(found: Weights, given: Weights) -> None:
    assert (found.kind, found.config) == (given.kind, given.config)
    wanted, got = folded(given), folded(found)
    assert got.keys() == wanted.keys()
    for name, array in wanted.items():
        np.testing.assert_allclose(got[name], array, rtol=1e-4, atol=1e-5, err_msg=name)
    np.testing.assert_allclose(
        found.tensors["classifier.kernel"], given.tensors["classifier.kernel"], rtol=1e-6
    )


@pytest.mark.parametrize("notation", ["plain", "batches", "pad", "split", "half", "order"])
def test_every_notation_gives_the_network(notation):
    given = random_weights(**HALF_WIDTH)
    assert_same_network(read_fake(FakeFile(given, size=129, notation=notation)), given)


@pytest.mark.parametrize(
    "settings",
    [
        {"atrous_rates": (6, 12, 18), "separable_aspp": True, "head_channels": 32},
        {"atrous_rates": (6, 12), "output_stride": 8, "num_classes": 5},
    ],
    ids=["separable", "plain"],
)
def test_aspp_comes_back_with_its_rates(settings):
    given = random_weights(**settings)
    assert_same_network(read_fake(FakeFile(given, size=129, notation="batches")), given)


def test_classifier_comes_back():
    given = random_weights("classification", output_stride=32, num_classes=1001)
    assert_same_network(read_fake(FakeFile(given, size=96, notation="plain")), given)


def test_padding_of_pytorch_is_told_from_tensorflows():
    given = random_weights(output_stride=32)
    file = FakeFile(given, size=96, notation="pad")
    for operation in file.operations:
        if operation.name == "PAD":
            file.arrays[operation.inputs[1]] = np.array([[0, 0], [1, 1], [1, 1], [0, 0]])
    assert read_fake(file).config.padding == "symmetric"
    file.arrays[operation_named(file, "PAD").inputs[1]] = np.zeros((4, 2))
    with pytest.raises(UserError, match="padded by different rules"):
        read_fake(file)


def operation_named(file: FakeFile, name: str) -> FakeOperation:
    return next(operation for operation in file.operations if operation.name == name)


def dilate_the_block_that_lost_its_stride(file: FakeFile) -> None:
    # Model Garden's rule at output stride 16.
    depthwise = [op for op in file.operations if op.name == "DEPTHWISE_CONV_2D"]
    depthwise[13].fields |= {"DilationHFactor": 2, "DilationWFactor": 2}


def swap_activation(file: FakeFile) -> None:
    operation_named(file, "CONV_2D").fields["FusedActivationFunction"] = ACTIVATIONS["relu"]


def other_operation(file: FakeFile) -> None:
    operation_named(file, "ADD").name = "HARD_SWISH"


def drop_a_shortcut(file: FakeFile) -> None:
    add = operation_named(file, "ADD")
    file.operations.remove(add)
    for operation in file.operations:
        operation.inputs = [add.inputs[1] if i == add.output else i for i in operation.inputs]


def pool_a_window(file: FakeFile) -> None:
    operation_named(file, "AVERAGE_POOL_2D").fields["FilterHeight"] = 3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (dilate_the_block_that_lost_its_stride, "5.0.depthwise has stride 1 and dilation 2"),
        (swap_activation, "0 layers that could be backbone.stem"),
        (other_operation, "HARD_SWISH"),
        (drop_a_shortcut, "shortcuts"),
        (pool_a_window, "pools over"),
    ],
)
def test_another_network_is_refused_with_what_differs(change, words):
    file = FakeFile(random_weights(), size=65, notation="plain")
    change(file)
    with pytest.raises(UserError, match=words):
        read_fake(file)


@pytest.mark.parametrize(
    ("scale", "mean", "std"),
    [(None, 127.5, 127.5), ((1 / 128, 128), 127.5, 127.5), ((1.0, 0), 0, 1)],
)
def test_input_range_follows_a_quantised_input(scale, mean, std):
    file = FakeFile(random_weights(output_stride=32), size=65, notation="plain")
    file.image_scale = lambda: scale
    config = read_fake(file).config
    assert (config.image_mean, config.image_std) == ((mean,) * 3, (std,) * 3)


def test_zero_point_of_an_image_in_int8_is_that_of_its_grey_levels(shared):
    path = shared / "weights" / "tf2_mobilenet_v2_1.0_224_ptq.tflite"
    file = TfliteFile(str(path))
    # What the converter leaves out where the input is to be int8.
    (first,) = [op for op in file.operations if op.inputs[0] == file.input]
    assert first.name == "QUANTIZE"
    of_floats = weights.read(str(path)).config
    file.input = first.output
    assert file.image_scale() == (pytest.approx(1 / 127.5, rel=1e-3), 127)
    file.operations.remove(first)
    of_integers = from_graph(tflite_graph.build_graph(file, str(path)), {"source": "file"}).config
    assert of_integers == of_floats


def test_damaged_bytes_end_in_one_sentence(shared, tmp_path):
    data = (shared / "weights/deeplabv3_257_mv_gpu.tflite").read_bytes()
    path = tmp_path / "broken.tflite"
    random = np.random.default_rng(0)
    for length in (0, 6, 100, len(data) // 2, len(data) - 1000):
        path.write_bytes(data[:length])
        with pytest.raises(UserError, match=r"broken\.tflite"):
            weights.read(str(path))
    for _ in range(20):
        # The structure is at the end of this file; values before it are only numbers.
        broken = bytearray(data)
        for position in random.integers(len(data) - 30_000, len(data), 50):
            broken[position] = random.integers(256)
        path.write_bytes(broken)
        with contextlib.suppress(UserError):
            weights.read(str(path))


@pytest.mark.parametrize(
    ("name", "kind", "width", "stride", "classes"),
    [
        ("deeplabv3_257_mv_gpu", "segmentation", 0.5, 8, 21),
        ("deeplabv3_mnv2_pascal_quant", "segmentation", 1.0, 16, 21),
        ("deeplabv3_mnv2_dm05_pascal_quant", "segmentation", 0.5, 16, 21),
        ("tf2_mobilenet_v2_1.0_224_ptq", "classification", 1.0, 32, 1001),
    ],
)
def test_published_files_tell_their_architecture(shared, name, kind, width, stride, classes):
    found = weights.read(str(shared / f"weights/{name}.tflite"))
    config = found.config
    assert (found.kind, config.width_multiplier) == (kind, width)
    assert (config.output_stride, config.num_classes) == (stride, classes)
    assert config.divisible_by == (8 if width == 1 else 1)
    assert (config.padding, config.image_mean[0]) == ("same", 127.5)
    assert getattr(config, "align_corners", True)
    assert found.provenance["norm"] == "folded"


def voc_images(shared, count: int, size: int) -> list[np.ndarray]:
    names = (shared / "voc2012/ImageSets/Segmentation/val.txt").read_text().split()[:count]
    paths = [shared / f"voc2012/JPEGImages/{name}.jpg" for name in names]
    pictures = [PIL.Image.open(path).convert("RGB").resize((size, size)) for path in paths]
    return [np.asarray(picture, np.float32)[None] for picture in pictures]


@pytest.mark.parametrize("count", [3, pytest.param(50, marks=pytest.mark.slow)])
def test_float_model_equals_litert(shared, count):
    interpreters = pytest.importorskip(
        "ai_edge_litert.interpreter", reason="the extra `parity` is not installed"
    )
    path = str(shared / "weights/deeplabv3_257_mv_gpu.tflite")
    peer = interpreters.Interpreter(path)
    peer.allocate_tensors()
    model = weights.load(path)
    agreeing, largest = [], 0.0
    for image in voc_images(shared, count, 257):
        x = (image - 127.5) / 127.5
        peer.set_tensor(peer.get_input_details()[0]["index"], x)
        peer.invoke()
        wanted = peer.get_tensor(peer.get_output_details()[0]["index"])
        found = np.asarray(apply(model, jnp.asarray(x)))
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-3)
        largest = max(largest, np.abs(found - wanted).max())
        agreeing.append(np.mean(found.argmax(-1) == wanted.argmax(-1)))
    # For the table of parity figures: pytest -rP shows it.
    print(f"largest difference {largest:.1e}, equal classes on {np.mean(agreeing):.5%} of pixels")
    assert np.mean(agreeing) >= 0.9999


def test_golden_picture_matches(shared):
    model = weights.load(str(shared / "weights/deeplabv3_257_mv_gpu.tflite"))
    picture = PIL.Image.open(shared / "weights/segmentation_input_rotation0.jpg").convert("RGB")
    # The golden mask holds class numbers times ten, to be seen.
    golden = np.asarray(PIL.Image.open(shared / "weights/segmentation_golden_rotation0.png"))
    image = jnp.asarray(np.asarray(picture, np.float32)[None])
    found = np.asarray(apply(model, model.normalize(image))).argmax(-1)[0]
    np.testing.assert_array_equal(found * 10, golden)


def test_published_classifier_names_photographs(shared):
    model = weights.load_classifier(str(shared / "weights/tf2_mobilenet_v2_1.0_224_ptq.tflite"))
    paths = sorted((shared / "imagenet_sample").glob("*.jpg"))[::21]
    images = [PIL.ImageOps.fit(PIL.Image.open(p).convert("RGB"), (224, 224)) for p in paths]
    x = (np.stack([np.asarray(image, np.float32) for image in images]) - 127.5) / 127.5
    # The file's first class is "background".
    wanted = [int(path.name[:4]) + 1 for path in paths]
    found = np.asarray(apply(model, jnp.asarray(x))).argmax(-1)
    assert np.mean(found == wanted) >= 0.75
