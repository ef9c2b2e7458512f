"""Videos: every frame once, in order, at its size; a damaged one is named."""

import csv
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest

from deeplab_mnv2 import weights
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.tasks.segmentation.segmenter import Segmenter
from deeplab_mnv2.tasks.segmentation.video import (
    frame_count,
    is_video,
    result_name,
    segment_video,
)
from tests.support.random_weights import random_weights

SIZE = (48, 64)
FRAMES = 5


def _source() -> weights.Weights:
    return random_weights(width_multiplier=0.35, head_channels=32, num_classes=3)


@pytest.fixture
def video(tmp_path) -> Path:
    """Frames of one grey each, brighter and brighter, at 10 a second."""
    path = tmp_path / "clip.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10.0, SIZE[::-1])
    for index in range(FRAMES):
        writer.write(np.full((*SIZE, 3), 40 * index, np.uint8))
    writer.release()
    return path


class _Brightness(Segmenter):
    """Stands in for a network: the class of a frame is how bright it is."""

    def __init__(self):
        super().__init__(weights.build_deeplab(_source()))

    def batch(self, photos, **settings):
        for found in super().batch(photos, **settings):
            found.label[:] = round(found.photo.mean() / 70)
            yield found

    def __call__(self, photo, **settings):
        return next(self.batch([photo], **settings))


def test_each_frame_is_painted_once_and_in_order(video, tmp_path):
    frames = []
    segment_video(_Brightness(), str(video), tmp_path / "out" / "clip", lambda: frames.append(None))
    assert len(frames) == FRAMES == frame_count(str(tmp_path / "out" / "clip_overlay.mp4"))
    with (tmp_path / "out" / "clip.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == ["class 0", "class 1", "class 1", "class 2", "class 2"]
    assert [row["seconds"] for row in rows] == ["0.000", "0.100", "0.200", "0.300", "0.400"]
    assert {row["share"] for row in rows} == {"1.000000"}
    capture = cv2.VideoCapture(str(tmp_path / "out" / "clip_overlay.mp4"))
    painted = np.stack([capture.read()[1] for _ in range(FRAMES)])  # (frames, H, W, BGR)
    assert painted.shape[1:3] == SIZE
    # The first class stays bare; VOC's colours of the next two are red and green, darkly.
    np.testing.assert_allclose(painted[0], 0, atol=6)
    assert painted[1].mean((0, 1)).argmax() == 2
    assert painted[3].mean((0, 1)).argmax() == 1
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "clip.csv",
        "clip_overlay.mp4",
    ]


@pytest.fixture
def address(video) -> Iterator[str]:
    """The clip as a stream: served by this machine."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(video.parent))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/{video.name}"
        server.shutdown()


def test_a_stream_is_painted_until_it_ends(address, tmp_path):
    assert is_video(address)
    assert is_video("camera:0")
    assert not is_video("camera:first.jpg")
    assert (result_name(address), result_name("camera:0")) == ("clip", "camera0")
    assert frame_count(address) is None
    segment_video(_Brightness(), address, tmp_path / "out" / "clip", lambda: None)
    with (tmp_path / "out" / "clip.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == ["class 0", "class 1", "class 1", "class 2", "class 2"]
    seconds = [float(row["seconds"]) for row in rows]
    assert seconds == sorted(seconds)
    # A frame stays in the video as long as the next one took.
    frames = frame_count(str(tmp_path / "out" / "clip_overlay.mp4"))
    assert frames == pytest.approx(max(FRAMES, 10 * seconds[-1]), abs=FRAMES)


def test_an_interrupt_ends_a_stream_and_keeps_what_was_seen(address, video, tmp_path):
    seen = []

    def interrupt() -> None:
        seen.append(None)
        if len(seen) == 2:
            raise KeyboardInterrupt

    segment_video(_Brightness(), address, tmp_path / "out" / "clip", interrupt)
    assert (tmp_path / "out" / "clip.csv").read_text().count("\n") == 3
    assert (frame_count(str(tmp_path / "out" / "clip_overlay.mp4")) or 0) >= 2
    seen.clear()
    # Of a file, which ends by itself, half is nothing.
    with pytest.raises(KeyboardInterrupt):
        segment_video(_Brightness(), str(video), tmp_path / "half" / "clip", interrupt)
    assert not list((tmp_path / "half").iterdir())


def test_a_camera_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match="camera:99 is no video that can be read; connect it"):
        segment_video(_Brightness(), "camera:99", tmp_path / "out" / "camera99", lambda: None)


def test_a_damaged_video_is_named_and_leaves_nothing(tmp_path):
    path = tmp_path / "broken.mp4"
    path.write_bytes(b"no video")
    segmenter = Segmenter(weights.build_deeplab(_source()))
    with pytest.raises(UserError, match=r"broken\.mp4 is no video that can be read; convert it"):
        segment_video(segmenter, str(path), tmp_path / "out" / "broken", lambda: None)
    assert not list((tmp_path / "out").iterdir())


def test_a_video_that_ends_early_is_told_and_what_there_was_is_kept(tmp_path):
    whole, cut = tmp_path / "whole.avi", tmp_path / "cut.avi"
    writer = cv2.VideoWriter(str(whole), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, SIZE[::-1])
    for _ in range(40):
        writer.write(np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8))
    writer.release()
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 3])
    with pytest.raises(UserError, match=r"cut\.avi ends after 1\d of its 40 frames"):
        segment_video(_Brightness(), str(cut), tmp_path / "out" / "cut", lambda: None)
    seen = (tmp_path / "out" / "cut.csv").read_text().count("\n") - 1
    assert frame_count(str(tmp_path / "out" / "cut_overlay.mp4")) == seen


def test_the_command_takes_videos_beside_photographs(video, tmp_path):
    cv2.imwrite(str(tmp_path / "photo.png"), np.full((*SIZE, 3), 90, np.uint8))
    (tmp_path / "bad.mp4").write_bytes(b"")
    weights.save(tmp_path / "tiny.safetensors", _source())
    done = subprocess.run(
        [
            *(sys.executable, "-m", "deeplab_mnv2.predict", "--weights=tiny.safetensors"),
            *("--output=out", "--scales=0.5,1", "--flip", "clip.mp4", "photo.png", "bad.mp4"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: bad.mp4 is no video")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("clip.csv", "clip_overlay.mp4", "photo.png", "photo_overlay.jpg", "predictions.csv")
    }
