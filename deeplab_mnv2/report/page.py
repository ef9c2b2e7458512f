"""Shared by `report.html` and `compare.html`: templates, and pictures as cards."""

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from deeplab_mnv2.config import IGNORE_LABEL
from deeplab_mnv2.data.palette import voc_palette
from deeplab_mnv2.files import replace_atomically
from deeplab_mnv2.report import charts
from deeplab_mnv2.tasks.segmentation.drawing import photo_uri
from deeplab_mnv2.tasks.segmentation.metrics import iou_per_class
from deeplab_mnv2.tasks.segmentation.pictures import Picture

# Height of the pictures in pixels; more than 100 are drawn smaller, to keep a page below 5 MB.
_HEIGHT, _MANY = 240, 100


@dataclasses.dataclass
class Panel:
    """One picture of a card; `layer` is the address of what covers the photograph, "" for none."""

    caption: str
    alt: str
    layer: str = ""
    dimmed: bool = False


@dataclasses.dataclass
class Card:
    """One image of the gallery; it can be sorted by its `keys`, besides its name.

    `pairs` are the "label-prediction" class ids that occur in it, for the filter.
    """

    name: str
    summary: str
    keys: dict[str, float]
    groups: tuple[str, ...]
    pairs: list[str]
    classes: list[tuple[int, str]]
    photo: str
    ratio: str
    panels: list[Panel]


def card(
    picture: Picture,
    panels: list[Panel],
    height: int,
    *,
    confusions: list[np.ndarray],
    keys: dict[str, float],
    summary: str,
) -> Card:
    """Return the card of a picture; `confusions` (C, C), one for each run, are for the filter."""
    rows, columns = picture.label.shape
    together = sum(confusions)
    iou = np.stack([iou_per_class(confusion) for confusion in confusions], axis=-1)
    return Card(
        name=picture.name,
        summary=summary,
        keys=keys,
        groups=picture.groups,
        pairs=[f"{row}-{column}" for row, column in np.argwhere(together).tolist()],
        classes=[
            (int(i), " → ".join("–" if np.isnan(v) else f"{100 * v:.0f}" for v in iou[i]))
            for i in np.flatnonzero(~np.isnan(iou).all(axis=-1))
        ],
        photo=photo_uri(picture.image, height),
        ratio=f"{columns} / {rows}",
        panels=panels,
    )


def height_for(pictures: int) -> int:
    """Return the height in pixels of that many pictures, so that the page stays below 5 MB."""
    return round(_HEIGHT * min(1, (_MANY / max(pictures, 1)) ** 0.5))


def class_list(label: np.ndarray, class_names: Sequence[str]) -> str:
    """Return the names of the classes in (H, W), the largest first, for screen readers."""
    areas = np.bincount(label.ravel(), minlength=256)
    areas[IGNORE_LABEL] = 0
    order: list[int] = np.argsort(-areas, kind="stable").tolist()
    return ", ".join(class_names[i] for i in order if areas[i]) or "nothing"


def colours() -> list[str]:
    """Return the CSS colour of every class id."""
    return ["#{:02x}{:02x}{:02x}".format(*rgb) for rgb in voc_palette()]


def write_page(
    path: Path,
    template: str,
    *,
    curves: Sequence[charts.Chart],
    measured: Sequence[charts.Chart],
    **context: Any,
) -> None:
    """Render a template of this folder into one self-contained file, and its charts beside it.

    They are in `figures`, an SVG each, which needs nothing else.

    Raises:
        UserError: one of them cannot be written.
    """
    for chart in (*curves, *measured):
        name = re.sub(r"\W+", "_", chart.title.lower()).strip("_")
        _render(path.with_name("figures") / f"{name}.svg", "figure.svg.j2", drawn=chart)
    context |= {"curves": curves, "measured": measured, "colours": colours()}
    _render(path, template, **context)


def _render(path: Path, template: str, **context: Any) -> None:
    text = _TEMPLATES.get_template(template).render(charts=charts, **context)
    with replace_atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _percent(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{100 * value:.{digits}f}"


def _signed(value: float | None, digits: int = 1) -> str:
    """Return a difference of fractions in points, with its sign (a real minus, not a hyphen)."""
    return "–" if value is None else f"{100 * value:+.{digits}f}".replace("-", "−")


_TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("deeplab_mnv2.report"),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
)
_TEMPLATES.filters |= {"percent": _percent, "signed": _signed}
