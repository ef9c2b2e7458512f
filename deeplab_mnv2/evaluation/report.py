"""`report.html`: one self-contained page of scores, curves and pictures."""

import os
from pathlib import Path
from typing import Any

import jinja2

from deeplab_mnv2.data.voc_classes import voc_palette
from deeplab_mnv2.evaluation.result import Evaluation, Picture
from deeplab_mnv2.evaluation.visualize import colourize, data_uri, errors, overlay

_TEMPLATE = jinja2.Environment(
    loader=jinja2.PackageLoader("deeplab_mnv2.evaluation", "."), autoescape=True
)
_THUMBNAIL = 160


def write_report(
    evaluation: Evaluation, path: Path, *, title: str, history: list[dict[str, Any]] | None = None
) -> None:
    """Write the page; `history` are the records of `metrics.jsonl`, drawn as curves."""
    result = evaluation.result
    page = _TEMPLATE.get_template("report.html.j2").render(
        title=title,
        result=result,
        colours=["#{:02x}{:02x}{:02x}".format(*rgb) for rgb in voc_palette()],
        curves=_curves(history or []),
        pictures=[_panels(picture) for picture in evaluation.pictures],
    )
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(page)
    os.replace(temporary, path)


def _panels(picture: Picture) -> dict[str, Any]:
    return {
        "name": picture.name,
        "miou": picture.miou,
        "panels": [
            ("image", data_uri(picture.image, height=_THUMBNAIL)),
            ("label", data_uri(colourize(picture.label), height=_THUMBNAIL)),
            ("prediction", data_uri(overlay(picture.image, picture.prediction), height=_THUMBNAIL)),
            (
                "errors",
                data_uri(
                    errors(picture.image, picture.label, picture.prediction), height=_THUMBNAIL
                ),
            ),
        ],
    }


def _curves(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return name, points for an SVG of 100 x 40 units, and range of each logged value."""
    curves = []
    for name in ("loss", "val_miou", "learning_rate"):
        points = [(r["step"], r[name]) for r in history if r.get(name) is not None]
        if len(points) < 2:
            continue
        first, last = points[0][0], points[-1][0]
        values = [value for _, value in points]
        low, high = min(values), max(values)
        spread = (high - low) or 1.0
        curves.append(
            {
                "name": name,
                "low": low,
                "high": high,
                "last": values[-1],
                "steps": last,
                "path": " ".join(
                    f"{100 * (step - first) / max(last - first, 1):.2f},"
                    f"{38 - 36 * (value - low) / spread:.2f}"
                    for step, value in points
                ),
            }
        )
    return curves
