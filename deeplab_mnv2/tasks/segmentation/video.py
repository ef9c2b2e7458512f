"""Videos: frames in, a video with their classes painted over and a table out."""

import csv
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np

from deeplab_mnv2.errors import UserError, printable
from deeplab_mnv2.files import replace_atomically
from deeplab_mnv2.tasks.segmentation.segmenter import Segmenter

SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm"})
# What is written of a video; MPEG-4, which every build of OpenCV can write.
OVERLAY, TABLE = "_overlay.mp4", ".csv"
_CODEC = cv2.VideoWriter.fourcc(*"mp4v")
# Of files that do not tell.
_FRAMES_PER_SECOND = 25.0


def is_video(name: str) -> bool:
    """Return whether a file is a video, by its suffix."""
    return Path(name).suffix.lower() in SUFFIXES


def segment_video(
    segmenter: Segmenter, path: Path, result: Path, on_frame: Callable[[], None]
) -> None:
    """Write the overlays of a video's frames and a table of their classes.

    `result` is the path of both without suffix: a video without sound, `RESULT_overlay.mp4`, and
    `RESULT.csv` with the share of each class in each frame. `on_frame` is called after each.

    Raises:
        UserError: the video cannot be read, or a result cannot be written.
    """
    capture = cv2.VideoCapture(str(path))
    rate = capture.get(cv2.CAP_PROP_FPS) or _FRAMES_PER_SECOND
    overlay, table = (result.with_name(result.name + suffix) for suffix in (OVERLAY, TABLE))
    with replace_atomically(overlay) as new_overlay, replace_atomically(table) as new_table:
        # OpenCV knows the container by the suffix.
        painted = new_overlay.with_name(new_overlay.name + ".mp4")
        try:
            shares = _paint(segmenter, capture, painted, rate, on_frame)
            if not shares:
                raise UserError(
                    f"{printable(str(path))} is no video that can be read; convert it to MP4."
                )
            painted.replace(new_overlay)
        finally:
            capture.release()
            painted.unlink(missing_ok=True)
        with new_table.open("w", newline="") as opened:
            rows = csv.writer(opened)
            rows.writerow(["frame", "seconds", "class", "share"])
            for frame, classes in enumerate(shares):
                seconds = f"{frame / rate:.3f}"
                rows.writerows((frame, seconds, name, f"{s:.6f}") for name, s in classes.items())


def frame_count(path: Path) -> int | None:
    """Return how many frames a video says that it has, None where it does not say."""
    capture = cv2.VideoCapture(str(path))
    count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    capture.release()
    return count if count > 0 else None


def _frames(capture: cv2.VideoCapture) -> Iterator[np.ndarray]:
    """Yield the frames (H, W, 3) uint8 RGB."""
    while True:
        is_read, frame = capture.read()
        if not is_read:
            return
        yield np.ascontiguousarray(frame[..., ::-1])


def _paint(
    segmenter: Segmenter,
    capture: cv2.VideoCapture,
    file: Path,
    rate: float,
    on_frame: Callable[[], None],
) -> list[dict[str, float]]:
    """Write the overlays of all frames; return the share of each class in each."""
    shares: list[dict[str, float]] = []
    writer = cv2.VideoWriter()
    for found in segmenter.batch(_frames(capture)):
        if not shares:
            height, width = found.label.shape
            writer.open(str(file), _CODEC, rate, (width, height))
        writer.write(np.ascontiguousarray(np.asarray(found.overlay())[..., ::-1]))
        shares.append(found.classes())
        on_frame()
    writer.release()
    return shares
