"""Boxes follow the pixels of their objects through every transform."""

import numpy as np
import pytest

from deeplab_mnv2.data.shapes_boxes import ShapesBoxes
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.tasks.detection import windows
from deeplab_mnv2.tasks.detection.transforms import (
    augment,
    check_example,
    flip_boxes,
    pad_boxes,
    resample,
    resize,
    resize_legacy,
)

GREY = (128, 128, 128)
COLOURS = np.array([(255, 0, 0), (0, 255, 0), (0, 0, 255)], np.uint8)


def rectangles(rng: np.random.Generator) -> dict:
    """Return an example of three plain rectangles on black that do not touch."""
    height, width = rng.integers(90, 240, 2)
    image = np.zeros((height, width, 3), np.uint8)
    boxes = []
    for index, colour in enumerate(COLOURS):
        # Each in its own third of the columns.
        left = int(width * index / 3 + rng.integers(2, width // 9))
        right = int(width * (index + 1) / 3 - rng.integers(2, width // 9))
        top, bottom = int(rng.integers(2, height // 3)), int(height - rng.integers(2, height // 3))
        image[top:bottom, left:right] = colour
        boxes.append((top / height, left / width, bottom / height, right / width))
    return {
        "image": image,
        "boxes": np.array(boxes, np.float32),
        "label": np.arange(3),
        "ignore": np.array([False, True, False]),
        "area": np.ones(3),
        "name": "rectangles",
    }


def found_again(image: np.ndarray, label: int) -> np.ndarray | None:
    """Return the box of the pixels of a rectangle's colour, in pixels; None where it has none."""
    own = image[..., label].astype(int)
    others = np.delete(image, label, axis=-1).max(axis=-1)
    rows, columns = np.nonzero((own >= 128) & (others < 120))
    if not len(rows):
        return None
    return np.array([rows.min(), columns.min(), rows.max() + 1, columns.max() + 1])


SETTINGS = {
    "size": 160,
    "flip": False,
    "photometric": False,
    "crop": False,
    "zoom_out": 0.0,
    "mean_pixel": GREY,
    "max_boxes": 5,
}


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"flip": True},
        {"crop": True},
        {"zoom_out": 1.0},
        {"flip": True, "crop": True, "zoom_out": 0.5},
    ],
)
def test_boxes_follow_their_pixels(changed):
    compared = dropped = 0
    for seed in range(80):
        rng = np.random.default_rng(seed)
        result = augment(rectangles(rng), rng, **(SETTINGS | changed))
        boxes = result["boxes"][result["valid"]] * 160
        labels = result["label"][result["valid"]]
        assert np.array_equal(result["ignore"][result["valid"]], labels == 1)
        for box, label in zip(boxes, labels, strict=True):
            found = found_again(result["image"], label)
            if found is None:
                # Only of slivers nothing is left.
                assert (box[2:] - box[:2]).min() < 1
                continue
            np.testing.assert_allclose(found, box, atol=1.5)
            compared += 1
        dropped += 3 - len(labels)
    assert compared > 60
    assert (dropped > 0) == ("crop" in changed)


def test_flips_both_ways_and_flipping_twice_changes_nothing():
    example = rectangles(np.random.default_rng(0))
    boxes = example["boxes"]
    np.testing.assert_allclose(flip_boxes(flip_boxes(boxes)), boxes, atol=1e-6)
    results = [
        augment(example, np.random.default_rng(seed), **(SETTINGS | {"flip": True}))
        for seed in range(20)
    ]
    firsts = {float(result["boxes"][0, 1].round(3)) for result in results}
    assert firsts == {float(boxes[0, 1].round(3)), float((1 - boxes[0, 3]).round(3))}


def test_crops_leave_no_box_outside_or_inverted():
    counts = []
    everything = {"crop": True, "zoom_out": 0.5, "flip": True, "photometric": True}
    source = ShapesBoxes(length=40).open()
    for seed in range(200):
        result = augment(source[seed % 40], np.random.default_rng(seed), **(SETTINGS | everything))
        boxes, valid = result["boxes"], result["valid"]
        assert (boxes >= 0).all()
        assert (boxes <= 1).all()
        assert (boxes[valid, 2:] > boxes[valid, :2]).all()
        assert not boxes[~valid].any()
        counts.append(valid.sum())
    assert min(counts) < max(counts) <= 5


def test_the_same_random_numbers_give_the_same_example():
    example = ShapesBoxes().open()[0]
    everything = SETTINGS | {"crop": True, "zoom_out": 0.5, "flip": True, "photometric": True}
    before = {key: np.copy(value) for key, value in example.items()}
    first, again, other = (
        augment(example, np.random.default_rng(seed), **everything) for seed in (3, 3, 4)
    )
    for key, value in first.items():
        np.testing.assert_array_equal(value, again[key])
    assert not np.array_equal(first["image"], other["image"])
    for key, value in before.items():
        np.testing.assert_array_equal(value, example[key])


def test_crops_are_as_ssd_draws_them():
    boxes = np.array([[0.1, 0.1, 0.3, 0.4], [0.5, 0.5, 0.9, 0.9]])
    rng = np.random.default_rng(0)
    whole, seen, one_is_enough = 0, set(), False
    for _ in range(3000):
        window, least = windows.crop_window(rng, boxes, 200, 300)
        top, left, height, width = window
        if window == (0, 0, 200, 300):
            whole += 1
            assert least == 0
            continue
        assert top >= 0
        assert left >= 0
        assert top + height <= 200 + 1e-6
        assert left + width <= 300 + 1e-6
        assert 0.5 - 1e-6 <= width / height <= 2 + 1e-6
        assert 0.1 - 1e-6 <= height * width / (200 * 300) <= 1
        shares = windows.shown_shares(boxes, (200, 300), window)
        assert shares.max() >= least - 1e-6
        seen.add(least)
        one_is_enough |= shares.min() < least
    assert one_is_enough
    assert seen == set(windows.LEAST_SHARES)
    assert 0.13 < whole / 3000 < 0.17


def test_a_crop_drops_what_it_shows_too_little_of():
    boxes = np.array([[0, 0, 1, 0.4], [0, 0.45, 1, 0.55]], np.float32)
    window = (0.0, 50.0, 100.0, 50.0)  # the right half, which shows half of the second box
    for least, expected in ((0.0, 1), (0.5, 1), (0.7, 0)):
        shown, kept = windows.boxes_in_window(boxes, (100, 100), window, least)
        assert kept.tolist() == [False, bool(expected)]
        assert shown.shape == (expected, 4)
    shown, _ = windows.boxes_in_window(boxes, (100, 100), window, 0.0)
    np.testing.assert_allclose(shown, [[0, 0, 1, 0.1]], atol=1e-6)


def test_what_is_to_be_ignored_stays_so_however_little_a_crop_shows_of_it():
    example = {
        "image": np.zeros((100, 100, 3), np.uint8),
        "boxes": np.array([[0, 0, 1, 0.6], [0.3, 0.7, 0.6, 0.9]], np.float32),
        "label": np.array([0, 1]),
        "ignore": np.array([True, False]),
    }
    example["image"][:, :60, 0] = 255
    gone = []
    for seed in range(300):
        found = augment(example, np.random.default_rng(seed), **(SETTINGS | {"crop": True}))
        share = np.mean(found["image"][..., 0] > 200)
        gone.append(share > 0.02 and not found["ignore"].any())
    assert sum(gone) == 0


def test_images_without_boxes_and_of_extreme_shapes_can_be_cropped():
    for shape in ((60, 80), (1, 400), (400, 1), (1, 1)):
        example = {
            "image": np.full((*shape, 3), 200, np.uint8),
            "boxes": np.zeros((0, 4), np.float32),
            "label": np.zeros(0, np.int64),
            "ignore": np.zeros(0, bool),
        }
        for seed in range(20):
            settings = SETTINGS | {"crop": True, "zoom_out": 0.0, "photometric": False}
            result = augment(example, np.random.default_rng(seed), **settings)
            assert not result["valid"].any()
            # Nothing of the padding is shown.
            assert (result["image"] == 200).all()


def test_zooming_out_shows_the_whole_image_on_the_mean_pixel():
    rng = np.random.default_rng(0)
    ratios = []
    for _ in range(200):
        top, left, height, width = windows.zoom_out_window(rng, 60, 90)
        assert top <= 0 <= 60 <= top + height + 1e-9
        assert left <= 0 <= 90 <= left + width + 1e-9
        assert height / 60 == pytest.approx(width / 90)
        ratios.append(height / 60)
    assert 1 <= min(ratios) < 1.2
    assert 3.8 < max(ratios) <= 4
    image = np.full((60, 90, 3), 200, np.uint8)
    result = resample(image, (-60.0, -90.0, 180.0, 270.0), 90, (1, 2, 3))
    assert (result[30:60, 30:60] == 200).all()
    result[30:60, 30:60] = (1, 2, 3)
    assert (result == (1, 2, 3)).all()


def test_resampling_the_whole_image_is_resizing():
    image = ShapesBoxes().open()[0]["image"]
    height, width = image.shape[:2]
    ours = resample(image, (0.0, 0.0, float(height), float(width)), 64, GREY)
    difference = np.abs(ours.astype(int) - resize(image, 64))
    # OpenCV places warped pixels at 32nds.
    assert difference.mean() < 1
    np.testing.assert_array_equal(
        resample(image[:64, :64], (0.0, 0.0, 64.0, 64.0), 64, GREY), image[:64, :64]
    )


def test_legacy_resizing_by_hand():
    # From 2 to 4: places 0, 0.5, 1, 1.5, of which the last repeats the edge.
    image = np.array([[[0], [100]], [[40], [60]]], np.uint8).repeat(3, axis=2)
    result = resize_legacy(image, 4)
    assert result.dtype == np.float32
    np.testing.assert_array_equal(
        result[..., 0], [[0, 50, 100, 100], [20, 50, 80, 80], [40, 50, 60, 60], [40, 50, 60, 60]]
    )
    # From 5 to 2: places 0 and 2.5.
    row = np.arange(5, dtype=np.uint8)[None, :, None].repeat(3, axis=2) * 10
    np.testing.assert_array_equal(resize_legacy(row, 2)[..., 0], [[0, 25], [0, 25]])
    same = ShapesBoxes().open()[0]["image"][:60, :60]
    np.testing.assert_array_equal(resize_legacy(same, 60), same)


def test_legacy_resizing_pixel_by_pixel():
    image = np.random.default_rng(0).integers(0, 256, (7, 11, 3)).astype(np.uint8)
    result = resize_legacy(image, 9)
    for row, column in np.ndindex(9, 9):
        y, x = row * 7 / 9, column * 11 / 9
        top, left = int(y), int(x)
        bottom, right = min(top + 1, 6), min(left + 1, 10)
        down, across = y - top, x - left
        above = image[top, left] * (1 - across) + image[top, right] * across
        below = image[bottom, left] * (1 - across) + image[bottom, right] * across
        np.testing.assert_allclose(
            result[row, column], above * (1 - down) + below * down, atol=1e-3
        )


def test_padding_keeps_the_first_boxes():
    example = rectangles(np.random.default_rng(0))
    few, many = pad_boxes(example, 2), pad_boxes(example, 4)
    assert few["label"].tolist() == [0, 1]
    assert few["valid"].all()
    assert many["valid"].tolist() == [True] * 3 + [False]
    assert not many["boxes"][3].any()
    types = {key: str(value.dtype) for key, value in many.items()}
    assert types == {"boxes": "float32", "label": "int32", "ignore": "bool", "valid": "bool"}


def test_sound_examples_pass():
    check_example(ShapesBoxes().open()[0], 20)
    check_example(rectangles(np.random.default_rng(0)), 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": np.zeros((4, 4), np.uint8)}, r"the image uint8\(4, 4\)"),
        ({"image": np.zeros((4, 4, 3))}, "the image float64"),
        ({"image": None}, "the image NoneType"),
        ({"boxes": np.zeros((3, 5))}, "the boxes"),
        ({"label": np.zeros(3)}, "the label float64"),
        ({"label": None}, "the label NoneType"),
        ({"ignore": np.zeros(2, bool)}, "the ignore"),
        ({"area": None}, "the area NoneType"),
        ({"label": np.array([0, 1, 3])}, "holds the class 3, but there are 3"),
        ({"label": np.array([0, -1, 2])}, "holds the class -1"),
        ({"boxes": np.array([[0, 0, 1, 1.5]] * 3)}, r"holds the box \[0.0, 0.0, 1.0, 1.5\]"),
        ({"boxes": np.array([[0, 0, 0, 0.5]] * 3)}, "holds the box"),
        ({"boxes": np.array([[0, 0, np.nan, 1]] * 3)}, "holds the box"),
    ],
)
def test_unsound_examples_are_refused(change, message):
    example = rectangles(np.random.default_rng(0)) | change
    with pytest.raises(UserError, match=f"rectangles (has |){message}"):
        check_example(example, 3)
