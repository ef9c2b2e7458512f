"""What a data set sums up to, and the quick look before training."""

import numpy as np
import pytest
from PIL import Image

from deeplab_mnv2.data.classes import voc_palette
from deeplab_mnv2.data.folder import Folder
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
        (np.zeros((48, 64, 3), np.uint8), "in colour"),
    ],
    ids=["id", "size", "colour"],
)
def test_quick_check_refuses_what_would_stop_training(train, ids, message):
    # The last one: evenly spread examples include both ends.
    Image.fromarray(ids).save(train.open().pairs[-1][1])
    with pytest.raises(UserError, match=message):
        quick_check(train, samples=2)
