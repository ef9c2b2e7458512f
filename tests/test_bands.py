"""Images that are no photographs: grey levels, augmentation, networks, folders and runs."""

import dataclasses
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from PIL import Image

from deeplab_mnv2 import weights
from deeplab_mnv2.config import DataConfig, ModelConfig
from deeplab_mnv2.data.bands import grey_levels, in_colour, network_image
from deeplab_mnv2.data.decode import read_image
from deeplab_mnv2.data.discovery import discover
from deeplab_mnv2.data.folder import Folder
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.models.deeplab import DeepLab
from deeplab_mnv2.tasks.segmentation.segmenter import Segmenter
from deeplab_mnv2.tasks.segmentation.transforms import augment, checked_example
from deeplab_mnv2.weights.channels import adapt_to_channels
from tests.support.band_files import made_bands, write_bands

_PLAIN = {"image_mean": (127.5,), "image_std": (127.5,)}


def test_values_become_grey_levels_in_a_straight_line():
    sixteen = np.array([[[0, 257, 65_535]]], np.uint16)
    np.testing.assert_array_equal(grey_levels(sixteen, (), "a"), [[[0, 1, 255]]])
    np.testing.assert_array_equal(grey_levels(sixteen, (57, 257), "a"), [[[0, 255, 255]]])
    floats = np.array([[[-1, 0, 0.5, 1, np.inf]]], np.float32)
    np.testing.assert_array_equal(grey_levels(floats, (0, 1), "a"), [[[0, 0, 128, 255, 255]]])
    eight = made_bands(3, np.uint8)
    assert grey_levels(eight, (), "a") is eight


@pytest.mark.parametrize(
    ("image", "value_range", "sentence"),
    [
        (made_bands(3, np.uint8), (0, 100), "a has 8 bits a sample, but model.value_range"),
        (made_bands(3, np.float32), (), "a holds numbers of type float32.*set model.value_range"),
        (np.full((2, 2, 3), np.nan, np.float32), (0, 1), "a holds pixels that are not a number"),
    ],
)
def test_a_range_that_does_not_fit_is_refused(image, value_range, sentence):
    with pytest.raises(UserError, match=sentence):
        grey_levels(image, value_range, "a")


def test_any_image_has_a_picture():
    eight = made_bands(5, np.uint8)
    np.testing.assert_array_equal(in_colour(eight), eight[..., :3])
    np.testing.assert_array_equal(in_colour(eight[..., :2]), np.repeat(eight[..., :1], 3, axis=-1))
    floats = np.linspace(0, 1e-3, 300, dtype=np.float32).reshape(10, 10, 3)
    assert in_colour(floats).min() == 0
    assert in_colour(floats).max() == 255


def test_bands_are_augmented_as_each_would_be_alone(module_config):
    image, label = made_bands(7, np.uint8), np.zeros((12, 17), np.uint8)
    data = dataclasses.replace(module_config.data, crop_size=33)
    assert isinstance(data, DataConfig)
    rngs = (np.random.default_rng(3) for _ in range(8))
    whole, _ = augment(image, label, next(rngs), data, (9,) * 7)
    assert whole.shape == (33, 33, 7)
    for band in range(7):
        alone, _ = augment(image[..., band, None], label, next(rngs), data, (9,))
        np.testing.assert_array_equal(alone[..., 0], whole[..., band])


def test_examples_have_the_channels_of_the_network():
    example = {"name": "a", "image": made_bands(3, np.uint8), "label": np.zeros((12, 17), np.uint8)}
    grey, _ = checked_example(example, ModelConfig(in_channels=1, **_PLAIN))
    assert grey.shape == (12, 17, 1)
    four = ModelConfig(in_channels=4, image_mean=(0.0,) * 4, image_std=(1.0,) * 4)
    with pytest.raises(UserError, match=r"of model\.in_channels=4"):
        checked_example(example, four)


@pytest.mark.parametrize("channels", [1, 6])
def test_weights_for_colours_serve_other_channels(channels):
    """A grey image, and colours twice, give what they give in colour."""
    config = ModelConfig(width_multiplier=0.35, head_channels=16)
    model = DeepLab(config, rngs=nnx.Rngs(0))
    model.eval()
    image = np.random.default_rng(0).integers(0, 256, (1, 33, 33, 3), np.uint8)
    if channels == 1:
        image = np.repeat(image[..., :1], 3, axis=-1)
    other = image[..., np.arange(channels) % 3]
    wanted = dataclasses.replace(
        config,
        in_channels=channels,
        image_mean=(127.5,) * channels,
        image_std=(127.5,) * channels,
    )
    adapted = adapt_to_channels(weights.from_model(model, {"source": "a"}), wanted)
    served = weights.build_deeplab(weights.model_weights.check(adapted))
    expected = model.backbone.stem(model.normalize(jnp.asarray(image)))
    found = served.backbone.stem(served.normalize(jnp.asarray(other)))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_network_takes_files_arrays_and_pictures_alike(tmp_path):
    config = ModelConfig(
        in_channels=4,
        image_mean=(127.5,) * 4,
        image_std=(127.5,) * 4,
        value_range=(0.0, 250.0),
        width_multiplier=0.35,
        head_channels=16,
        num_classes=2,
    )
    image = made_bands(4)
    paths = [write_bands(tmp_path / name, image) for name in ("array.npy", "side by side.tif")]
    levels = [network_image(given, config) for given in (*paths, image)]
    for found in levels:
        np.testing.assert_array_equal(found, np.rint(image * (255 / 250)))
    eight = dataclasses.replace(config, value_range=())
    picture = Image.fromarray(made_bands(4, np.uint8))
    np.testing.assert_array_equal(network_image(picture, eight), made_bands(4, np.uint8))
    segmenter = Segmenter(DeepLab(config, rngs=nnx.Rngs(0)))
    first, second = segmenter.batch(paths, probabilities=True)
    assert first.photo.shape == (12, 17, 3)
    assert first.overlay(legend=True).width == 17
    np.testing.assert_array_equal(first.probabilities, second.probabilities)
    with pytest.raises(UserError, match="The array has 3 bands, but 4 are wanted"):
        segmenter(made_bands(3))


def _write_folder(root: Path, suffix: str) -> None:
    """Write six images of five bands, of which the last alone tells where the object is."""
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    for index in range(6):
        mask = np.zeros((40, 48), np.uint8)
        mask[5 : 20 + index, 8:30] = 255
        image = np.random.default_rng(index).integers(800, 1200, (40, 48, 5)).astype(np.uint16)
        image[..., 4] += np.where(mask, 3000, 0).astype(np.uint16)
        write_bands(root / f"images/{index}{suffix}", image)
        Image.fromarray(mask).save(root / f"masks/{index}.png")


@pytest.mark.parametrize("suffix", [".npy", ".tif"])
def test_a_folder_of_bands_is_found_out(suffix, tmp_path):
    _write_folder(tmp_path, suffix)
    found = discover(str(tmp_path))
    assert isinstance(found.train, Folder)
    assert found.train.bands == 5
    assert "images of 5 bands" in found.assumed
    example = found.train.open()[0]
    assert (example["image"].dtype, example["image"].shape) == (np.uint16, (40, 48, 5))
    assert len(found.train.open()) + len(found.val.open()) == 6
    digest = found.train.digest()
    assert dataclasses.replace(found.train, bands=4).digest() != digest


def test_labels_beside_bands_may_be_in_several_folders(tmp_path):
    _write_folder(tmp_path / "written", ".npy")
    for index in range(6):
        place = tmp_path / "data" / f"place{index % 2}"
        place.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"written/images/{index}.npy").rename(place / f"{index}.npy")
        (tmp_path / f"written/masks/{index}.png").rename(place / f"{index}.png")
    found = discover(str(tmp_path / "data"))
    assert isinstance(found.train, Folder)
    assert found.train.bands == 5
    assert len(found.train.open()) + len(found.val.open()) == 6


def test_arrays_beside_photographs_are_no_images(tmp_path):
    _write_folder(tmp_path, ".npy")
    (tmp_path / "images").rename(tmp_path / "features")
    (tmp_path / "images").mkdir()
    for index in range(6):
        picture = np.random.default_rng(index).integers(0, 256, (40, 48, 3), np.uint8)
        Image.fromarray(picture).save(tmp_path / f"images/{index}.jpg")
    found = discover(str(tmp_path)).train
    assert isinstance(found, Folder)
    assert (found.images, found.bands) == ("images", 0)


def test_images_of_two_kinds_are_refused(tmp_path):
    _write_folder(tmp_path, ".npy")
    np.save(tmp_path / "images/0.npy", made_bands(4)[:40])
    with pytest.raises(UserError, match=r"0\.npy has 4 bands but .*1\.npy has 5 bands"):
        discover(str(tmp_path))


def test_a_run_on_bands(tmp_path, command_line):
    """From a folder to a report, predictions, a file for elsewhere and the doctor's word."""
    _write_folder(tmp_path / "data", ".npy")
    run = tmp_path / "run"
    status, said = command_line(
        "train",
        f"--config=folder:{tmp_path}/data",
        f"--workdir={run}",
        "--config.train.total_steps=2",
        "--config.train.eval_every=2",
        "--config.train.batch_size=2",
        "--config.data.crop_size=33",
    )
    assert status == 0, said
    assert "the stem's kernels for red, green and blue serve 5 channels" in said
    assert "become the grey levels 0 to 255" in said
    assert (run / "report.html").is_file()
    status, said = command_line(
        "predict", f"--weights={run}", f"--output={tmp_path}/out", f"{tmp_path}/data/images"
    )
    assert status == 0, said
    assert read_image(tmp_path / "out/0.png").shape[:2] == (40, 48)
    assert read_image(tmp_path / "out/0_overlay.jpg").shape[1] == 48
    file = tmp_path / "file.stablehlo"
    status, said = command_line(
        "export", f"--weights={run}", "--format=stablehlo", f"--output={file}", "--size=65"
    )
    assert status == 0, said
    status, said = command_line(
        "doctor",
        f"--config=folder:{tmp_path}/data",
        f"--output={tmp_path}/doctor",
    )
    assert status == 0, said
