import dataclasses

import numpy as np
import pytest

from deeplab_mnv2.cli import experiment
from deeplab_mnv2.config import (
    IGNORE_LABEL,
    PAD_SIZES,
    Config,
    DataConfig,
    EvaluationConfig,
    ModelConfig,
)
from deeplab_mnv2.data.pipeline import (
    Chosen,
    _Indexed,
    _Tolerant,
    evaluation_batches,
    training_batches,
)
from deeplab_mnv2.data.shapes import Shapes
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.tasks.segmentation.padding import FILL, PrepareForScoring, padded_shape
from deeplab_mnv2.tasks.segmentation.task import SegmentationTask

MODEL = ModelConfig()


@pytest.fixture
def config() -> DataConfig:
    return DataConfig(
        train=Shapes(length=10, size=49), val=Shapes(split="val", length=7, size=49), crop_size=33
    )


def batches_of(source, config, **settings):
    task = SegmentationTask(Config(data=config, model=MODEL), MODEL)
    return training_batches(
        source, config, task.augment, num_classes=MODEL.num_classes, **{"seed": 0, **settings}
    )


def take(config, number, **settings):
    batches = batches_of(config.train.open(), config, **{"batch_size": 4, "seed": 3, **settings})
    return [next(batches) for _ in range(number)]


def assert_equal(first, second):
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one["image"], other["image"])
        np.testing.assert_array_equal(one["label"], other["label"])
        np.testing.assert_array_equal(one["name"], other["name"])


def test_batches_have_the_declared_form(config):
    (batch,) = take(config, 1)
    assert set(batch) == {"image", "label", "name", "damage"}
    assert batch["image"].shape == (4, 33, 33, 3)
    assert batch["label"].shape == (4, 33, 33)
    assert batch["image"].dtype == batch["label"].dtype == np.uint8


@pytest.mark.parametrize("change", [{"threads": 1}, {"threads": 7}, {"workers": 2}])
def test_same_bits_for_any_number_of_readers(config, change):
    assert_equal(take(config, 6), take(dataclasses.replace(config, **change), 6))


def test_starting_at_a_step_equals_having_got_there(config):
    assert_equal(take(config, 8)[5:], take(config, 3, first_step=5))


def test_another_seed_is_another_order(config):
    first, second = take(config, 1)[0], take(config, 1, seed=4)[0]
    assert not np.array_equal(first["image"], second["image"])


def test_epochs_hold_every_example_once_in_new_orders(config):
    # Crops as large as the scenes, so that each scene is recognised by its label.
    config = dataclasses.replace(config, crop_size=49, scale_range=(1.0, 1.0), flip=False)
    batches = take(config, 4, batch_size=5)
    marks = [label.tobytes() for batch in batches for label in batch["label"]]
    assert len(set(marks[:10])) == len(set(marks[10:])) == 10
    assert set(marks[:10]) == set(marks[10:])
    assert marks[:10] != marks[10:]


def test_repeated_augmentation_shows_an_image_in_a_row_and_augments_each_time(config):
    config = dataclasses.replace(config, repeated_augmentation=2)
    batches = take(config, 10)
    names = np.concatenate([batch["name"] for batch in batches])
    np.testing.assert_array_equal(names[::2], names[1::2])
    # Two epochs, each of every image once, in another order.
    first, second = names[:20:2].tolist(), names[20::2].tolist()
    assert len({*first}) == 10
    assert sorted(first) == sorted(second)
    assert first != second
    for batch in batches:
        assert not np.array_equal(batch["image"][0], batch["image"][1])
    assert_equal(batches[6:], take(config, 4, first_step=6))
    assert_equal(batches[:3], take(dataclasses.replace(config, workers=2), 3))


def test_a_share_of_the_examples_comes_with_another_one(config):
    class Marked:
        def __len__(self):
            return 10

        def __getitem__(self, index):
            return {"name": str(range(10)[index])}

    def seen(example, rng):
        return {"other": np.array(int(example["other"]["name"]) if "other" in example else -1)}

    config = dataclasses.replace(config, paste=0.3)
    batches = training_batches(Marked(), config, seen, num_classes=2, batch_size=100, seed=0)
    others = np.concatenate([next(batches)["other"] for _ in range(10)])
    assert np.mean(others >= 0) == pytest.approx(0.3, abs=0.05)
    assert set(others) == {-1, *range(10)}
    without = dataclasses.replace(config, paste=0.0)
    batches = training_batches(Marked(), without, seen, num_classes=2, batch_size=100, seed=0)
    assert set(next(batches)["other"]) == {-1}


def test_pasting_changes_labels_and_resumes_to_the_same_bits(config):
    config = dataclasses.replace(config, paste=1.0, crop_size=49, scale_range=(1.0, 1.0))
    pasted = take(config, 6)
    plain = take(dataclasses.replace(config, paste=0.0), 6)
    for one, other in zip(pasted, plain, strict=True):
        assert not np.array_equal(one["label"], other["label"])
    assert_equal(pasted[4:], take(config, 2, first_step=4))
    assert_equal(pasted[:3], take(dataclasses.replace(config, workers=2), 3))


def test_processes_share_the_global_batch(config):
    whole = take(config, 3)
    parts = [take(config, 3, process_index=i, process_count=2) for i in range(2)]
    for step in range(3):
        joined = np.concatenate([part[step]["image"] for part in parts])
        np.testing.assert_array_equal(joined, whole[step]["image"])


def test_first_examples_only(config):
    config = dataclasses.replace(
        config, train_examples=2, crop_size=49, scale_range=(1.0, 1.0), flip=False
    )
    marks = {label.tobytes() for batch in take(config, 5) for label in batch["label"]}
    assert len(marks) == 2


def test_an_empty_split_is_named(config):
    with pytest.raises(UserError, match=r"data\.train"):
        batches_of([], config, batch_size=2)


def test_evaluation_covers_every_example_once_in_static_shapes(config):
    source = config.val.open()
    settings = EvaluationConfig(pad_sizes=(49, 65))
    prepare = PrepareForScoring(settings, MODEL)
    batches = list(evaluation_batches(source, prepare, threads=2, batch_size=3, fill=FILL))
    assert [batch["image"].shape for batch in batches] == [(3, 49, 49, 3)] * 3
    assert sorted(i for batch in batches for i in batch["index"]) == list(range(7))
    assert len(batches[-1]["index"]) == 1
    assert (batches[-1]["label"][1:] == IGNORE_LABEL).all()
    for batch in batches:
        for row, index in enumerate(batch["index"]):
            example = source[index]
            height, width = batch["size"][row]
            assert batch["name"][row] == example["name"]
            np.testing.assert_array_equal(batch["image"][row, :height, :width], example["image"])
            np.testing.assert_array_equal(batch["label"][row, :height, :width], example["label"])
            assert (batch["label"][row, height:] == IGNORE_LABEL).all()


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((200, 257), (257, 257)),
        ((250, 350), (513, 513)),
        ((513, 257), (513, 513)),
        ((513, 256), (513, 257)),  # more than 1:2
        ((514, 500), (1025, 513)),  # more than 513
        ((60, 10_000), (257, 10_241)),
        ((3000, 4000), (3073, 4097)),
    ],
)
def test_shapes_that_images_are_padded_to(size, expected):
    assert padded_shape(size, (257, 513), 16) == expected


@pytest.mark.parametrize(
    "size", [(1, 1), (60, 60), (97, 73), (130, 97), (600, 400), (150, 1200), (60, 10_000)]
)
@pytest.mark.parametrize("stride", [8, 16, 32])
def test_by_default_no_side_grows_by_more_than_half(size, stride):
    shape = padded_shape(size, PAD_SIZES, stride)
    square = max(size) <= min(513, 2 * min(size))
    for side, padded in zip((max(size), max(size)) if square else size, shape, strict=True):
        assert side <= padded <= max(33, 1.5 * side)
        assert padded % stride == 1


def test_vocs_images_stay_in_the_square_of_published_scores():
    """Sides are 500 at most, and at least 100 or so."""
    for size in ((500, 375), (333, 500), (500, 100), (281, 500), (112, 143)):
        assert padded_shape(size, (513, 1025, 2049), 16) == (513, 513)


def test_few_shapes_are_compiled():
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 2050, (20_000, 2))
    shapes = {padded_shape(size, PAD_SIZES, 16) for size in sizes.tolist()}
    assert len(shapes) <= len(PAD_SIZES) ** 2
    photographs = {padded_shape(size, PAD_SIZES, 16) for size in rng.integers(300, 641, (999, 2))}
    assert len(photographs) == 7


def test_padding_is_the_conventions_mean():
    assert ModelConfig().mean_pixel == (128, 128, 128)
    imagenet = ModelConfig(image_mean=(123.675, 116.28, 103.53), image_std=(58, 57, 57))
    assert imagenet.mean_pixel == (124, 116, 104)


class _Numbered:
    """Ten grey images whose level and name are their index; only the last shows class 1."""

    def __len__(self):
        return 10

    def __getitem__(self, index):
        label = np.full((33, 33), index == 9, np.uint8)
        return {"image": np.full((33, 33, 3), index, np.uint8), "label": label, "name": str(index)}


class _Damaged(_Numbered):
    def __getitem__(self, index):
        if index in (3, 4):
            raise UserError(f"{index} is damaged.")
        return super().__getitem__(index)


def test_a_damaged_example_ends_the_run_or_its_neighbour_takes_its_place(config):
    config = dataclasses.replace(config, scale_range=(1.0, 1.0))
    with pytest.raises(UserError, match=r"[34] is damaged"):
        next(batches_of(_Damaged(), config, batch_size=10))
    config = dataclasses.replace(config, damaged="skip")
    batch = next(batches_of(_Damaged(), config, batch_size=10))
    levels = batch["image"][:, 0, 0, 0]
    np.testing.assert_array_equal(np.bincount(levels), [1, 1, 1, 0, 0, 3, 1, 1, 1, 1])
    told = {"": 8, "3 is damaged. 4 is damaged.": 1, "4 is damaged.": 1}
    assert dict(zip(*np.unique(batch["damage"], return_counts=True), strict=True)) == told
    assert set(batch["name"][batch["damage"] != ""]) == {"5"}


@pytest.mark.parametrize(
    "source",
    [_Tolerant(_Numbered()), _Indexed(_Numbered()), Chosen(_Numbered(), np.arange(10))],
    ids=lambda source: type(source).__name__,
)
def test_sources_end_where_they_are_said_to(source):
    """Whatever their own source does; `_Numbered` takes any index."""
    assert [example["name"] for example in source] == [str(index) for index in range(10)]
    assert source[np.int64(-1)]["name"] == "9"
    assert source[-1].get("index", 9) == 9
    for index in (10, -11):
        with pytest.raises(IndexError):
            source[index]


def test_a_source_with_nothing_but_damage_is_refused(config):
    class Hopeless(_Damaged):
        def __getitem__(self, index):
            raise UserError(f"{index} is damaged.")

    config = dataclasses.replace(config, damaged="skip")
    with pytest.raises(UserError, match="No example of the training split can be read"):
        next(batches_of(Hopeless(), config, batch_size=10))


@pytest.mark.parametrize(("threshold", "rare"), [(0.0, 1), (0.9, 3)])
def test_images_of_rare_classes_come_more_often(config, threshold, rare):
    config = dataclasses.replace(config, repeat_threshold=threshold, scale_range=(1.0, 1.0))
    epoch = 9 + rare  # sqrt(0.9 / 0.1) = 3
    batches = batches_of(_Numbered(), config, batch_size=epoch, seed=0)
    times = np.bincount(next(batches)["image"][:, 0, 0, 0], minlength=10)
    np.testing.assert_array_equal(times, [1] * 9 + [rare])


OWN_PAGE = """
import dataclasses

import beside
import quickstart


@dataclasses.dataclass
class Mine:
    split: str = "train"

    @property
    def class_names(self):
        return ("a", "b")

    def open(self):
        return beside.Source()

    def digest(self):
        return "0" * 16


def get_config():
    config = quickstart.get_config()
    config.data.train = config.data.val = Mine()
    config.data.workers = 1
    return config
"""
BESIDE = """
import numpy as np


class Source:
    def __len__(self):
        return 4

    def __getitem__(self, index):
        label = np.full((40, 40), index % 2, np.uint8)
        return {"image": np.repeat(label[..., None] * 90, 3, -1), "label": label, "name": "n"}
"""


def test_reader_processes_import_the_classes_of_a_page_and_of_modules_beside_it(tmp_path):
    (tmp_path / "page_with_a_data_set.py").write_text(OWN_PAGE)
    (tmp_path / "beside.py").write_text(BESIDE)
    _, config = experiment.load(str(tmp_path / "page_with_a_data_set.py"))
    batch = next(batches_of(config.data.train.open(), config.data, batch_size=4))
    assert sorted(np.unique(label)[0] for label in batch["label"]) == [0, 0, 1, 1]
