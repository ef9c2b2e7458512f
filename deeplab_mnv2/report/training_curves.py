"""What training leaves behind on a page: curves, and the warnings on the way."""

from typing import Any

from deeplab_mnv2.report.charts import Chart, line_chart


def training_section(history: list[dict[str, Any]], score: str, score_label: str) -> dict[str, Any]:
    """Return the `curves` and `warnings` of one run for a template; see `training_charts`."""
    return {
        "curves": [c for c in training_charts({"": history}, score, score_label) if c],
        # A resumed run may have given the same warning twice.
        "warnings": {r["warning"]: r["step"] for r in reversed(history) if "warning" in r},
    }


def training_charts(
    histories: dict[str, list[dict[str, Any]]], score: str, score_label: str
) -> list[Chart | None]:
    """Return the curves of loss, learning rate and the validation score of one or more runs.

    `score` is its key in `eval.json`, `score_label` what people call it.
    """
    charts = []
    for key, title, label, factor in (
        ("loss", "Training loss", "loss", 1),
        ("learning_rate", "Learning rate", "learning rate", 1),
        (f"val_{score}", f"Validation {score_label}", f"{score_label} in %", 100),
    ):
        series = {
            name or label: [
                (record["step"], factor * record[key])
                for record in history
                if record.get(key) is not None
            ]
            for name, history in histories.items()
        }
        last = max((x for points in series.values() for x, _ in points), default=0)
        charts.append(
            line_chart(
                title,
                series,
                x_label="step",
                y_label=label,
                x_range=(0, last),
                note=_ends(series),
            )
        )
    return charts


def _ends(series: dict[str, list[tuple[float, float]]]) -> str:
    """Return a description of the curves in words, for screen readers."""
    texts = []
    for name, points in series.items():
        if points:
            values = [value for _, value in points]
            texts.append(
                f"{name}: {values[0]:.4g} at step {points[0][0]}, {values[-1]:.4g} at step "
                f"{points[-1][0]}; lowest {min(values):.4g}, highest {max(values):.4g}."
            )
    return " ".join(texts)
