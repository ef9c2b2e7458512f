"""Photographs of any size and mode, windows, and what a segmentation shows."""

import dataclasses
import io

import jax.numpy as jnp
import numpy as np
import pytest
import skimage
from PIL import Image

from deeplab_mnv2 import weights
from deeplab_mnv2.data.classes import VOC_CLASSES
from deeplab_mnv2.data.label_files import LabelValues, read_label
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.models.deeplab import DeepLab
from deeplab_mnv2.tasks.segmentation import segmenter as segmenter_module
from deeplab_mnv2.tasks.segmentation import windows as canvas
from deeplab_mnv2.tasks.segmentation.segmenter import Segmentation, Segmenter
from tests.support.networks import apply
from tests.support.random_weights import random_weights


def _model(**settings) -> DeepLab:
    """Return a random network, in evaluation mode, whose logits vary over the image."""
    return weights.build(random_weights(width_multiplier=0.35, head_channels=32, **settings))


def _photo(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return Segmenter(_model())


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"align_corners": False, "padding": "symmetric", "decoder": True, "output_stride": 8},
    ],
)
def test_labels_are_those_of_the_network(settings):
    model = _model(**settings)
    photo = _photo(90, 120)
    # As an evaluation pads it: see `test_pipeline`.
    padded = np.full((1, 129, 129, 3), 128, np.uint8)
    padded[0, :90, :120] = photo
    logits = np.asarray(apply(model, model.normalize(jnp.asarray(padded))))[0, :90, :120]
    found = Segmenter(model)(photo, probabilities=True)
    assert len(np.unique(found.label)) > 1
    assert (found.label == logits.argmax(-1)).mean() > 0.999
    expected = np.exp(logits - logits.max(-1, keepdims=True))
    expected /= expected.sum(-1, keepdims=True)
    np.testing.assert_allclose(found.probabilities, expected, atol=1e-4)
    assert (found.label == found.probabilities.argmax(-1)).all()


def test_training_mode_of_the_given_model_changes_nothing():
    model = _model()
    photo = _photo(60, 50)
    expected = Segmenter(model)(photo).label
    model.train()
    assert (Segmenter(model)(photo).label == expected).all()
    assert not model.backbone.stem.norm.use_running_average


@pytest.mark.parametrize("size", [(1, 1), (1, 200), (200, 3), (129, 129), (130, 97), (40, 320)])
def test_any_size(segmenter, size):
    found = segmenter(_photo(*size))
    assert found.label.shape == size
    assert found.label.dtype == np.uint8
    assert found.probabilities is None


def test_sizes_share_compiled_programs(segmenter):
    segmenter(_photo(70, 100))
    programs = segmenter._head_logits._cache_size(), canvas._labels._cache_size()
    for size in ((71, 100), (98, 98), (129, 128)):
        segmenter(_photo(*size))
    assert programs == (
        segmenter._head_logits._cache_size(),
        canvas._labels._cache_size(),
    )


def _colours_as_logits(graphdef, state, images, *, scales, flip):
    """A network whose logits are the colours at every sixteenth pixel."""
    return jnp.asarray(images[:, ::16, ::16], jnp.float32)


@pytest.fixture
def windows(monkeypatch) -> Segmenter:
    """A segmenter with windows of 65 pixels, and colours for logits."""
    monkeypatch.setattr(canvas, "LARGEST", 65 * 97)
    monkeypatch.setattr(canvas, "WINDOW", 65)
    monkeypatch.setattr(canvas, "OVERLAP", 32)
    monkeypatch.setattr(canvas, "_TILE", 49)
    monkeypatch.setattr(segmenter_module, "_head_logits", _colours_as_logits)
    return Segmenter(_model(num_classes=3), ("red", "green", "blue"), long_side=0)


@pytest.mark.parametrize("size", [(65, 65), (66, 65), (150, 65), (83, 241), (240, 100), (20, 241)])
def test_windows_blend_without_seams(windows, size):
    """Linear ramps are what bilinear interpolation reproduces, whatever the windows."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    photo = np.stack([columns, rows, np.full(size, 70)], axis=-1).astype(np.uint8)
    found = windows(photo, probabilities=True)
    # Behind the last whole grid cell, padding takes part.
    inside = tuple(slice((n - 1) // 16 * 16 + 1) for n in size)
    expected = np.exp(photo - photo.max(-1, keepdims=True).astype(np.float64))
    expected /= expected.sum(-1, keepdims=True)
    np.testing.assert_allclose(found.probabilities[inside], expected[inside], atol=1e-3)


def test_windows_cover_the_photograph_on_the_grid():
    for length in (1, 1025, 1026, 1041, 1800, 4000):
        starts = canvas._starts(length, 1025, 16)
        assert starts[0] == 0
        assert starts[-1] + 1025 >= length > starts[-1]
        assert all(start % 16 == 0 for start in starts)
        gaps = np.diff(starts)
        assert (gaps > 0).all()
        assert (gaps <= 1025 - canvas.OVERLAP + 16).all()


def test_long_photographs_are_scaled_down_and_labelled_at_their_own_size():
    model = _model()
    small = _photo(12, 10)
    photo = small.repeat(40, axis=0).repeat(40, axis=1)  # (480, 400, 3)
    found = Segmenter(model, long_side=120)(photo).label
    assert found.shape == (480, 400)
    reduced = Segmenter(model)(small.repeat(10, axis=0).repeat(10, axis=1)).label
    assert (found[2::4, 2::4] == reduced).mean() > 0.97


def test_photographs_are_scaled_to_what_the_network_knows_unless_told_otherwise():
    model, photo = _model(long_side=65), _photo(200, 180)
    np.testing.assert_array_equal(
        Segmenter(model)(photo).label, Segmenter(model, long_side=65)(photo).label
    )
    assert Segmenter(model, long_side=0).long_side == 0


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA", "LA", "CMYK", "I;16", "YCbCr"])
def test_any_mode_as_file_and_as_image(segmenter, tmp_path, mode):
    if mode == "I;16":
        image = Image.fromarray((_photo(40, 30)[..., 0].astype(np.uint16)) * 257)
    else:
        image = Image.fromarray(_photo(40, 30)).convert(mode)
    path = tmp_path / "photo.tiff"
    image.save(path)
    from_file = segmenter(path)
    assert from_file.path == path
    assert (from_file.photo == segmenter(image).photo).all()
    assert (from_file.label == segmenter(np.asarray(from_file.photo)).label).all()


def test_exif_orientation_is_honoured(segmenter, tmp_path):
    upright = _photo(40, 30)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
    path = tmp_path / "turned.png"
    Image.fromarray(np.rot90(upright)).save(path, exif=exif)
    for photo in (path, Image.open(path)):
        found = segmenter(photo)
        assert (found.photo == upright).all()
        assert (found.label == segmenter(upright).label).all()


def test_batch_gives_each_photograph_what_it_gets_alone(segmenter, tmp_path):
    photos = [_photo(40, 30, 1), _photo(200, 90, 2), _photo(20, 60, 3), _photo(40, 30, 4)]
    path = tmp_path / "photo.png"
    Image.fromarray(photos[1]).save(path)
    given = [photos[0], path, *photos[2:]]
    found = list(segmenter.batch(iter(given), probabilities=True))
    assert len(found) == len(given)
    for one, photo in zip(found, given, strict=True):
        alone = segmenter(photo, probabilities=True)
        assert (one.label == alone.label).all()
        np.testing.assert_allclose(one.probabilities, alone.probabilities, atol=1e-5)


@pytest.mark.parametrize("batch_size", [2, 3])
def test_an_accelerators_batches_give_the_same(monkeypatch, segmenter, batch_size):
    photos = [_photo(40, 30, 1), _photo(200, 90, 2), _photo(20, 60, 3), _photo(40, 30, 4)]
    expected = [segmenter(photo).label for photo in photos]
    monkeypatch.setattr(segmenter, "_batch_size", batch_size)
    for one, label in zip(segmenter.batch(photos), expected, strict=True):
        assert (one.label == label).mean() > 0.999


def test_batch_reads_no_further_ahead_than_needed(segmenter):
    taken = []

    def photos():
        for index in range(100):
            taken.append(index)
            yield _photo(10, 10, index)

    found = segmenter.batch(photos())
    next(found)
    assert len(taken) < 10


def test_batch_leaves_out_what_cannot_be_read(segmenter, tmp_path):
    damaged = tmp_path / "damaged.jpg"
    damaged.write_bytes(b"no photograph")
    photos = [_photo(10, 20), damaged, _photo(20, 10)]
    failed = []
    found = list(segmenter.batch(photos, on_error=lambda *what: failed.append(what)))
    assert [one.label.shape for one in found] == [(10, 20), (20, 10)]
    assert [photo for photo, _ in failed] == [damaged]
    with pytest.raises(UserError, match=r"damaged\.jpg"):
        list(segmenter.batch(photos))


@pytest.mark.parametrize(
    "photo",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_other_arrays_are_refused(segmenter, photo):
    with pytest.raises(UserError, match="no photograph"):
        segmenter(photo)


def test_class_names():
    model = _model(num_classes=2)
    assert Segmenter(model).class_names == ("class 0", "class 1")
    assert Segmenter(model, ["sky", "ground"]).class_names == ("sky", "ground")
    with pytest.raises(UserError, match="3 class names"):
        Segmenter(model, ["a", "b", "c"])


def test_a_files_class_names_come_along(tmp_path):
    given = random_weights(num_classes=2, width_multiplier=0.35, head_channels=32)
    named = dataclasses.replace(given, class_names=("sky", "ground"))
    weights.save(tmp_path / "net.safetensors", named)
    loaded = Segmenter.load(tmp_path / "net.safetensors")
    assert loaded.class_names == ("sky", "ground")
    assert set(loaded(_photo(20, 30)).classes()) <= {"sky", "ground"}
    assert Segmenter.load(tmp_path / "net.safetensors", ["a", "b"]).class_names == ("a", "b")


@pytest.fixture
def segmentation() -> Segmentation:
    label = np.zeros((600, 40), np.uint8)
    label[:150, :20] = 2
    label[300:, 20:] = 1
    return Segmentation(_photo(600, 40), label, ("background", "<cat>", "dog"))


def test_classes_are_sorted_shares(segmentation):
    assert segmentation.classes() == {"background": 0.625, "<cat>": 0.25, "dog": 0.125}
    assert list(segmentation.classes()) == ["background", "<cat>", "dog"]
    assert repr(segmentation) == (
        "Segmentation(40 x 600: background 62.5%, <cat> 25.0%, dog 12.5%)"
    )


def test_classes_of_one_name_are_one(segmentation):
    of_one_name = dataclasses.replace(segmentation, class_names=("background", "cat", "cat"))
    assert of_one_name.classes() == {"background": 0.625, "cat": 0.375}


def test_palette_image_is_a_label_file(segmentation, tmp_path):
    segmentation.palette_image().save(tmp_path / "label.png")
    assert (read_label(tmp_path / "label.png", LabelValues(3)) == segmentation.label).all()
    colours = np.asarray(segmentation.palette_image().convert("RGB"))
    assert colours[599, 39].tolist() == [128, 0, 0]  # VOC's first class


def test_overlay_paints_classes_and_leaves_background(segmentation):
    painted = np.asarray(segmentation.overlay(opacity=1.0))
    background = segmentation.label == 0
    assert (painted[background] == segmentation.photo[background]).all()
    assert (painted[segmentation.label == 2] == (0, 128, 0)).all()


def test_notebook_representations(segmentation):
    page = segmentation._repr_html_()
    assert page.count("data:image/jpeg;base64,") == 2
    assert "&lt;cat&gt; 25.0%" in page
    assert "http" not in page
    assert Image.open(io.BytesIO(segmentation._repr_png_())).height == 320


def test_published_weights_segment_a_photograph(shared):
    path = shared / "weights" / "deeplabv3_mnv2_dm05_pascal_quant.tflite"
    found = Segmenter.load(path)(shared / "voc2012" / "JPEGImages" / "2007_000033.jpg")
    label = read_label(
        shared / "voc2012" / "SegmentationClassAug" / "2007_000033.png", LabelValues(21)
    )
    labelled = label != 255
    assert (found.label == label)[labelled].mean() > 0.9
    assert list(found.classes())[:2] == ["background", "aeroplane"]


def test_without_a_file_the_packages_weights_find_a_cat():
    segmenter = Segmenter.load()
    assert segmenter.class_names == VOC_CLASSES
    assert segmenter(skimage.data.chelsea()).classes()["cat"] > 0.5
