"""Which images are kept, and that they come back as they were."""

import numpy as np
import pytest

from deeplab_mnv2.errors import UserError
from deeplab_mnv2.tasks.segmentation.pictures import choose, load, save
from tests.support.evaluations import made_up


def confusions_of(accuracies: np.ndarray) -> np.ndarray:
    right = (1000 * accuracies).astype(np.int64)
    confusions = np.zeros((len(right), 2, 2), np.int64)
    confusions[:, 0, 0], confusions[:, 0, 1], confusions[:, 1, 1] = right, 1000 - right, 500
    return confusions


@pytest.fixture
def accuracies():
    return np.random.default_rng(3).permutation(np.linspace(0.2, 0.9, 40))


def test_a_third_each_worst_best_and_random(accuracies):
    chosen = choose(confusions_of(accuracies), 12)
    assert len(chosen) == 12
    order = np.argsort(accuracies).tolist()
    assert {i for i, groups in chosen.items() if "worst" in groups} == set(order[:4])
    assert {i for i, groups in chosen.items() if "best" in groups} == set(order[-4:])
    assert sum("random" in groups for groups in chosen.values()) >= 4


def test_runs_share_the_random_images(accuracies):
    def drawn(scores):
        return [i for i, groups in choose(confusions_of(scores), 12).items() if "random" in groups]

    first, second = drawn(accuracies), drawn(accuracies[::-1])
    assert len(set(first) & set(second)) >= 4


@pytest.mark.parametrize(("images", "number"), [(5, 5), (5, 99), (5, 3), (5, 1), (5, 0), (0, 4)])
def test_as_many_as_asked_for_or_as_there_are(images, number):
    confusions = confusions_of(np.linspace(0.1, 0.9, images))
    assert len(choose(confusions, number)) == min(images, number)


def test_images_without_labels_are_left_out(accuracies):
    confusions = confusions_of(accuracies)
    confusions[7] = 0
    assert 7 not in choose(confusions, 40)
    assert len(choose(confusions, 40)) == 39


def test_pictures_come_back(tmp_path):
    evaluation = made_up()
    by_name = dict(zip(evaluation.counts.names, evaluation.counts.confusions, strict=True))
    save(evaluation.pictures, tmp_path / "pictures.zip")
    loaded = load(tmp_path / "pictures.zip", by_name)
    assert list(loaded) == [picture.name for picture in evaluation.pictures]
    for picture in evaluation.pictures:
        again = loaded[picture.name]
        np.testing.assert_array_equal(again.label, picture.label)
        np.testing.assert_array_equal(again.prediction, picture.prediction)
        assert again.miou == picture.miou
        assert np.abs(again.image.astype(float) - picture.image).mean() < 15  # JPEG


def test_no_file_is_no_pictures(tmp_path):
    assert load(tmp_path / "pictures.zip", {}) == {}


def test_a_file_of_another_run_is_refused(tmp_path):
    save(made_up().pictures, tmp_path / "pictures.zip")
    with pytest.raises(UserError, match=r"pictures\.zip .*evaluate it again"):
        load(tmp_path / "pictures.zip", {})
    (tmp_path / "pictures.zip").write_bytes(b"no zip")
    with pytest.raises(UserError, match="evaluate it again"):
        load(tmp_path / "pictures.zip", {})
