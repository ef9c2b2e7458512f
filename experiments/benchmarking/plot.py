"""Charts of time against batch size, image size, width and output stride."""

from pathlib import Path

import matplotlib.pyplot as plt

from experiments.benchmarking.case import Case
from experiments.benchmarking.measuring import run_case

_AXES = {
    "batch size": [Case("forward", 257, batch_size) for batch_size in (1, 2, 4, 8)],
    "image side": [Case("forward", size) for size in (129, 257, 385, 513)],
    "width": [Case("forward", 257, width_multiplier=width) for width in (0.35, 0.5, 1.0, 1.4)],
    "output stride": [Case("forward", 257, output_stride=stride) for stride in (8, 16, 32)],
}
_FIELDS = ("batch_size", "size", "width_multiplier", "output_stride")


def plot(path: Path, peers: list[str], rounds: int, limits: dict[str, float], device: str) -> None:
    """Measure forward passes along four axes and draw their medians."""
    figure, panels = plt.subplots(1, len(_AXES), figsize=(4 * len(_AXES), 3.5), layout="tight")
    for panel, field, (label, cases) in zip(panels, _FIELDS, _AXES.items(), strict=True):
        rows = [run_case(case, peers, rounds, limits) for case in cases]
        at = [getattr(case, field) for case in cases]
        panel.plot(at, [row["ours_ms"] for row in rows], "o-", label="ours")
        for peer in peers:
            known = [
                (x, row["peers_ms"][peer])
                for x, row in zip(at, rows, strict=True)
                if peer in row["peers_ms"]
            ]
            if known:
                panel.plot(*zip(*known, strict=True), "o-", label=peer)
        panel.set(xlabel=label, ylabel="ms", ylim=(0, None))
    panels[0].legend()
    figure.suptitle(f"Forward pass; {device}")
    figure.savefig(path, dpi=120)
