"""Line charts as plain numbers for an SVG: axes, ticks and paths, without a plotting library."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

Point = tuple[float, float]

# In units of the drawing, which the page scales so that text of size 12 is readable on a phone.
WIDTH, HEIGHT = 400, 250
LEFT, RIGHT, TOP, BOTTOM = 56, 388, 12, 208

# Of the series, on white.
COLOURS = ("#1f62b5", "#c2530a", "#1d7a46", "#8a3fa8", "#8a6d00", "#b0306a")

# Characters of a tick before its number is written with an exponent.
_LONGEST = 5


@dataclasses.dataclass
class Line:
    """A series: its SVG `path`, and its points (x, y, text) where there are few."""

    name: str
    path: str
    dots: list[tuple[float, float, str]]


@dataclasses.dataclass
class Chart:
    """A chart to draw; ticks are (position, text), bars (x, y, width, height, text)."""

    title: str
    x_label: str
    y_label: str
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    lines: list[Line]
    note: str
    diagonal: str = ""
    bars: list[tuple[float, float, float, float, str]] = dataclasses.field(default_factory=list)


def line_chart(
    title: str,
    series: Mapping[str, Sequence[Point]],
    *,
    x_label: str,
    y_label: str,
    y_range: tuple[float, float] | None = None,
    x_range: tuple[float, float] | None = None,
    log2_x: bool = False,
    note: str = "",
) -> Chart | None:
    """Return the chart of series of (x, y); None if no series has a finite point.

    With `log2_x` the x axis is logarithmic, with a tick at each value.
    """
    finite = {
        name: [(x, y) for x, y in points if math.isfinite(y)] for name, points in series.items()
    }
    points = [point for line in finite.values() for point in line]
    if not points:
        return None
    xs, ys = zip(*points, strict=True)
    if log2_x:
        x_values = sorted(set(xs))
        x_ends = math.log2(x_values[0]), math.log2(x_values[-1])
        x_texts = [(math.log2(x), f"{x:g}") for x in x_values]
    else:
        x_ends = x_range or (min(xs), max(xs))
        x_texts = [(x, _text(x)) for x in ticks(*x_ends) if x_ends[0] <= x <= x_ends[1]]
    y_values = ticks(*(y_range or (min(ys), max(ys))))
    y_ends = y_range or (y_values[0], y_values[-1])

    def place_x(x: float) -> float:
        return _between(math.log2(x) if log2_x else x, x_ends, (LEFT, RIGHT))

    def place_y(y: float) -> float:
        return _between(y, y_ends, (BOTTOM, TOP))

    lines = []
    for name, line in finite.items():
        places = [(place_x(x), place_y(y)) for x, y in line]
        texts = [f"{name}: {y:.4g} at {x:g}" for x, y in line]
        dots = [(*place, text) for place, text in zip(places, texts, strict=True)]
        path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places) if places else ""
        lines.append(Line(name, path, dots if len(dots) <= 40 else []))
    return Chart(
        title,
        x_label,
        y_label,
        [(_between(x, x_ends, (LEFT, RIGHT)), text) for x, text in x_texts],
        [(place_y(y), _text(y)) for y in y_values],
        lines,
        note,
    )


def calibration_chart(
    calibrations: Mapping[str, Mapping], note: str, counted_as: str = "pixels"
) -> Chart | None:
    """Return accuracy by confidence in percent, from `calibration` of one or more runs.

    With a single run, bars show the share of its pixels, or what they are `counted_as`, in each
    bin; a share of 1 would be a quarter of the chart high.
    """
    series, bars = {}, []
    for name, found in calibrations.items():
        series[name] = [
            (100 * confidence / number, 100 * correct / number)
            for number, correct, confidence in _bins(found, counted_as)
            if number
        ]
    chart = line_chart(
        "Calibration",
        series,
        x_label="confidence in %",
        y_label=f"right {counted_as} in %",
        x_range=(0, 100),
        y_range=(0, 100),
        note=note,
    )
    if chart is None:
        return None
    chart.diagonal = f"M{LEFT} {BOTTOM}L{RIGHT} {TOP}"
    if len(calibrations) == 1:
        bins = list(_bins(next(iter(calibrations.values())), counted_as))
        total, step = sum(number for number, _, _ in bins), (RIGHT - LEFT) / len(bins)
        for index, (number, _, _) in enumerate(bins):
            height = (BOTTOM - TOP) / 4 * number / total
            left, right = 100 * index / len(bins), 100 * (index + 1) / len(bins)
            share = f"{100 * number / total:.1f} % of the {counted_as}"
            text = f"{share}: {left:.0f} to {right:.0f} %"
            bars.append((LEFT + index * step + 1, BOTTOM - height, step - 2, height, text))
    chart.bars = bars
    return chart


def ticks(low: float, high: float) -> list[float]:
    """Return 3 to 7 round numbers, 1, 2 or 5 times a power of ten apart, that span the range."""
    if not high > low:
        low, high = low - (abs(low) or 1) / 2, high + (abs(high) or 1) / 2
    rough = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.8)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(step * k, 12) for k in range(first, last + 1)]


def _bins(found: Mapping, counted_as: str) -> zip:
    return zip(found[counted_as], found["correct"], found["confidence"], strict=True)


def _between(value: float, ends: tuple[float, float], drawn: tuple[float, float]) -> float:
    span = (ends[1] - ends[0]) or 1.0
    return drawn[0] + (value - ends[0]) / span * (drawn[1] - drawn[0])


def _text(value: float) -> str:
    """Return a number in five characters or so, which is the room beside an axis."""
    text = f"{value / 1000:g}k" if abs(value) >= 1000 else f"{value:g}"
    if len(text) > _LONGEST:
        mantissa, _, exponent = f"{value:.1e}".partition("e")
        text = f"{mantissa.removesuffix('.0')}e{int(exponent)}"
    return text
