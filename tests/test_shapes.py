import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from deeplab_mnv2.config import IGNORE_LABEL
from deeplab_mnv2.data.shapes import Shapes
from deeplab_mnv2.errors import UserError


def test_scenes_are_a_function_of_seed_split_and_index():
    first, again = Shapes().open(), Shapes().open()
    for index in (0, 7, 4000):
        np.testing.assert_array_equal(first[index]["image"], again[index]["image"])
        np.testing.assert_array_equal(first[index]["label"], again[index]["label"])
    others = [Shapes(seed=1).open()[0], Shapes(split="val").open()[0], first[1]]
    for other in others:
        assert not np.array_equal(other["image"], first[0]["image"])


def test_scenes_have_the_declared_form():
    dataset = Shapes(length=60, size=97)
    source = dataset.open()
    seen = set()
    for index in range(len(source)):
        example = source[index]
        height, width, channels = example["image"].shape
        assert 72 <= height <= 97
        assert 72 <= width <= 97
        assert channels == 3
        assert example["image"].dtype == example["label"].dtype == np.uint8
        assert example["label"].shape == (height, width)
        seen |= set(np.unique(example["label"]).tolist())
    assert seen == {*range(len(dataset.class_names)), IGNORE_LABEL}
    assert len(dataset.class_names) == 21


def test_every_object_has_an_unlabelled_outline():
    label = Shapes().open()[3]["label"]
    beside = (label[:, 1:] != label[:, :-1]) & (label[:, 1:] != IGNORE_LABEL)
    assert not (beside & (label[:, :-1] != IGNORE_LABEL)).any()


def test_a_linear_classifier_on_colour_fails():
    source = Shapes(length=80).open()
    pixels, classes = [], []
    rng = np.random.default_rng(0)
    for index in range(len(source)):
        example = source[index]
        objects = (example["label"] > 0) & (example["label"] != IGNORE_LABEL)
        if not objects.any():
            continue
        chosen = rng.choice(np.flatnonzero(objects), size=60)
        pixels.append(example["image"].reshape(-1, 3)[chosen] / 255)
        classes.append(example["label"].reshape(-1)[chosen])
    half = len(pixels) // 2
    model = LogisticRegression(max_iter=200).fit(
        np.concatenate(pixels[:half]), np.concatenate(classes[:half])
    )
    accuracy = model.score(np.concatenate(pixels[half:]), np.concatenate(classes[half:]))
    # A hue leaves one shape in five.
    assert accuracy < 0.3


def test_digest_tells_data_sets_apart():
    digests = {Shapes().digest(), Shapes(seed=1).digest(), Shapes(split="val").digest()}
    assert len(digests) == 3
    assert Shapes().digest() == Shapes().digest()


@pytest.mark.parametrize("split", ["test", ""])
def test_unknown_split_is_named(split):
    with pytest.raises(UserError, match="split"):
        Shapes(split=split).open()


def test_scenes_end_where_they_are_said_to():
    source = Shapes(length=3, size=33).open()
    names = [example["name"] for example in source]
    assert names == ["scene_00000", "scene_00001", "scene_00002"]
    assert source[-1]["name"] == names[-1]
    np.testing.assert_array_equal(source[np.int64(-1)]["image"], source[2]["image"])
    for index in (3, -4):
        with pytest.raises(IndexError):
            source[index]


@pytest.mark.parametrize("settings", [{"length": -1}, {"size": 7}, {"seed": -1}])
def test_settings_out_of_range_are_named(settings):
    name = next(iter(settings))
    with pytest.raises(UserError, match=rf"Shapes\.{name}=-?\d is out of range"):
        Shapes(**settings).open()


def test_the_smallest_scenes_can_be_drawn():
    for seed in range(3):
        for example in Shapes(length=30, size=8, seed=seed).open():
            assert example["image"].shape[:2] == example["label"].shape
            assert min(example["label"].shape) >= 6


def test_a_setting_that_does_not_exist_is_refused():
    with pytest.raises(UserError, match=r"Shapes\.lenght; did you mean Shapes\.length\?"):
        Shapes().lenght = 3  # pyright: ignore[reportAttributeAccessIssue]
