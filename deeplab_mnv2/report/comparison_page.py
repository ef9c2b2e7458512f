"""`compare.html`: the page of a comparison, in the style of `report.html`."""

from pathlib import Path
from typing import Any

from deeplab_mnv2.report.charts import calibration_chart
from deeplab_mnv2.report.comparison import Run, conclusion, verdict
from deeplab_mnv2.report.page import Card, Panel, card, class_list, height_for, write_page
from deeplab_mnv2.report.segmentation_page import boundary_chart
from deeplab_mnv2.report.training_curves import training_charts
from deeplab_mnv2.tasks.segmentation.drawing import change_layer_uri, class_layer_uri


def write_comparison(
    runs: list[Run],
    found: dict[str, Any],
    path: Path,
    histories: dict[str, list[dict[str, Any]]],
) -> None:
    """Write the page of what `compare` found; `histories` are each run's `metrics.jsonl`."""
    first = runs[0]
    names = list(first.result["iou"])
    shared = [name for name in first.pictures if all(name in run.pictures for run in runs)]
    cards = [_card(runs, name, names, height_for(len(shared))) for name in shared]
    measured = [
        boundary_chart({run.title: run.result for run in runs}),
        calibration_chart(
            {run.title: run.result["calibration"] for run in runs},
            "Below the diagonal a network is overconfident.",
        ),
    ]
    write_page(
        path,
        "comparison_page.html.j2",
        title="Comparison: " + ", ".join(run.title for run in runs),
        runs=runs,
        found=found,
        verdict=verdict,
        conclusion=conclusion,
        reach=[_reach(difference) for difference in found["differences"]],
        place=_place,
        names=names,
        curves=[chart for chart in training_charts(histories, "miou", "mIoU") if chart],
        measured=[chart for chart in measured if chart],
        cards=sorted(cards, key=lambda each: -each.keys["gain1"]),
        data={"names": names},
    )


def _reach(difference: dict[str, Any]) -> tuple[float, float]:
    """Return the ends of an axis that shows zero and all of a run's differences by class."""
    values = [entry["difference"] or 0 for entry in difference["iou"].values()]
    values += [end for entry in difference["iou"].values() for end in entry["ci95"] or ()]
    return min(0, *values), max(0, *values)


def _place(value: float, ends: tuple[float, float]) -> float:
    """Return the position of a value between the ends, in percent."""
    return round(100 * (value - ends[0]) / ((ends[1] - ends[0]) or 1), 1)


def _card(runs: list[Run], name: str, class_names: list[str], height: int) -> Card:
    pictures = [run.pictures[name] for run in runs]
    first = pictures[0]
    scores = [picture.miou for picture in pictures]
    panels = [
        Panel("image", f"Photograph {name}"),
        Panel(
            "label",
            f"Label of {name}: {class_list(first.label, class_names)}",
            class_layer_uri(first.label, height),
        ),
    ]
    for run, picture in zip(runs, pictures, strict=True):
        panels.append(
            Panel(
                run.title,
                f"Prediction of {run.title} for {name}: "
                f"{class_list(picture.prediction, class_names)}",
                class_layer_uri(picture.prediction, height),
            )
        )
    for run, picture, score in zip(runs[1:], pictures[1:], scores[1:], strict=True):
        panels.append(
            Panel(
                "changes" if len(runs) == 2 else f"changes of {run.title}",
                f"Where {run.title} differs from {runs[0].title} in {name}: "
                f"{100 * (score - scores[0]):+.1f} points of mIoU",
                change_layer_uri(first.label, first.prediction, picture.prediction, height),
                dimmed=True,
            )
        )
    return card(
        first,
        panels,
        height,
        confusions=[picture.confusion for picture in pictures],
        keys={f"gain{i}": score - scores[0] for i, score in enumerate(scores) if i},
        summary="mIoU " + " → ".join(f"{100 * score:.1f}" for score in scores) + " %",
    )
