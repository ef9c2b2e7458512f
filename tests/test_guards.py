from types import SimpleNamespace

import numpy as np
import pytest

from deeplab_mnv2.errors import UserError
from deeplab_mnv2.tasks.segmentation.evaluation import SegmentationEvaluation
from deeplab_mnv2.training.guards import FiniteGuard, Watch


def laps(watch, losses, wait=0.0):
    return [w for loss in losses for w in watch.lap({"loss": loss, "input_wait": wait})]


def test_a_sound_run_is_not_warned_of():
    assert laps(Watch(), [3.0, 2.0, 2.5, 1.0, 1.4, 0.9]) == []
    # Losses of few images differ: a lucky batch is followed by ordinary ones.
    assert laps(Watch(), [0.3, 0.4, 0.05, 0.4, 0.5, 0.4, 0.47]) == []


def test_a_loss_that_rises_and_stays_is_told_once():
    (warning,) = laps(Watch(), [2.0, 1.0, 1.0, 1.0, 4.0, 4.0, 4.0, 5.0, 6.0, 7.0, 8.0])
    assert "risen to 4 from 1" in warning
    assert laps(Watch(), [1.0, 1.0, 1.0, 4.0, 4.0, 1.0, 4.0, 4.0]) == []


def test_a_starving_input_is_told_once():
    watch = Watch()
    (warning,) = laps(watch, [1.0] * 9, wait=0.5)
    assert "wait 50% of the time" in warning
    assert "data.threads" in warning
    assert laps(Watch(), [1.0] * 9, wait=0.1) == []


def test_predictions_of_one_class_only_are_told():
    confusion = np.zeros((3, 3), int)
    confusion[:, 1] = 5
    names = ("background", "cat", "dog")

    def warnings(confusion):
        result = {"confusion": confusion.tolist(), "iou": dict.fromkeys(names)}
        counts = SimpleNamespace(extents=np.ones((3, 2, 2), int))
        return SegmentationEvaluation(result, counts, pictures=[]).warnings()

    (warning,) = warnings(confusion)
    assert "'cat'" in warning
    assert warnings(np.eye(3, dtype=int)) == []
    # A set that holds one class alone is rightly predicted as one.
    assert warnings(np.diag([0, 5, 0])) == []
    watch = Watch()
    assert [watch.scores([warning]), watch.scores([warning])] == [[warning], []]


def test_each_damaged_example_is_told_once():
    watch = Watch()
    told = [watch.damage(np.array(texts)) for texts in (["", "a"], ["a", "b"], ["", ""])]
    assert [len(warnings) for warnings in told] == [1, 1, 0]


def test_a_step_that_is_not_finite_is_written_down_and_stops_the_run(tmp_path):
    batch = {"image": np.ones((2, 3, 3, 3), np.uint8), "name": np.array(["one", "other"])}
    guard = FiniteGuard(tmp_path, "stop")
    assert guard(7, True, batch) == []
    assert guard(8, False, batch) == []  # judged one step later
    with pytest.raises(UserError, match=r"step 8 .*nonfinite_step_8\.npz.*learning_rate"):
        guard(9, True, batch)
    with np.load(tmp_path / "nonfinite_step_8.npz", allow_pickle=False) as written:
        assert written["step"] == 8
        assert written["name"].tolist() == ["one", "other"]
        np.testing.assert_array_equal(written["image"], batch["image"])
    assert [path.suffix for path in tmp_path.iterdir()] == [".npz"]


def test_skipping_gives_up_when_nothing_else_comes(tmp_path):
    guard = FiniteGuard(tmp_path, "skip")
    batch = {"image": np.zeros(1)}
    told = [guard(step, step == 4, batch) for step in range(10)]
    assert sum(map(len, told)) == 8  # the last one is not judged yet
    for step in range(10, 14):
        guard(step, True, batch)
    for step in range(14, 24):
        guard(step, False, batch)
    with pytest.raises(UserError, match="step 23 is not finite"):
        guard.finish()
