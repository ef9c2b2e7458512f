"""Videos and cameras: frames in, a video with their classes painted over and a table out."""

import contextlib
import csv
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np

from deeplab_mnv2.errors import UserError, printable
from deeplab_mnv2.files import replace_atomically
from deeplab_mnv2.tasks.segmentation.segmenter import Segmenter

VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm"})
# What is written of a video; MPEG-4, which every build of OpenCV can write.
VIDEO_WRITTEN = ("_overlay.mp4", ".csv")
_CODEC = cv2.VideoWriter.fourcc(*"mp4v")
# Less than this share of the frames that it promises, and a video is damaged.
_WHOLE = 0.9
# Of files that do not tell.
_FRAMES_PER_SECOND = 25.0
# What never ends by itself.
_CAMERA = re.compile(r"camera:(\d+)")
_STREAMS = ("rtsp://", "rtmp://", "http://", "https://")


def is_video(name: str) -> bool:
    """Return whether an argument is a video by its suffix, a camera or the address of a stream."""
    return Path(name).suffix.lower() in VIDEO_SUFFIXES or is_live(name)


def result_name(video: str) -> str:
    """Return what the results of a video are called, without suffix."""
    return f"camera{camera[1]}" if (camera := _CAMERA.fullmatch(video)) else Path(video).stem


def segment_video(
    segmenter: Segmenter, video: str, result: Path, on_frame: Callable[[], None]
) -> None:
    """Write the overlays of a video's frames and a table of their classes.

    `video` is a file, `camera:0` for the first camera of this machine, or the address of a stream.
    These two are live: Ctrl-C ends them, and each frame that is painted stays until the next.

    `result` is the path of both without suffix: a video without sound, `RESULT_overlay.mp4`, and
    `RESULT.csv` with the share of each class in each frame. `on_frame` is called after each.

    Raises:
        UserError: the video cannot be read, or a result cannot be written; or the video ends
            before its time, in which case the results are of what there was.
    """
    capture, promised = _open(video), frame_count(video)
    rate = capture.get(cv2.CAP_PROP_FPS) or _FRAMES_PER_SECOND
    never_ends = is_live(video)
    overlay, table = (result.with_name(result.name + suffix) for suffix in VIDEO_WRITTEN)
    with replace_atomically(overlay) as new_overlay, replace_atomically(table) as new_table:
        # OpenCV knows the container by the suffix.
        painted = new_overlay.with_name(new_overlay.name + ".mp4")
        try:
            shares = _paint(segmenter, capture, painted, rate, on_frame, is_live=never_ends)
            if not shares:
                remedy = "connect it, or correct the address" if never_ends else "convert it to MP4"
                raise UserError(f"{printable(video)} is no video that can be read; {remedy}.")
            painted.replace(new_overlay)
        finally:
            capture.release()
            painted.unlink(missing_ok=True)
        with new_table.open("w", newline="") as opened:
            rows = csv.writer(opened)
            rows.writerow(["frame", "seconds", "class", "share"])
            for frame, (at, classes) in enumerate(shares):
                seconds = f"{at:.3f}"
                rows.writerows((frame, seconds, name, f"{s:.6f}") for name, s in classes.items())
    # What videos say of their length may be off by a few frames.
    if len(shares) < _WHOLE * (promised or 0):
        raise UserError(
            f"{printable(video)} ends after {len(shares)} of its {promised} frames, which were "
            "predicted; it is damaged, so copy it again."
        )


def frame_count(video: str) -> int | None:
    """Return how many frames a video says that it has, None where it does not say or is live."""
    if is_live(video):
        return None
    capture = _open(video)
    count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    capture.release()
    return count if count > 0 else None


def is_live(video: str) -> bool:
    return bool(_CAMERA.fullmatch(video)) or video.startswith(_STREAMS)


def _open(video: str) -> cv2.VideoCapture:
    if not (camera := _CAMERA.fullmatch(video)):
        return cv2.VideoCapture(video)
    capture = cv2.VideoCapture(int(camera[1]))
    # The newest frame, not those that came while the last one was painted.
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
    return capture


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
    *,
    is_live: bool,
) -> list[tuple[float, dict[str, float]]]:
    """Write the overlays of all frames; return when each was, in seconds, and its shares."""
    shares: list[tuple[float, dict[str, float]]] = []
    writer, written, began = cv2.VideoWriter(), 0, time.monotonic()
    # One by one if live, or a batch of them would be waited for.
    batches = map(segmenter, _frames(capture)) if is_live else segmenter.batch(_frames(capture))
    # Ctrl-C is the way to end what is live; what was seen is kept.
    with contextlib.suppress(KeyboardInterrupt) if is_live else contextlib.nullcontext():
        for found in batches:
            at = time.monotonic() - began if is_live else len(shares) / rate
            if not shares:
                height, width = found.label.shape
                if not writer.open(str(file), _CODEC, rate, (width, height)):
                    raise OSError(f"OpenCV cannot write videos to {file.parent}")
            frame = np.ascontiguousarray(np.asarray(found.overlay())[..., ::-1])
            for _ in range(max(1, round(at * rate) - written) if is_live else 1):
                writer.write(frame)
                written += 1
            shares.append((at, found.classes()))
            on_frame()
    writer.release()
    # OpenCV says nothing of a full disk.
    if shares and frame_count(str(file)) != written:
        raise OSError("not all frames were written; the disk may be full")
    return shares
