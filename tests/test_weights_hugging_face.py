"""transformers' MobileNetV2, both ways, against the real library; and the hub's failures."""

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from deeplab_mnv2 import weights
from deeplab_mnv2.data.shapes import Shapes
from deeplab_mnv2.errors import UserError
from tests.support.networks import apply
from tests.support.random_weights import random_weights, relative_error

# Where the padding rules differ and where they agree, and not square.
FULL = [(513, 513), (512, 512), (257, 385)]
# Width and what TensorFlow's checkpoint of that width is divisible by.
WIDTHS = [(1.0, 8), (0.5, 1)]
CASES = [
    pytest.param(8, (65, 97), (0.5, 1), id="stride 8"),
    pytest.param(16, (64, 96), (1.0, 8), id="stride 16"),
    pytest.param(32, (65, 97), (1.0, 8), id="stride 32"),
    *(
        pytest.param(stride, size, width, marks=pytest.mark.slow)
        for stride in (8, 16, 32)
        for size in FULL
        for width in WIDTHS
    ),
]


@pytest.fixture
def huggingface_hub():
    return pytest.importorskip("huggingface_hub", reason="the extra `hf` is not installed")


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="the extra `parity` is not installed")


@pytest.fixture
def transformers(torch):
    return pytest.importorskip("transformers", reason="the extra `parity` is not installed")


def randomized(torch, model):
    """Return a PyTorch network filled with seeded values, norm statistics included."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.ndim > 1:
                tensor.normal_(0, (2 / tensor[0].numel()) ** 0.5)
            elif name.endswith("running_var"):
                tensor.uniform_(0.5, 2.0)
            elif name.endswith("normalization.weight"):
                # Mean 1: larger ones would amplify float32's rounding through 50 layers.
                tensor.uniform_(0.5, 1.5)
            elif tensor.ndim:
                tensor.uniform_(-0.5, 0.5)
    return model.eval()


def random_image(size: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (1, *size, 3)).astype(np.float32)


def run(torch, model, x: np.ndarray) -> np.ndarray:
    """Return the logits of a transformers network, channels last."""
    with torch.no_grad():
        logits = model(torch.from_numpy(x.transpose(0, 3, 1, 2))).logits.numpy()
    return logits.transpose(0, 2, 3, 1) if logits.ndim == 4 else logits


def config_of(transformers, width: tuple[float, int] = (1.0, 8), **more):
    return transformers.MobileNetV2Config(
        depth_multiplier=width[0], depth_divisible_by=width[1], min_depth=width[1], **more
    )


@pytest.mark.parametrize(("output_stride", "size", "width"), CASES)
def test_segmentation_equals_transformers_both_ways(
    torch, transformers, tmp_path, output_stride, size, width
):
    config = config_of(transformers, width, output_stride=output_stride, num_labels=21)
    peer = randomized(torch, transformers.MobileNetV2ForSemanticSegmentation(config))
    peer.save_pretrained(tmp_path / "theirs")
    x = random_image(size)
    wanted = run(torch, peer, x)

    model = weights.load(str(tmp_path / "theirs"))
    assert model.config.output_stride == output_stride
    assert relative_error(apply(model, jnp.asarray(x), "head_logits"), wanted) < 1e-4

    weights.to_hugging_face(weights.read(str(tmp_path / "theirs")), tmp_path / "ours")
    back, report = transformers.MobileNetV2ForSemanticSegmentation.from_pretrained(
        tmp_path / "ours", output_loading_info=True
    )
    assert not any(report.values())
    assert relative_error(run(torch, back.eval(), x), wanted) < 1e-6


@pytest.mark.parametrize("width", WIDTHS, ids=str)
def test_classifier_equals_transformers(torch, transformers, tmp_path, width):
    names = [f"a class {index}" for index in range(1001)]
    config = config_of(transformers, width, num_labels=1001, id2label=dict(enumerate(names)))
    peer = randomized(torch, transformers.MobileNetV2ForImageClassification(config))
    peer.save_pretrained(tmp_path)
    processor = {"size": {"shortest_edge": 110}, "crop_size": {"height": 96, "width": 96}}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({**processor, "resample": 3}))
    found = weights.read(str(tmp_path))
    assert found.class_names == tuple(names)
    assert found.scaling == {"resize": 110, "crop_size": 96, "interpolation": "bicubic"}
    x = random_image((96, 64))
    model = weights.load_classifier(str(tmp_path))
    assert relative_error(apply(model, jnp.asarray(x)), run(torch, peer, x)) < 1e-4


def test_bare_model_is_a_backbone(transformers, tmp_path):
    transformers.MobileNetV2Model(config_of(transformers)).save_pretrained(tmp_path)
    found = weights.read(str(tmp_path / "model.safetensors"))
    assert found.kind == "backbone"
    assert found.config.padding == "same"
    assert found.config.backbone_epsilon == 1e-3


def test_processor_normalises_as_the_model(transformers, tmp_path):
    weights.to_hugging_face(
        random_weights(image_mean=(10, 20, 30), image_std=(40, 50, 60)), tmp_path
    )
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path)
    image = np.random.default_rng(0).integers(0, 256, (33, 49, 3), np.uint8)
    found = np.asarray(processor(image, return_tensors="np")["pixel_values"])[0]
    wanted = (image - np.array([10, 20, 30])) / np.array([40, 50, 60])
    np.testing.assert_allclose(found.transpose(1, 2, 0), wanted, atol=1e-4)
    assert weights.read(str(tmp_path)).config.image_mean == pytest.approx((10, 20, 30))


@pytest.mark.parametrize(
    ("switched_off", "mean", "std"),
    [("do_normalize", 0, 255), ("do_rescale", 10 / 255, 40 / 255)],
)
def test_steps_of_a_processor_that_are_switched_off_are_not_taken(
    transformers, tmp_path, switched_off, mean, std
):
    weights.to_hugging_face(random_weights(image_mean=(10,) * 3, image_std=(40,) * 3), tmp_path)
    path = tmp_path / "preprocessor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), switched_off: False}))
    config = weights.read(str(tmp_path)).config
    assert (config.image_mean[0], config.image_std[0]) == pytest.approx((mean, std))
    image = np.random.default_rng(0).integers(0, 256, (33, 49, 3), np.uint8)
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path)
    found = np.asarray(processor(image, return_tensors="np")["pixel_values"])[0]
    np.testing.assert_allclose(found.transpose(1, 2, 0), (image - mean) / std, rtol=1e-4, atol=1e-4)


def test_round_trip_without_transformers_keeps_every_tensor(tmp_path):
    given = random_weights(padding="symmetric", backbone_epsilon=1e-5, output_stride=8)
    given.class_names = Shapes().class_names
    weights.to_hugging_face(given, tmp_path)
    found = weights.read(str(tmp_path))
    assert found.class_names == given.class_names
    assert found.config == given.config
    assert found.tensors.keys() == given.tensors.keys()
    for name, array in given.tensors.items():
        np.testing.assert_array_equal(found.tensors[name], array)


@pytest.mark.parametrize(
    "settings",
    [
        {"atrous_rates": (6, 12, 18)},
        {"decoder": True},
        {"shortcut": "none"},
        {"head_channels": 128},
        {"linear_bottleneck": False},
    ],
    ids=str,
)
def test_what_transformers_cannot_build_is_refused(tmp_path, settings):
    with pytest.raises(UserError, match=next(iter(settings))):
        weights.to_hugging_face(random_weights(**settings), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [("hidden_act", "relu"), ("expand_ratio", 4.0), ("first_layer_is_expansion", False)],
)
def test_settings_of_another_network_are_refused(tmp_path, name, value):
    weights.to_hugging_face(random_weights(), tmp_path)
    settings = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**settings, name: value}))
    with pytest.raises(UserError, match=name):
        weights.read(str(tmp_path))


def test_left_over_tensor_is_named(tmp_path):
    weights.to_hugging_face(random_weights(), tmp_path)
    arrays = safetensors.numpy.load_file(tmp_path / "model.safetensors")
    arrays["segmentation_head.conv_aspp_2.convolution.weight"] = np.zeros(3, np.float32)
    safetensors.numpy.save_file(arrays, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=r"conv_aspp_2\.convolution\.weight"):
        weights.read(str(tmp_path))


class Hub:
    """A hub of one repository, in the layout of the client's cache."""

    def __init__(self, folder: Path, given: weights.Weights):
        self.snapshot = folder / "snapshots" / "0123abc"
        weights.to_hugging_face(given, self.snapshot)
        self.asked: list[tuple[str, str | None]] = []

    def snapshot_download(self, repository, revision=None, allow_patterns=None):
        self.asked.append((repository, revision))
        return str(self.snapshot)


def test_hub_address_records_revision_and_digest(huggingface_hub, monkeypatch, tmp_path):
    given = random_weights()
    hub = Hub(tmp_path, given)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", hub.snapshot_download)
    found = weights.read("hf://someone/net@v1")
    assert hub.asked == [("someone/net", "v1")]
    assert found.provenance["source"] == "hf://someone/net@v1"
    assert found.provenance["revision"] == "0123abc"
    assert len(found.provenance["sha256"]) == 64


def test_cached_file_with_a_wrong_digest_is_refused(huggingface_hub, monkeypatch, tmp_path):
    hub = Hub(tmp_path, random_weights())
    # The cache links each file to a blob named by its SHA-256.
    blob = tmp_path / "blobs" / ("0" * 64)
    blob.parent.mkdir()
    (hub.snapshot / "model.safetensors").rename(blob)
    (hub.snapshot / "model.safetensors").symlink_to(blob)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", hub.snapshot_download)
    with pytest.raises(UserError, match="digest is wrong"):
        weights.read("hf://someone/net")


def test_no_network_ends_in_one_sentence(huggingface_hub, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"hf://someone/never-seen cannot be fetched") as error:
        weights.read("hf://someone/never-seen")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("address", ["hf://name", "hf://a/b/c", "hf://a/b@", "hf://../../etc"])
def test_malformed_hub_address_is_refused(address):
    with pytest.raises(UserError, match="no hub address"):
        weights.read(address)
