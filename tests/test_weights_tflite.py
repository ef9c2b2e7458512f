"""TFLite import: every notation of a graph, the published files, and LiteRT as the judge."""

import contextlib
import dataclasses
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
import tflite
from flax import nnx

from deeplab_mnv2 import weights
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.models.layers import Conv
from deeplab_mnv2.weights.model_weights import Weights, abstract_model
from deeplab_mnv2.weights.tflite import graph as tflite_graph
from deeplab_mnv2.weights.walk import from_graph
from tests.support.networks import apply
from tests.support.random_weights import random_weights

ACTIVATIONS = {"none": 0, "relu": 1, "relu6": 3}


@dataclasses.dataclass
class FakeOperation:
    """An operation whose options answer for every field, 0 where nothing was said."""

    name: str
    inputs: list[int]
    output: int
    fields: dict[str, int]

    def options(self, kind: type) -> SimpleNamespace:
        names = [name for name in dir(kind) if name[0].isupper()]
        default = {"DilationHFactor": 1, "StrideH": 1, "StrideW": 1}
        chosen = {name: self.fields.get(name, default.get(name, 0)) for name in names}
        return SimpleNamespace(**{name: (lambda v=v: v) for name, v in chosen.items()})


class FakeFile:
    """A TFLite file of a network, in one of the notations that converters use."""

    def __init__(self, given: Weights, size: int, notation: str):
        self.tensors = given.tensors
        self.config = given.config
        self.notation = notation
        self.arrays: dict[int, np.ndarray] = {}
        self.shapes: list[list[int]] = []
        self.operations: list[FakeOperation] = []
        model = abstract_model(given.config)
        self.convs = {
            ".".join(map(str, path)).removesuffix(".conv"): module
            for path, module in nnx.iter_graph(model)
            if isinstance(module, Conv)
        }
        self.input = self.tensor([1, size, size, 3])
        features = self.backbone()
        (self.segmentation if given.kind == "segmentation" else self.classification)(features)

    def shape(self, tensor: int) -> list[int]:
        return self.shapes[tensor]

    def is_constant(self, tensor: int) -> bool:
        return tensor in self.arrays

    def constant(self, tensor: int) -> np.ndarray:
        return self.arrays[tensor]

    def scale(self, tensor: int) -> None:
        return None

    def tensor(self, shape: list[int]) -> int:
        self.shapes.append(list(shape))
        return len(self.shapes) - 1

    def stored(self, array: np.ndarray) -> int:
        number = self.tensor(array.shape)
        self.arrays[number] = np.asarray(array, np.float32)
        return number

    def run(self, name: str, inputs: list[int], shape: list[int], **fields: int) -> int:
        output = self.tensor(shape)
        self.operations.append(FakeOperation(name, inputs, output, fields))
        return output

    def conv(self, layer: str, x: int, activation: str) -> int:
        """Write a convolution, its norm folded in."""
        module, notation = self.convs[layer], self.notation
        if layer == "classifier":
            kernel, bias = self.tensors["classifier.kernel"], self.tensors["classifier.bias"]
        else:
            scale, shift, mean, var = (
                self.tensors[f"{layer}.norm.{name}"] for name in ("scale", "bias", "mean", "var")
            )
            head = layer.startswith("aspp")
            epsilon = self.config.head_epsilon if head else self.config.backbone_epsilon
            slope = scale / np.sqrt(var + epsilon)
            kernel = self.tensors[f"{layer}.conv.kernel"] * slope
            bias = shift - mean * slope
        n, height, width, _ = self.shapes[x]
        stride, dilation = module.stride, module.dilation
        out = [n, -(-height // stride), -(-width // stride), kernel.shape[-1]]
        order = (2, 0, 1, 3) if module.depthwise else (3, 0, 1, 2)
        name = "DEPTHWISE_CONV_2D" if module.depthwise else "CONV_2D"
        fields = {"StrideH": stride, "StrideW": stride, "Padding": tflite.Padding.SAME}
        if notation == "batches" and dilation > 1:
            # The end is padded up to a multiple of the block.
            ends = [dilation + (-(size + 2 * dilation)) % dilation for size in (height, width)]
            block = self.stored(np.array([dilation, dilation]))
            pads = self.stored(np.array([[dilation, end] for end in ends]))
            x = self.run("SPACE_TO_BATCH_ND", [x, block, pads], [1, 1, 1, 1])
            fields["Padding"] = tflite.Padding.VALID
        else:
            fields |= {"DilationHFactor": dilation, "DilationWFactor": dilation}
        if notation == "pad" and stride == 2:
            # TensorFlow's rule: what is left over goes after the image.
            totals = [max((-(-size // 2) - 1) * 2 + 3 - size, 0) for size in (height, width)]
            same = [(total // 2, total - total // 2) for total in totals]
            pads = self.stored(np.array([[0, 0], *same, [0, 0]]))
            x = self.run("PAD", [x, pads], [1, 1, 1, 1])
            fields["Padding"] = tflite.Padding.VALID
        fused = activation if notation != "split" else "none"
        if notation == "split":
            kernel, bias = kernel / 2, bias / 2
        weight = self.stored(kernel.transpose(order))
        if notation == "half":
            weight = self.run("DEQUANTIZE", [weight], self.shapes[weight])
        inputs = [x, weight] + ([self.stored(bias)] if notation != "split" else [])
        x = self.run(name, inputs, out, FusedActivationFunction=ACTIVATIONS[fused], **fields)
        if notation == "batches" and dilation > 1:
            x = self.run("BATCH_TO_SPACE_ND", [x, block, pads], out)
        if notation == "split":
            x = self.run("ADD", [self.stored(bias), x], out)
            x = self.run("MUL", [x, self.stored(np.array([2.0]))], out)
            if activation != "none":
                x = self.run(activation.upper(), [x], out)
        return x

    def backbone(self) -> int:
        x = self.conv("backbone.stem", self.input, "relu6")
        for block in sorted({n.rpartition(".")[0] for n in self.convs if "stages" in n}):
            y = x
            if f"{block}.expand" in self.convs:
                y = self.conv(f"{block}.expand", y, "relu6")
            y = self.conv(f"{block}.depthwise", y, "relu6")
            y = self.conv(f"{block}.project", y, "none")
            x = self.run("ADD", [x, y], self.shapes[y]) if self.shapes[x] == self.shapes[y] else y
        return x

    def segmentation(self, x: int) -> None:
        n, height, width, channels = self.shapes[x]
        window = {"FilterHeight": height, "FilterWidth": width}
        pooled = self.run("AVERAGE_POOL_2D", [x], [n, 1, 1, channels], **window)
        pooled = self.conv("aspp.image_pool", pooled, "relu")
        out = [n, height, width, self.config.head_channels]
        branches = [self.run("RESIZE_BILINEAR", [pooled], out, AlignCorners=1)]
        for number in range(1 + len(self.config.atrous_rates)):
            name = f"aspp.branches.{number}"
            if name in self.convs:
                branches.append(self.conv(name, x, "relu"))
            else:
                y = self.conv(f"{name}.depthwise", x, "relu")
                branches.append(self.conv(f"{name}.pointwise", y, "relu"))
        if self.notation == "order":
            # The 1x1 branch first, as some write it: the projection's rows move along.
            name, c = "aspp.project.conv.kernel", self.config.head_channels
            kernel = self.tensors[name]
            swapped = [kernel[:, :, c : 2 * c], kernel[:, :, :c], kernel[:, :, 2 * c :]]
            self.tensors = {**self.tensors, name: np.concatenate(swapped, axis=2)}
            branches = [branches[1], branches[0], *branches[2:]]
        joined = [*out[:3], out[3] * len(branches)]
        x = self.conv("aspp.project", self.run("CONCATENATION", branches, joined), "relu")
        x = self.conv("classifier", x, "none")
        image = [*self.shapes[self.input][:3], self.config.num_classes]
        x = self.run("RESIZE_BILINEAR", [x], image, AlignCorners=1)
        self.run("ARG_MAX", [x], image[:3])

    def classification(self, x: int) -> None:
        x = self.conv("head", x, "relu6")
        axes = self.stored(np.array([1, 2]))
        x = self.run("MEAN", [x, axes], [1, 1, 1, self.shapes[x][-1]])
        x = self.run("RESHAPE", [x], [1, self.shapes[x][-1]])
        weight = self.stored(self.tensors["classifier.kernel"][0, 0].T)
        bias = self.stored(self.tensors["classifier.bias"])
        x = self.run("FULLY_CONNECTED", [x, weight, bias], [1, self.config.num_classes])
        self.run("SOFTMAX", [x], self.shapes[x])


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
def test_input_range_follows_a_quantised_input(monkeypatch, scale, mean, std):
    file = FakeFile(random_weights(output_stride=32), size=65, notation="plain")
    file.scale = lambda tensor: scale
    config = read_fake(file).config
    assert (config.image_mean, config.image_std) == ((mean,) * 3, (std,) * 3)


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
