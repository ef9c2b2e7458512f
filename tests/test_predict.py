"""From arguments to results: names, misses, and the command as a user runs it."""

import csv
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deeplab_mnv2 import weights
from deeplab_mnv2.data.label_files import LabelValues, read_label
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.tasks.inputs import find_images, find_inputs
from deeplab_mnv2.tasks.segmentation.predictions import save, segment
from deeplab_mnv2.tasks.segmentation.segmenter import Segmentation, Segmenter
from tests.support.random_weights import random_weights

TINY = {"width_multiplier": 0.35, "head_channels": 32, "num_classes": 3}


@pytest.fixture
def photos(tmp_path, monkeypatch) -> Path:
    """A folder with photographs, which is the working directory."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name in ("a/x.jpg", "a/deep/y.PNG", "b/x.png", "b/x.jpg", "note.txt", "dotted.v1.jpg"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".txt":
            path.write_text("no image")
        else:
            Image.fromarray(rng.integers(0, 256, (20, 30, 3), np.uint8)).save(path)
    return tmp_path


def _names(*arguments: str, output: str = "out") -> dict[str, str]:
    results, misses = find_images(list(arguments), Path(output))
    assert not misses
    here = Path.cwd()
    return {
        str(image.relative_to(here)): str(result.relative_to(output))
        for image, result in results.items()
    }


def test_a_file_gives_its_name(photos):
    assert _names("a/x.jpg") == {"a/x.jpg": "x"}
    assert _names("dotted.v1.jpg") == {"dotted.v1.jpg": "dotted.v1"}


def test_a_folder_keeps_its_inner_paths(photos):
    assert _names("a") == {"a/x.jpg": "x", "a/deep/y.PNG": "deep/y"}


def test_a_pattern_keeps_the_path_below_its_fixed_part(photos):
    assert _names("*/x.png") == {"b/x.png": "b/x"}
    assert _names("a/**/*.PNG") == {"a/deep/y.PNG": "deep/y"}


def test_shared_names_keep_what_tells_them_apart(photos):
    assert _names("a/x.jpg", "b/x.jpg") == {"a/x.jpg": "a/x", "b/x.jpg": "b/x"}
    assert _names("b") == {"b/x.jpg": "x.jpg", "b/x.png": "x.png"}
    assert _names("a", "b") == {
        "a/x.jpg": "a/x",
        "a/deep/y.PNG": "deep/y",
        "b/x.jpg": "b/x.jpg",
        "b/x.png": "b/x.png",
    }


def test_an_image_given_twice_counts_once(photos):
    assert _names("a/x.jpg", "a", "./a/x.jpg") == {"a/x.jpg": "x", "a/deep/y.PNG": "deep/y"}


def test_links_keep_their_own_names(photos):
    for name in ("cat.jpg", "dog.jpg"):
        (photos / name).symlink_to(photos / "a/x.jpg")
    assert _names("cat.jpg", "dog.jpg") == {"cat.jpg": "cat", "dog.jpg": "dog"}


def test_results_of_an_earlier_run_are_no_photographs(photos):
    assert "b/x.png" not in _names(".", output="b")
    assert len(_names(".", output="out")) == 5
    # Only what is below the output; a folder inside it is asked for by name.
    for output in ("b", "."):
        assert set(_names("b", output=output)) == {"b/x.jpg", "b/x.png"}


def test_what_names_no_image_is_told(photos):
    (photos / "empty").mkdir()
    results, misses = find_images(["empty", "nothing.jpg", "*.gif", "", "a/x.jpg"], Path("out"))
    assert len(results) == 1
    assert [miss.split()[0] for miss in misses] == ["empty", "nothing.jpg", "*.gif", "''"]


def test_linked_folders_are_followed_once(photos):
    (photos / "c").mkdir()
    (photos / "c/linked").symlink_to("../b")
    (photos / "c/again").symlink_to("linked")
    (photos / "c/round").symlink_to("..")
    assert _names("c") == {"c/again/x.jpg": "x.jpg", "c/again/x.png": "x.png"}
    # A folder keeps its own path where it has one.
    (photos / "a/link").symlink_to("deep")
    assert _names("a") == {"a/x.jpg": "x", "a/deep/y.PNG": "deep/y"}
    assert _names("a/**/*.PNG") == {"a/deep/y.PNG": "deep/y"}
    assert _names("c/**/x.jpg") == {"c/again/x.jpg": "again/x"}


def test_hidden_files_are_no_photographs_unless_named(photos):
    for name in ("a/._x.jpg", "a/.trash/old.jpg"):
        (photos / name).parent.mkdir(exist_ok=True)
        (photos / name).write_bytes((photos / "a/x.jpg").read_bytes())
    both = {"a/x.jpg": "x", "a/deep/y.PNG": "deep/y"}
    assert _names("a") == both
    assert _names("a/**") == both
    assert _names("a/*.jpg") == {"a/x.jpg": "x"}
    assert _names("a/._x.jpg") == {"a/._x.jpg": "._x"}
    assert _names("a/.trash") == {"a/.trash/old.jpg": "old"}
    assert _names("a/.*/*.jpg") == {"a/.trash/old.jpg": ".trash/old"}


def test_folders_that_a_pattern_matches_are_searched(photos):
    assert _names("a/*") == {"a/x.jpg": "x", "a/deep/y.PNG": "deep/y"}
    assert set(_names("[ab]")) == {"a/x.jpg", "a/deep/y.PNG", "b/x.jpg", "b/x.png"}
    # A file of that very name is no pattern.
    (photos / "[ab]").symlink_to("a/x.jpg")
    assert _names("[ab]") == {"[ab]": "[ab]"}


def test_nothing_is_left_out_without_a_word(photos, monkeypatch):
    (photos / "a/gone.jpg").symlink_to("nowhere.jpg")
    for name in ("x.heic", "y.HEIC", "deep/z.gif", "notes.txt"):
        (photos / "a" / name).touch()
    listdir = os.listdir

    def locked(folder):
        if Path(folder).name == "deep":
            raise PermissionError(13, "Permission denied")
        return listdir(folder)

    results, misses = find_images(["a"], Path("out"))
    # A broken link is an image that cannot be read.
    assert [image.name for image in results] == ["y.PNG", "gone.jpg", "x.jpg"]
    assert len(misses) == 1
    assert "a holds 3 files, such as a/deep/z.gif, in formats that are not" in misses[0]
    monkeypatch.setattr(os, "listdir", locked)
    results, misses = find_images(["a"], Path("out"))
    assert [image.name for image in results] == ["gone.jpg", "x.jpg"]
    assert "The folder a/deep cannot be read (Permission denied)" in misses[0]


def test_results_never_overwrite_an_image(photos):
    with pytest.raises(UserError, match=r"overwrite .*b/x\.png"):
        find_images(["b/x.png"], Path("b"))
    find_images(["a/x.jpg"], Path("a"))
    Image.new("RGB", (3, 3)).save("a/x_overlay.jpg")
    with pytest.raises(UserError, match=r"overwrite .*a/x_overlay\.jpg"):
        find_images(["a/x.jpg", "a/x_overlay.jpg"], Path("a"))


def test_results_never_replace_what_lies_beside_a_photograph(photos):
    Path("a/x.png").write_bytes(b"drawn by hand")
    with pytest.raises(UserError, match=r"a/x\.png lies beside .*a/x\.jpg"):
        find_images(["a/x.jpg"], Path("a"))
    # What is written of it is elsewhere, or has another name.
    assert find_images(["a/x.jpg"], Path("out"))[0]
    assert find_images(["a/x.jpg"], Path("a"), written=("_overlay.jpg",))[0]
    # An earlier result in a folder of its own is replaced.
    Path("out").mkdir()
    Path("out/x.png").touch()
    assert find_images(["a/x.jpg"], Path("out"))[0]


def _inputs(*arguments: str, output: str = "out"):
    return find_inputs(arguments, Path(output), (".jpg", ".png"), (".png", "_overlay.jpg"))


def test_videos_are_files_patterns_and_cameras(photos):
    for name in ("a/one.mp4", "a/two.MOV", "b/three.avi"):
        (photos / name).touch()
    found = _inputs("a/*.mp4", "b/three.avi", "./b/three.avi"[2:], "camera:0", "a/x.jpg")
    assert found.videos == {
        "a/one.mp4": Path("out/one"),
        "b/three.avi": Path("out/three"),
        "camera:0": Path("out/camera0"),
    }
    assert list(found.images.values()) == [Path("out/x")]
    assert found.misses == []
    # Folders are searched for photographs; that they hold videos is told, and so is a missing one.
    misses = _inputs("a", "missing.mp4", "*.avi").misses
    assert [miss.split()[0] for miss in misses] == ["missing.mp4", "*.avi", "a"]
    assert "a holds 2 videos, such as a/one.mp4; name them too, such as 'a/*.mp4'" in misses[2]


@pytest.mark.parametrize(
    ("arguments", "output", "told"),
    [
        (["clip.avi", "clip_overlay.mp4"], ".", "would overwrite .*clip_overlay"),
        (["clip.avi"], ".", r"clip_overlay\.mp4 lies beside clip\.avi"),
        (["a/x.jpg", "predictions.avi"], "out", r"share the result predictions\.csv"),
        (["clip.avi", "a/clip.avi"], "out", "share the result clip_overlay"),
    ],
)
def test_results_of_videos_overwrite_nothing(photos, arguments, output, told):
    for name in ("clip.avi", "a/clip.avi", "clip.csv", "clip_overlay.mp4", "predictions.avi"):
        (photos / name).touch()
    with pytest.raises(UserError, match=told):
        _inputs(*arguments, output=output)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--score=0.5", "a"], "--score is for detection"),
        (["--submission=voc.tgz", "clip.mp4"], "--submission is for photographs alone"),
        (["--submission=voc.tgz", "a", "missing.jpg"], "voc.tgz is not written: missing.jpg"),
        (["--submission=voc.tgz", "a/x.jpg", "b/x.jpg"], "several photographs are called x"),
        (["--long_side=-5", "a"], "long_side"),
        (["--scales=", "a"], "--scales takes numbers above 0 and up to 10"),
        (["--scales=inf", "a"], "--scales takes numbers above 0 and up to 10"),
    ],
)
def test_flags_that_would_be_of_no_effect_are_refused(photos, command_line, arguments, told):
    (photos / "clip.mp4").touch()
    weights.save(photos / "tiny.safetensors", random_weights(**TINY))
    code, said = command_line("predict", "--weights=tiny.safetensors", "--output=out", *arguments)
    assert code != 0
    assert told in said
    assert len(said.strip().splitlines()) == 1
    assert not list(photos.glob("out/*"))


def test_predict_writes_results_and_names_damaged_images(photos):
    (photos / "a" / "damaged.jpg").write_bytes((photos / "a" / "x.jpg").read_bytes()[:400])
    segmenter = Segmenter(weights.build(random_weights(**TINY)))
    results, _ = find_images(["a"], Path("out"))
    done = []
    failures = segment(segmenter, results, Path("out"), probabilities=True, on_done=done.append)
    assert sorted(done) == sorted(results)
    assert len(failures) == 1
    assert "a/damaged.jpg" in failures[0]
    label = read_label(Path("out/deep/y.png"), LabelValues(3))
    assert (label == segmenter(photos / "a/deep/y.PNG").label).all()
    painted = {*np.unique(label).tolist()} - {0}
    with Image.open("out/deep/y_overlay.jpg") as overlay:
        assert overlay.width == 30
        # Below the photograph stands what its colours mean.
        assert (overlay.height > 20) == bool(painted)
    with Path("out/predictions.csv").open(newline="") as file:
        head, *rows = csv.reader(file)
    assert head == ["image", "class", "share"]
    shares = {name: float(share) for image, name, share in rows if image.endswith("y.PNG")}
    expected = {f"class {id}": (label == id).mean() for id in np.unique(label).tolist()}
    assert shares == pytest.approx(expected, abs=1e-6)
    with np.load("out/deep/y.npz") as file:
        assert file["probabilities"].shape == (20, 30, 3)
        assert file["probabilities"].dtype == np.float16
        np.testing.assert_allclose(file["probabilities"].sum(-1), 1, atol=2e-3)
    assert sorted(p.name for p in Path("out").rglob("*.*")) == [
        "predictions.csv",
        "x.npz",
        "x.png",
        "x_overlay.jpg",
        "y.npz",
        "y.png",
        "y_overlay.jpg",
    ]


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    label = np.zeros((4, 4), np.uint8)
    segmentation = Segmentation(np.zeros((4, 4, 3), np.uint8), label, ("a",))
    with pytest.raises(UserError, match=r"file/x\.png cannot be written"):
        save(segmentation, tmp_path / "file" / "x")


def test_the_command(photos):
    weights.save("tiny.safetensors", random_weights(**TINY))
    Path("damaged.png").write_text("no image")
    command = [sys.executable, "-m", "deeplab_mnv2.predict", "--weights=tiny.safetensors"]
    # As Windows writes it, and a name that is no text.
    Path(os.fsdecode(b"caf\xe9.jpg")).write_bytes(Path("a/x.jpg").read_bytes())
    listed = b"\xef\xbb\xbfa/x.jpg\r\n\r\nnothing.jpg\r\ncaf\xe9.jpg"
    done = subprocess.run(
        [*command, "--output", "out", "-", "b/x.png", "damaged.png"],
        input=listed.decode("latin-1"),
        encoding="latin-1",
        capture_output=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "3 images" in done.stdout
    errors = done.stderr.splitlines()
    assert [line.startswith("error: ") for line in errors] == [True, True]
    assert "nothing.jpg" in errors[0]
    assert "damaged.png" in errors[1]
    written = [os.fsencode(p.name) for p in Path("out").rglob("*.png")]
    assert sorted(written) == [b"caf\xe9.png", b"x.png", b"x.png"]
    done = subprocess.run(
        [*command, "--output", "out", "-"], input="a/x.jpg".encode("utf-16"), capture_output=True
    )
    assert done.returncode == 2
    assert b"standard input is no text" in done.stderr


def test_a_submission_has_the_layout_of_vocs_server(photos):
    weights.save(photos / "tiny.safetensors", random_weights(**TINY))
    done = subprocess.run(
        [
            *(sys.executable, "-m", "deeplab_mnv2.predict", "--weights=tiny.safetensors"),
            *("--output=out", "--long_side=0", "--submission=voc.tgz", "a"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    folder = "results/VOC2012/Segmentation/comp6_test_cls"
    with tarfile.open("voc.tgz") as archive:
        assert sorted(archive.getnames()) == [f"{folder}/x.png", f"{folder}/y.png"]
        stored = archive.extractfile(f"{folder}/x.png")
        assert stored is not None
        # The server reads palette images.
        label = Image.open(stored)
        assert label.mode == "P"
        np.testing.assert_array_equal(label, Image.open("out/x.png"))
