import numpy as np
import pytest
from sklearn.metrics import jaccard_score, precision_recall_fscore_support

from deeplab_mnv2.tasks.segmentation.metrics import iou_per_class, miou, scores


def test_by_hand():
    # Label 0 0 1 1, prediction 0 1 1 1.
    confusion = np.array([[1, 1, 0], [0, 2, 0], [0, 0, 0]])
    np.testing.assert_allclose(iou_per_class(confusion), [1 / 2, 2 / 3, np.nan])
    assert float(miou(confusion)) == pytest.approx((1 / 2 + 2 / 3) / 2)
    result = scores(confusion, ["a", "b", "c"])
    assert result["absent"] == ["c"]
    assert result["iou"]["c"] is None
    assert result["precision"] == {"a": 1, "b": pytest.approx(2 / 3), "c": None}
    assert result["recall"] == {"a": 1 / 2, "b": 1, "c": None}
    assert result["dice"] == pytest.approx({"a": 2 / 3, "b": 4 / 5, "c": None})
    assert result["pixel_accuracy"] == pytest.approx(3 / 4)
    assert result["mean_accuracy"] == pytest.approx((1 / 2 + 1) / 2)
    assert result["frequency_weighted_iou"] == pytest.approx((1 / 2 + 2 / 3) / 2)


@pytest.mark.parametrize("seed", range(20))
def test_agrees_with_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    classes = int(rng.integers(2, 22))
    # Some classes occur in neither, some only in the prediction.
    label = rng.choice(rng.choice(classes, size=max(1, classes // 2)), size=500)
    prediction = np.where(rng.random(500) < 0.6, label, rng.integers(0, classes, 500))
    confusion = np.zeros((classes, classes), np.int64)
    np.add.at(confusion, (label, prediction), 1)
    present = np.union1d(label, prediction)
    expected = jaccard_score(label, prediction, labels=present, average=None, zero_division=0)
    iou = iou_per_class(confusion)
    np.testing.assert_allclose(iou[present], expected)
    assert np.isnan(np.delete(iou, present)).all()
    found = scores(confusion, [str(index) for index in range(classes)])
    reference = precision_recall_fscore_support(
        label, prediction, labels=present, average=None, zero_division=0
    )
    for key, wanted in zip(("precision", "recall", "dice"), reference, strict=False):
        # Where there is nothing to divide by, scikit-learn is told to say 0.
        values = [found[key][str(index)] or 0.0 for index in present]
        np.testing.assert_allclose(values, wanted)
    macro = jaccard_score(label, prediction, labels=present, average="macro", zero_division=0)
    assert float(miou(confusion)) == pytest.approx(macro)


def test_a_class_only_predicted_counts_as_zero():
    assert float(miou(np.array([[3, 1], [0, 0]]))) == pytest.approx((3 / 4 + 0) / 2)


def test_nothing_labelled_is_none_not_a_number():
    result = scores(np.zeros((2, 2), np.int64), ["a", "b"])
    assert result["miou"] is None
    assert result["pixel_accuracy"] is None
