"""The page of a classification: classes, what is mistaken for what, pictures."""

from pathlib import Path
from typing import Any

from deeplab_mnv2.report.charts import calibration_chart
from deeplab_mnv2.report.page import Card, Panel, height_for, write_page
from deeplab_mnv2.report.training_curves import training_section
from deeplab_mnv2.tasks.classification.evaluation import ClassificationEvaluation, ClassifiedPicture
from deeplab_mnv2.tasks.segmentation.drawing import photo_uri

# Class names of the protocol that are printed.
_NAMES = 20


def write_classification(
    evaluation: ClassificationEvaluation, path: Path, title: str, history: list[dict[str, Any]]
) -> None:
    """Write the page; see `run_page.write_report`."""
    result = evaluation.result
    names = list(result["accuracy"])
    place = {name: index for index, name in enumerate(names)}
    found = result["calibration"]
    chart = calibration_chart(
        {"accuracy": found},
        f"Expected calibration error {100 * (found['ece'] or 0):.2f} %. Below the diagonal the "
        "network is overconfident. Bars: shares of images, not to scale.",
        "images",
    )
    stamp = dict(result["protocol"])
    if len(names) > _NAMES:
        stamp["classes"] = [*names[:_NAMES], f"and {len(names) - _NAMES} more"]
    height = height_for(len(evaluation.pictures))
    write_page(
        path,
        "classification_page.html.j2",
        title=title,
        result=result,
        names=names,
        place=place,
        shown_protocol=stamp,
        **training_section(history, "top1", "top-1"),
        measured=[chart] if chart else [],
        cards=[_card(picture, place, height) for picture in evaluation.pictures],
        data={"names": names},
    )


def _card(picture: ClassifiedPicture, place: dict[str, int], height: int) -> Card:
    label, prediction = picture.label, picture.classes[0]
    rows, columns = picture.image.shape[:2]
    right = "right" if label == prediction else f"taken for {prediction}"
    alt = f"{picture.name}: {label}, {right}"
    return Card(
        name=picture.name,
        summary=f"{label}, {right}",
        keys={"sure": picture.probabilities[0]},
        groups=picture.groups,
        pairs=[f"{place[label]}-{place[prediction]}"],
        classes=[
            (place[name], f"{100 * probability:.0f}")
            for name, probability in zip(picture.classes, picture.probabilities, strict=True)
        ],
        photo=photo_uri(picture.image, height),
        ratio=f"{columns} / {rows}",
        panels=[Panel("image", alt)],
    )
