"""`compare.html`: the page of a comparison, in the style of `report.html`."""

from pathlib import Path
from typing import Any

from deeplab_mnv2.report.charts import calibration_chart
from deeplab_mnv2.report.comparison import Run, conclusion, verdict
from deeplab_mnv2.report.page import Card, Panel, card, class_list, height_for, write_page
from deeplab_mnv2.report.segmentation_page import boundary_chart
from deeplab_mnv2.report.training_curves import training_charts
from deeplab_mnv2.tasks.detection.stored import StoredDetection
from deeplab_mnv2.tasks.segmentation.drawing import change_layer_uri, class_layer_uri
from deeplab_mnv2.tasks.segmentation.pictures import Picture
from deeplab_mnv2.tasks.segmentation.stored import StoredSegmentation


def write_comparison(
    runs: list[Run],
    found: dict[str, Any],
    path: Path,
    histories: dict[str, list[dict[str, Any]]],
) -> None:
    """Write the page of what `compare` found; `histories` are each run's `metrics.jsonl`."""
    kept = [run.stored for run in runs]
    first = kept[0]
    names, cards, measured = list(first.class_names), [], []
    # Pictures of the same images are kept of segmentation alone.
    pictures = [one.pictures for one in kept if isinstance(one, StoredSegmentation)]
    if pictures:
        shared = [name for name in pictures[0] if all(name in each for each in pictures)]
        height = height_for(len(shared))
        titles = [run.title for run in runs]
        cards = [_card(titles, [p[name] for p in pictures], names, height) for name in shared]
        measured.append(boundary_chart({run.title: run.result for run in runs}))
    if not isinstance(first, StoredDetection):
        counted_as = "pixels" if pictures else "images"
        chart = calibration_chart(
            {run.title: run.result["calibration"] for run in runs},
            "Below the diagonal a network is overconfident.",
            counted_as,
        )
        measured.append(chart)
    write_page(
        path,
        "comparison_page.html.j2",
        title="Comparison: " + ", ".join(run.title for run in runs),
        runs=runs,
        is_segmentation=bool(pictures),
        score=first.score,
        score_title=first.title,
        by_class=first.by_class,
        class_title=first.class_title,
        found=found,
        verdict=verdict,
        conclusion=conclusion,
        reach=[_reach(difference[first.by_class]) for difference in found["differences"]],
        place=_place,
        names=names,
        curves=[chart for chart in training_charts(histories, first.score, first.title) if chart],
        measured=[chart for chart in measured if chart],
        cards=sorted(cards, key=lambda each: -each.keys["gain1"]),
        data={"names": names},
    )


def _reach(by_class: dict[str, Any]) -> tuple[float, float]:
    """Return the ends of an axis that shows zero and all of a run's differences by class."""
    values = [entry["difference"] or 0 for entry in by_class.values()]
    values += [end for entry in by_class.values() for end in entry["ci95"] or ()]
    return min(0, *values), max(0, *values)


def _place(value: float, ends: tuple[float, float]) -> float:
    """Return the position of a value between the ends, in percent."""
    return round(100 * (value - ends[0]) / ((ends[1] - ends[0]) or 1), 1)


def _card(titles: list[str], pictures: list[Picture], class_names: list[str], height: int) -> Card:
    """Return the card of one image; a title and a picture for each run."""
    first, name = pictures[0], pictures[0].name
    scores = [picture.miou for picture in pictures]
    panels = [
        Panel("image", f"Photograph {name}"),
        Panel(
            "label",
            f"Label of {name}: {class_list(first.label, class_names)}",
            class_layer_uri(first.label, height),
        ),
    ]
    for title, picture in zip(titles, pictures, strict=True):
        panels.append(
            Panel(
                title,
                f"Prediction of {title} for {name}: {class_list(picture.prediction, class_names)}",
                class_layer_uri(picture.prediction, height),
            )
        )
    for title, picture, score in zip(titles[1:], pictures[1:], scores[1:], strict=True):
        panels.append(
            Panel(
                "changes" if len(titles) == 2 else f"changes of {title}",
                f"Where {title} differs from {titles[0]} in {name}: "
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
