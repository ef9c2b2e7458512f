"""What the pictures show, pixel by pixel."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from deeplab_mnv2.config import IGNORE_LABEL
from deeplab_mnv2.tasks.segmentation.drawing import (
    add_legend,
    change_layer_uri,
    class_layer_uri,
    colourize,
    error_layer_uri,
    errors,
    overlay,
    photo_uri,
)

LABEL = np.array([[0, 1, 2], [1, 1, IGNORE_LABEL]], np.uint8)
IMAGE = np.full((2, 3, 3), 100, np.uint8)


def decoded(uri: str) -> np.ndarray:
    head, code = uri.split(",")
    assert head in ("data:image/png;base64", "data:image/jpeg;base64")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(code))).convert("RGBA"))


def test_colours_are_voc_s():
    assert colourize(LABEL)[0].tolist() == [[0, 0, 0], [128, 0, 0], [0, 128, 0]]


def test_overlay_leaves_background_and_void_bare():
    painted = overlay(IMAGE, LABEL, opacity=0.5)
    bare = (LABEL == 0) | (LABEL == IGNORE_LABEL)
    np.testing.assert_array_equal(painted[bare], IMAGE[bare])
    assert painted[0, 1].tolist() == [114, 50, 50]


def test_a_legend_names_the_colours_below_the_picture():
    picture = Image.new("RGB", (200, 60), "red")
    assert add_legend(picture, []) is picture
    one = np.asarray(add_legend(picture, [(2, "cat")]))
    assert (one[:60] == np.asarray(picture)).all()
    strip = one[60:].reshape(-1, 3).tolist()
    # Green is the second class's colour; the text is black on white.
    assert [0, 128, 0] in strip
    assert [255, 255, 255] in strip
    assert min(map(sum, strip)) < 60
    assert [128, 0, 0] not in strip
    # As many lines as the names take.
    many = add_legend(picture, [(index, "tricycle") for index in range(1, 9)])
    assert many.height - 60 == 4 * (len(one) - 60)
    assert many.width == 200


def test_errors_are_red_and_void_white():
    prediction = np.array([[0, 2, 2], [1, 0, 1]], np.uint8)
    picture = errors(IMAGE, LABEL, prediction)
    wrong = np.array([[0, 1, 0], [0, 1, 0]], bool)
    assert (picture[wrong] == picture[0, 1]).all()
    assert picture[0, 1, 0] > 200 > picture[0, 1, 1]
    assert picture[1, 2].tolist() == [255] * 3
    assert (picture[0, 0] < IMAGE[0, 0]).all()
    layer = decoded(error_layer_uri(LABEL, prediction, 100))
    np.testing.assert_array_equal(layer[..., 3] > 0, wrong | (LABEL == IGNORE_LABEL))
    np.testing.assert_array_equal(layer[wrong][:, :3], picture[wrong])


def test_class_layer_shows_the_image_through():
    layer = decoded(class_layer_uri(LABEL, 100, opacity=0.6))
    assert layer[0, 0, 3] == 0
    assert layer[0, 1].tolist() == [128, 0, 0, 153]
    assert layer[1, 2].tolist() == [255, 255, 255, 153]


def test_change_layer_tells_mended_from_broken():
    first = np.array([[0, 2, 2], [1, 0, 0]], np.uint8)
    second = np.array([[1, 1, 2], [1, 2, 1]], np.uint8)
    layer = decoded(change_layer_uri(LABEL, first, second, 100))
    # Both wrong, both right and void leave the image as it is.
    np.testing.assert_array_equal(layer[..., 3] > 0, [[1, 1, 0], [0, 0, 0]])
    broken, mended = layer[0, 0], layer[0, 1]
    assert broken[0] > broken[2]
    assert mended[2] > mended[0]


@pytest.mark.parametrize(("shape", "expected"), [((90, 30), (40, 13)), ((20, 50), (20, 50))])
def test_pictures_are_shrunk_and_never_enlarged(shape, expected):
    label = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape) % 21
    image = np.repeat(label[..., None], 3, axis=-1)
    assert decoded(photo_uri(image, 40)).shape[:2] == expected
    layer = decoded(class_layer_uri(label, 40))
    assert layer.shape[:2] == expected
    # Class ids are picked, never mixed.
    assert {tuple(c) for c in layer[layer[..., 3] > 0][:, :3]} <= set(
        map(tuple, colourize(np.arange(21, dtype=np.uint8)))
    )
