"""What an evaluation prints."""

from deeplab_mnv2.tasks.segmentation.evaluator import SegmentationEvaluation


def test_the_table_has_a_line_for_each_class_with_its_score_and_interval():
    result = {
        "iou": {"background": 0.98765, "cat": 0.5, "potted plant": None},
        "iou_ci95": {"background": [0.97, 1.0], "cat": None, "potted plant": None},
    }
    table = SegmentationEvaluation(result, counts=None, pictures=[]).table()
    assert table.splitlines() == [
        "class            IoU  95 % interval",
        "background     98.77  97.00 to 100.00",
        "cat            50.00  -",
        "potted plant       -  -",
    ]
