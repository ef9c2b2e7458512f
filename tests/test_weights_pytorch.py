"""timm and torchvision: recorded outputs of the real libraries, and hostile checkpoints."""

import dataclasses
import json
import pickle

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from deeplab_mnv2 import weights
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.weights.loader import abstract_model
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


def test_pth_equals_safetensors(tmp_path):
    torch = pytest.importorskip("torch", reason="the extra `torch` is not installed")
    wanted = weights.read(saved(tmp_path, "mobilenet_v2"))
    tensors = {name: torch.from_numpy(a) for name, a in state_dict("mobilenet_v2").items()}
    # As trainers wrap it, for several devices and with a count of batches.
    content = {"state_dict": {f"module.{name}": tensor for name, tensor in tensors.items()}}
    content["state_dict"]["module.features.0.1.num_batches_tracked"] = torch.tensor(7)
    for legacy in (False, True):
        path = tmp_path / "mobilenet_v2.pth"
        torch.save(content, path, _use_new_zipfile_serialization=not legacy)
        found = weights.read(str(path))
        assert found.config == wanted.config
        for name, array in wanted.tensors.items():
            np.testing.assert_array_equal(found.tensors[name], array)


class Payload:
    """An object whose unpickling touches a file."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return (open, (str(self.marker), "w"))


def test_code_in_a_checkpoint_is_refused_and_not_run(tmp_path):
    torch = pytest.importorskip("torch", reason="the extra `torch` is not installed")
    marker, path = tmp_path / "marker", tmp_path / "evil.pth"
    for write in (
        lambda content: torch.save(content, path),
        lambda content: path.write_bytes(pickle.dumps(content)),
    ):
        write({"state_dict": {"features.0.0.weight": Payload(marker)}})
        with pytest.raises(UserError, match=r"evil\.pth .* never run"):
            weights.read(str(path))
        assert not marker.exists()


def test_damaged_checkpoints_end_in_one_sentence(tmp_path):
    torch = pytest.importorskip("torch", reason="the extra `torch` is not installed")
    path = tmp_path / "broken.pth"
    torch.save({"a": torch.zeros(1000)}, path)
    data = path.read_bytes()
    for content in (b"", b"garbage", data[: len(data) // 2]):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"broken\.pth"):
            weights.read(str(path))
    torch.save([torch.zeros(3)], path)
    with pytest.raises(UserError, match="holds no state dict"):
        weights.read(str(path))
    torch.save({"a": torch.zeros(3)}, path)
    with pytest.raises(UserError, match="another network"):
        weights.read(str(path))
