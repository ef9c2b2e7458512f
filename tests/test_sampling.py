import numpy as np

from deeplab_mnv2.data.sampling import classes_present, repeat_rare
from deeplab_mnv2.data.shapes import Shapes


def test_presence_is_read_off_the_labels():
    source = Shapes(length=6, size=49).open()
    present = classes_present(source, 21, threads=2)
    for row, index in zip(present, range(6), strict=True):
        held = set(np.unique(source[index]["label"])) - {255}
        assert set(np.flatnonzero(row)) == held


def test_an_empty_source_has_no_rows():
    assert classes_present([], 21, threads=1).shape == (0, 21)
    # The label of a whole image, which may be any of many classes.
    found = classes_present([{"label": 299}, {"label": 255}], 300, threads=1)
    assert np.argwhere(found).tolist() == [[0, 299], [1, 255]]


def test_rare_classes_are_repeated_by_the_root_of_their_rarity():
    present = np.zeros((1000, 3), bool)
    present[:, 0] = True  # everywhere: once
    present[:250, 1] = True  # above the threshold: once
    present[-10:, 2] = True  # 1 %: sqrt(0.16 / 0.01) = 4 times
    times = np.bincount(repeat_rare(present, 0.16, power=0.5, seed=0))
    assert (times[:990] == 1).all()
    assert (times[-10:] == 4).all()


def test_with_a_power_of_one_rare_classes_come_equally_often():
    present = np.zeros((1000, 3), bool)
    present[:900, 0] = True
    present[900:980, 1] = True
    present[980:, 2] = True
    times = np.bincount(repeat_rare(present, 0.16, power=1.0, seed=0))
    assert (times[:900] == 1).all()
    assert times[900:980].sum() == times[980:].sum() == 160


def test_fractions_are_kept_on_average_and_by_the_seed():
    present = np.ones((20_000, 2), bool)
    present[1000:, 1] = False  # 5 %: sqrt(0.1 / 0.05) = 1.414 times
    indices = repeat_rare(present, 0.1, power=0.5, seed=1)
    repeated = (indices < 1000).sum() / 1000
    assert abs(repeated - 2**0.5) < 0.05
    np.testing.assert_array_equal(indices, repeat_rare(present, 0.1, power=0.5, seed=1))
    assert not np.array_equal(indices, repeat_rare(present, 0.1, power=0.5, seed=2))


def test_a_class_without_images_repeats_nothing():
    present = np.array([[True, False], [True, False]])
    np.testing.assert_array_equal(repeat_rare(present, 0.1, power=0.5, seed=0), [0, 1])
