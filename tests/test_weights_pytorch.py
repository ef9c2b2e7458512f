"""timm and torchvision: recorded outputs of the real libraries, and published files."""

import dataclasses
import json
import re

import jax.numpy as jnp
import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
import safetensors.numpy

from deeplab_mnv2 import weights
from deeplab_mnv2.config import ModelConfig
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.weights.model_weights import abstract_model, variables
from deeplab_mnv2.weights.pytorch import IMAGENET_MEAN, IMAGENET_STD
from tests.support import torch_files
from tests.support.networks import apply
from tests.support.record_pytorch_references import REFERENCES, TIMM, image, value

RECORDED = json.loads(REFERENCES.read_text())


def state_dict(model: str) -> dict[str, np.ndarray]:
    """Return the tensors that the recording filled the library's network with."""
    shapes = RECORDED[model]["shapes"]
    return {name: value(name, tuple(shape)) for name, shape in shapes.items()}


def saved(folder, model: str, **changes: np.ndarray) -> str:
    """Write the state dict of a network, as both libraries' hubs publish it."""
    path = folder / f"{model}.safetensors"
    safetensors.numpy.save_file({**state_dict(model), **changes}, path)
    return str(path)


def assert_equals_recording(found: np.ndarray, recording: dict) -> None:
    assert list(found.shape) == recording["shape"]
    wanted, largest = np.array(recording["values"]), recording["largest"]
    difference = np.abs(found.reshape(-1)[: 7 * 60 : 7] - wanted).max()
    # For the table of parity figures: pytest -rP shows it.
    print(f"relative error {difference / largest:.1e}")
    assert difference < 1e-4 * largest
    assert abs(found.astype(np.float64).mean() - recording["mean"]) < 1e-4 * largest


def assert_features_equal_recording(given: weights.Weights, name: str, case: str) -> None:
    stride, height, width = map(int, case.split())
    config = dataclasses.replace(given.config, output_stride=stride)
    model = abstract_model(config)
    assert weights.fill(model, given, parts=("backbone",)) == []
    model.backbone.eval()
    found = np.asarray(apply(model.backbone, jnp.asarray(image((height, width)))))
    assert_equals_recording(found, RECORDED[name]["features"][case])


def test_features_equal_timm(tmp_path):
    given = weights.read(saved(tmp_path, "mobilenetv2_100"))
    assert (given.config.width_multiplier, given.config.divisible_by) == (1.0, 8)
    assert_features_equal_recording(given, "mobilenetv2_100", "8 64 96")


@pytest.mark.slow
@pytest.mark.parametrize("case", RECORDED[TIMM[0]]["features"])
@pytest.mark.parametrize("name", TIMM)
def test_features_equal_timm_at_every_width_and_stride(tmp_path, name, case):
    given = weights.read(saved(tmp_path, name))
    assert given.config.width_multiplier == int(name[-3:]) / 100
    assert_features_equal_recording(given, name, case)


@pytest.mark.parametrize("size", RECORDED["mobilenet_v2"]["logits"])
def test_logits_equal_torchvision(tmp_path, size):
    model = weights.load_classifier(saved(tmp_path, "mobilenet_v2"))
    height, width = map(int, size.split())
    found = np.asarray(apply(model, jnp.asarray(image((height, width)))))
    assert_equals_recording(found, RECORDED["mobilenet_v2"]["logits"][size])


def test_convention_is_pytorchs(tmp_path):
    config = weights.read(saved(tmp_path, "mobilenet_v2")).config
    assert (config.padding, config.backbone_epsilon) == ("symmetric", 1e-5)
    assert config.image_mean == (123.675, 116.28, 103.53)
    # timm says in config.json how a network's images were normalised.
    settings = {"architecture": "x", "pretrained_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3}}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    config = weights.read(saved(tmp_path, "mobilenetv2_050")).config
    assert (config.image_mean, config.image_std) == ((127.5,) * 3, (127.5,) * 3)


def test_how_timm_scales_its_images_comes_along(tmp_path):
    published = {"input_size": [3, 224, 224], "crop_pct": 0.875, "interpolation": "bicubic"}
    (tmp_path / "config.json").write_text(json.dumps({"pretrained_cfg": published}))
    found = weights.read(saved(tmp_path, "mobilenetv2_050"))
    assert found.scaling == {"resize": 256, "crop_size": 224, "interpolation": "bicubic"}
    (tmp_path / "config.json").write_text("{}")
    assert weights.read(saved(tmp_path, "mobilenetv2_050")).scaling == {}


@pytest.mark.parametrize(
    "published",
    [3, None, ["mean", "std"], {"mean": 0.5, "std": [0.5] * 3}, {"mean": ["a"] * 3, "std": [1]}],
)
def test_damaged_settings_of_timm_are_refused(tmp_path, published):
    (tmp_path / "config.json").write_text(json.dumps({"pretrained_cfg": published}))
    with pytest.raises(UserError, match=r"pretrained_cfg in config\.json .* fetch the file again"):
        weights.read(saved(tmp_path, "mobilenetv2_050"))


def test_features_without_head_are_a_backbone(tmp_path):
    arrays = {k: a for k, a in state_dict("mobilenetv2_050").items() if k.startswith("blocks")}
    arrays |= {k: a for k, a in state_dict("mobilenetv2_050").items() if k.startswith("conv_stem")}
    arrays |= {k: a for k, a in state_dict("mobilenetv2_050").items() if k.startswith("bn1")}
    path = tmp_path / "features.safetensors"
    safetensors.numpy.save_file(arrays, path)
    assert weights.read(str(path)).kind == "backbone"
    with pytest.raises(UserError, match="backbone without a head"):
        weights.load(str(path))


def test_left_over_and_missing_tensors_are_named(tmp_path):
    path = saved(tmp_path, "mobilenet_v2", **{"features.19.0.weight": np.zeros((1, 1), np.float32)})
    with pytest.raises(UserError, match=r"features\.19\.0\.weight"):
        weights.read(path)
    arrays = state_dict("mobilenet_v2")
    del arrays["features.3.conv.0.1.running_var"]
    path = tmp_path / "missing.safetensors"
    safetensors.numpy.save_file(arrays, path)
    with pytest.raises(UserError, match=r"1 tensor missing \(backbone\.stages\.1\.1\.expand"):
        weights.read(str(path))


@pytest.mark.parametrize("writer", ["torch", "ours"])
def test_pth_equals_safetensors(tmp_path, writer):
    wanted = weights.read(saved(tmp_path, "mobilenet_v2"))
    path, arrays = tmp_path / "mobilenet_v2.pth", state_dict("mobilenet_v2")
    count = np.array(7)
    if writer == "torch":
        torch = pytest.importorskip("torch", reason="the extra `parity` is not installed")
        arrays = {name: torch.from_numpy(array) for name, array in arrays.items()}
        count = torch.tensor(7)
    # As trainers wrap it, for several devices and with a count of batches.
    content = {"epoch": 3, "state_dict": {f"module.{name}": a for name, a in arrays.items()}}
    content["state_dict"]["module.features.0.1.num_batches_tracked"] = count
    for legacy in (False, True):
        if writer == "torch":
            torch.save(content, path, _use_new_zipfile_serialization=not legacy)
        else:
            torch_files.save(content, path, legacy=legacy)
        found = weights.read(str(path))
        assert found.config == wanted.config
        assert found.provenance["importer"] == "torchvision"
        for name, array in wanted.tensors.items():
            np.testing.assert_array_equal(found.tensors[name], array)


def counted_with_activations(name: str) -> str:
    """Return torchvision's name of a tensor as the code before it called it."""
    match = re.fullmatch(r"features\.(\d+)\.conv\.(\d)(?:\.(\d))?\.(\w+)", name)
    if match is None:
        return name
    block, layer, part, field = match.groups()
    if part is None:
        # The projection and its norm: the last two.
        last = 1 if block == "1" else 2
        number = 3 * last if int(layer) == last else 3 * last + 1
    else:
        number = 3 * int(layer) + int(part)
    return f"features.{block}.conv.{number}.{field}"


def test_names_of_before_torchvision_are_the_same_network(tmp_path):
    wanted = weights.read(saved(tmp_path, "mobilenet_v2"))
    arrays = {counted_with_activations(k): a for k, a in state_dict("mobilenet_v2").items()}
    assert "features.17.conv.7.running_var" in arrays
    path = tmp_path / "older.safetensors"
    safetensors.numpy.save_file(arrays, path)
    found = weights.read(str(path))
    assert (found.kind, found.config) == (wanted.kind, wanted.config)
    for name, array in wanted.tensors.items():
        np.testing.assert_array_equal(found.tensors[name], array, err_msg=name)


@pytest.fixture
def published(shared) -> str:
    return str(shared / "weights/mobilenet_v2_imagenet_float.pt")


def test_a_published_backbone_is_read(published):
    found = weights.read(published)
    assert found.kind == "backbone"
    config = found.config
    assert (config.width_multiplier, config.padding, config.backbone_epsilon) == (
        1.0,
        "symmetric",
        1e-5,
    )
    trained = [a for n, a in found.tensors.items() if not n.endswith(("mean", "var"))]
    assert sum(array.size for array in trained) == 1_811_712
    # Statistics are there: no folded norm has any but 0 and 1.
    assert found.tensors["backbone.stages.0.0.depthwise.norm.mean"].std() > 0.1
    assert "norm" not in found.provenance


def test_training_can_start_from_a_published_backbone(published):
    config = ModelConfig(padding="symmetric", backbone_epsilon=1e-5)
    config.image_mean, config.image_std = IMAGENET_MEAN, IMAGENET_STD
    model, given = abstract_model(config), weights.read(published)
    assert weights.fill(model, given, parts=("backbone",)) == []
    kernel = model.backbone.stem.conv.kernel[...]
    np.testing.assert_array_equal(kernel, given.tensors["backbone.stem.conv.kernel"])


@pytest.mark.slow
def test_a_published_backbone_finds_dogs_alike(shared, published):
    """Of 39 dogs among 334 photographs, whose nearest photograph by features is a dog's too."""
    given = weights.read(published)
    model = abstract_model(given.config)
    for name, variable in variables(model).items():
        variable.set_value(jnp.asarray(given.tensors[name]))
    model.backbone.eval()
    paths = sorted((shared / "imagenet_sample").glob("*.jpg"))
    features = []
    for start in range(0, len(paths), 8):
        images = [
            PIL.ImageOps.fit(PIL.Image.open(path).convert("RGB"), (224, 224))
            for path in (paths + paths)[start : start + 8]
        ]
        x = (np.stack(images).astype(np.float32) - IMAGENET_MEAN) / IMAGENET_STD
        features.append(np.asarray(apply(model.backbone, jnp.asarray(x, jnp.float32))).mean((1, 2)))
    found = np.concatenate(features)[: len(paths)]
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    likeness = found @ found.T
    np.fill_diagonal(likeness, -1)
    dog = np.array([151 <= int(path.name[:4]) <= 268 for path in paths])
    assert dog.sum() == 39
    # 0.77 measured; under TensorFlow's convention 0.49.
    assert dog[likeness.argmax(axis=1)][dog].mean() >= 0.7
