"""The scores of each class, out of any task's `eval.json`."""

from collections.abc import Mapping
from typing import Any

# A task's scores by class, the one that counts first, by their keys in `eval.json`.
_SCORES = {
    "iou": ("iou", "precision", "recall", "dice"),
    "ap_per_class": ("ap_per_class", "ap50_per_class", "objects_per_class"),
    "accuracy": ("accuracy", "images_per_class"),
}


def class_scores(result: Mapping[str, Any]) -> dict[str, dict[str, float | None]]:
    """Return the scores by class and then by name; the ends of an interval are `_low` and `_high`.

    Scores are shares, None of what has nothing to be scored on.
    """
    main = next(key for key in _SCORES if key in result)
    table: dict[str, dict[str, float | None]] = {}
    for name in result[main]:
        row = table[name] = {}
        for key in (key for key in _SCORES[main] if key in result):
            row[key] = result[key][name]
            if f"{key}_ci95" in result:
                row[f"{key}_low"], row[f"{key}_high"] = result[f"{key}_ci95"][name] or (None, None)
    return table
