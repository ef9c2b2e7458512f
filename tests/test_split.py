"""What a data set sums up to, and the quick look before training."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deeplab_mnv2.data.folder import Folder
from deeplab_mnv2.data.label_files import LabelValues
from deeplab_mnv2.data.palette import voc_palette
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.inspection.split import (
    list_entries,
    median_frequency_weights,
    quick_check,
    survey,
)
from tests.support import damage


@pytest.fixture
def train(tmp_path) -> Folder:
    damage.write_data_set(tmp_path)
    return Folder(root=str(tmp_path), split="train")


def rewrite_labels(data_set: Folder, ids: np.ndarray) -> None:
    for entry in data_set.open().pairs:
        damage.write_label(entry[1], ids)


def test_median_frequency_balancing():
    # Class 0 fills three quarters of two images, class 1 the rest of one, class 2 of the other.
    counts = np.array([[75, 25, 0, 0], [75, 0, 25, 0]])
    assert median_frequency_weights(counts) == [round(1 / 3, 4), 1.0, 1.0, 1.0]
    # In twice as many images, each a half: the frequencies are as before.
    assert median_frequency_weights(np.tile(counts, (2, 1))) == median_frequency_weights(counts)
    # Labels of nothing.
    assert median_frequency_weights(np.zeros((0, 3), int)) == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("vocs", [True, False])
def test_colours_are_given_ids(train, vocs):
    colours = voc_palette() if vocs else np.roll(voc_palette(), 1, axis=1) ^ 7
    ids = damage.label()
    ids[20:] = 2
    for _, path in train.open().pairs:
        Image.fromarray(colours[ids]).save(path)
    found = survey(train, list_entries(train), threads=1)
    note = next(f.message for f in found.findings if f.kind == "colour map")
    assert "6 colours" in note
    # VOC's own colours name their ids; others are numbered from the most frequent.
    common = int.from_bytes(bytes(colours[2]))
    share = 100 * (ids == 2).mean()
    given = "2 (land)" if vocs else "0 (sky)"
    assert f"#{common:06x} ({share:.1f} %) -> {given}" in note


def test_quick_check_passes_a_sound_data_set(train):
    assert quick_check(train, samples=4) == []


def test_quick_check_suspects_one_class(train):
    rewrite_labels(train, np.zeros((48, 64), np.uint8))
    assert "is sky: is it the right folder" in " ".join(quick_check(train))


def test_quick_check_refuses_labels_of_nothing(train):
    rewrite_labels(train, np.full((48, 64), 255, np.uint8))
    with pytest.raises(UserError, match="Every label sampled from train is unlabelled"):
        quick_check(train)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (np.full((48, 64), 9, np.uint8), "neither a class.* 9 "),
        (np.zeros((48, 63), np.uint8), "63 x 48"),
        (np.full((48, 64, 3), (9, 0, 0), np.uint8), "in colour"),
    ],
    ids=["id", "size", "colour"],
)
def test_quick_check_refuses_what_would_stop_training(train, ids, message):
    # The last one: evenly spread examples include both ends.
    Image.fromarray(ids).save(train.open().pairs[-1][1])
    with pytest.raises(UserError, match=message):
        quick_check(train, samples=2)


@dataclasses.dataclass
class ZeroIsUnlabelled(Folder):
    """Classes from 1, as a subclass made them before there were `values`."""

    def open(self):
        source = super().open()
        source = dataclasses.replace(source, meaning=LabelValues(len(self.class_names) + 1))
        examples = [source[index] for index in range(len(source))]
        for example in examples:
            # 0 becomes 255, which is unlabelled.
            example["label"] = example["label"] - np.uint8(1)
        return examples


def test_a_data_set_is_examined_as_it_is_opened(train):
    ids = damage.label()
    ids[ids < 5] += 1
    ids[:4] = 0
    rewrite_labels(train, ids)
    with pytest.raises(UserError, match=r"neither a class's, 0 to 4, nor 255: 5 \("):
        quick_check(train)
    data = ZeroIsUnlabelled(root=train.root, split="train")
    assert quick_check(data) == []
    found = survey(data, list_entries(data), threads=1)
    assert found.pixels.tolist() == (6 * np.bincount(damage.label().ravel())).tolist()
    assert found.void == pytest.approx(4 / 48)
    assert (found.pictures(0)[1] == damage.label()).all()
    # The same by a setting.
    data = dataclasses.replace(train, values=(1, 2, 3, 4, 5))
    assert quick_check(data) == []
    same = survey(data, list_entries(data), threads=1)
    assert same.pixels.tolist() == found.pixels.tolist()
    assert same.images.tolist() == found.images.tolist()
    assert (same.pictures(0)[1] == damage.label()).all()


def test_values_outside_of_a_setting_are_errors(train):
    data = dataclasses.replace(train, values=(0, 1, 2, 3, 7))
    with pytest.raises(UserError, match=r"class's, 0, 1, 2, 3, 7, nor 255: 4 \(528 pixels\)"):
        quick_check(data)
    # They are no class's pixels in the sums: 4 is the number of the last class.
    assert survey(data, list_entries(data), threads=1).pixels[4] == 0


def black_and_white(train: Folder, *labels: np.ndarray) -> Folder:
    """Write labels of two classes."""
    Path(train.root, "classes.txt").write_text("background\nroad\n")
    for (_, path), ids in zip(train.open().pairs, labels, strict=True):
        damage.write_label(path, ids)
    return train


def halves(low: int, high: int) -> np.ndarray:
    ids = np.full((48, 64), low, np.uint8)
    ids[30:] = high
    return ids


def test_masks_of_0_and_255_are_refused(train):
    data = black_and_white(train, *[halves(0, 255)] * 6)
    message = r"6 of 6 labels of train hold 255, .* no 1; if 255 is road .* values=\(0, 255\)"
    with pytest.raises(UserError, match=message):
        quick_check(data)
    found = survey(data, list_entries(data), threads=1)
    assert [f.kind for f in found.findings if f.severity == "error"] == ["black and white"]
    data.values = (0, 255)
    assert quick_check(data) == []
    assert survey(data, list_entries(data), threads=1).pixels[:2].tolist() == [6 * 1920, 6 * 1152]


def test_some_masks_of_0_and_255_are_suspect(train):
    data = black_and_white(train, *[halves(0, 255)] * 2, *[halves(0, 1)] * 4)
    assert "2 of 6 labels of train hold 255" in " ".join(quick_check(data))


def test_void_in_two_classes_is_in_order(train):
    sound = halves(0, 1)
    sound[29:31] = 255
    assert quick_check(black_and_white(train, *[sound] * 5, halves(0, 0))) == []


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"label": np.zeros((48, 64), np.int64)}, r"label \(48, 64\) int64"),
        ({"label": np.zeros((48, 64, 1), np.uint8)}, r"label \(48, 64, 1\) uint8"),
        ({"label": None}, "label NoneType"),
        ({"image": np.zeros((48, 64, 3))}, r"image \(48, 64, 3\) float64"),
        ({"image": np.zeros((48, 64), np.uint8)}, r"image \(48, 64\) uint8"),
        ({"image": np.zeros((0, 64, 3), np.uint8)}, r"image \(0, 64, 3\) uint8"),
        (None, "a NoneType"),
        ((1, 2), "a tuple"),
    ],
)
def test_examples_have_the_declared_form(train, changed, words):
    example = {**train.open()[0], **changed} if isinstance(changed, dict) else changed

    @dataclasses.dataclass
    class Own:
        split: str = "train"
        class_names: tuple[str, ...] = damage.CLASSES

        def open(self):
            return [example]

        def digest(self):
            return "0" * 16

    with pytest.raises(UserError, match=rf"Example 0 of train holds .*{words}.*\(H, W\) uint8 and"):
        quick_check(Own())
    assert any(picture is None for picture in survey(Own(), [0], threads=1).pictures(0))
