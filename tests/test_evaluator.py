"""What an evaluation prints."""

from deeplab_mnv2.tasks.segmentation.evaluation import SegmentationEvaluation


def test_the_table_has_a_line_for_each_class_with_its_score_and_interval():
    result = {
        "iou": {"background": 0.98765, "cat": 0.5, "potted plant": None},
        "iou_ci95": {"background": [0.97, 1.0], "cat": None, "potted plant": None},
        "precision": {"background": 1.0, "cat": 0.75, "potted plant": None},
        "recall": {"background": 0.9, "cat": 0.6, "potted plant": None},
        "dice": {"background": 0.95, "cat": 0.667, "potted plant": None},
    }
    table = SegmentationEvaluation(result, counts=None, pictures=[]).table()
    assert table.splitlines() == [
        "class            IoU  95 % interval     precision  recall    Dice",
        "background     98.77  97.00 to 100.00      100.00   90.00   95.00",
        "cat            50.00  -                     75.00   60.00   66.70",
        "potted plant       -  -                         -       -       -",
    ]
