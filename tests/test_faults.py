"""Hundreds of damaged and hostile files: each is read rightly or refused in one sentence.

A reader may not raise anything but UserError, hang, fill the memory or accept a wrong label.
"""

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deeplab_mnv2.data.decode import read_image
from deeplab_mnv2.data.folder import Folder
from deeplab_mnv2.data.label_files import LabelValues, read_label
from deeplab_mnv2.errors import UserError
from tests.support import damage
from tests.support.box_files import FORMATS
from tests.support.corpus import SAMPLES, damaged
from tests.support.sample_files import photo, write_label

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 60  # for one file
SEEDS = 16
# Samples and seeds that once let something else than a UserError through (tests/fuzz.py).
FOUND = {
    "config": (1000, 1006),
    "transformers processor": (1001, 1002),
    "transformers settings": (1246,),
    "metrics": (1003, 1004),
    "batch": (1001, 1010, 1236, 1769),
    "confusions.npz": (1132,),
    "pictures.zip": (1183, 2246, 2613),
    "transformers": (1290,),
    "eval.json": (1053, 1193, 1472),
    "keras zip": (1043,),
}

# Pillow warns of some damage that it reads past.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("sound")


@pytest.fixture(autouse=True)
def no_hang() -> Iterator[None]:
    def expired(*_: object) -> None:
        raise TimeoutError("a reader hangs")

    before = signal.signal(signal.SIGALRM, expired)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def outcome(read, *arguments):
    """Return what a reader returns, or None for a UserError in one sentence."""
    signal.alarm(SECONDS)
    try:
        return read(*arguments)
    except UserError as error:
        sentence = str(error)
        assert "\n" not in sentence
        assert len(sentence) < 1_000
        assert sentence.endswith((".", "?"))
        return None


def read_damaged(name: str, seeds, sound: Path, folder: Path) -> int:
    """Read damaged copies of a sample; return how many were refused."""
    if not SAMPLES[name].available():
        pytest.skip(f"{SAMPLES[name].needs} is not installed")
    refused = 0
    for seed in seeds:
        path = damaged(name, seed, sound, folder)
        try:
            refused += outcome(SAMPLES[name].read, path) is None
        except Exception as error:
            error.add_note(f"sample {name!r}, seed {seed}")
            raise
    return refused


@pytest.mark.parametrize("name", [name for name in SAMPLES if not SAMPLES[name].slow])
def test_damage_is_read_past_or_refused(name, sound, tmp_path):
    assert read_damaged(name, range(SEEDS), sound, tmp_path) > 0


@pytest.mark.parametrize("name", FOUND)
def test_what_the_fuzzer_found_is_refused(name, sound, tmp_path):
    read_damaged(name, FOUND[name], sound, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", SAMPLES)
def test_more_damage_is_read_past_or_refused(name, sound, tmp_path):
    read_damaged(name, range(SEEDS, 20 * SEEDS), sound, tmp_path)


@pytest.mark.parametrize("bits", [8, 4], ids=["8 bits", "4 bits"])
@pytest.mark.parametrize("palette", [True, False], ids=["palette", "grey"])
def test_no_flipped_bit_changes_a_label(tmp_path, palette, bits):
    """Every 7th bit of the file, one at a time; each byte has its turn."""
    path = write_label(tmp_path, palette=palette, bits=bits)
    data, wanted = path.read_bytes(), read_label(path, LabelValues(5))
    for bit in range(0, 8 * len(data), 7):
        path.write_bytes(damage.flip(data, bit))
        found = outcome(read_label, path, LabelValues(5))
        assert found is None or np.array_equal(found, wanted), f"bit {bit}"


def test_no_cut_changes_a_label(tmp_path):
    path = write_label(tmp_path, palette=True)
    data, wanted = path.read_bytes(), read_label(path, LabelValues(5))
    for length in range(0, len(data), 5):
        path.write_bytes(data[:length])
        found = outcome(read_label, path, LabelValues(5))
        # Nothing but the end mark may be missing.
        assert found is None or length >= len(data) - 12, f"{length} bytes"
        assert found is None or np.array_equal(found, wanted), f"{length} bytes"


def test_labels_in_other_modes_and_formats_are_refused(tmp_path):
    refused = 0
    # Numbers all the same: of 1 bit, of 16 bits, and grey in three channels.
    read = {"1", "RGB", "I;16", "I"}
    for mode in ("1", "LA", "PA", "RGB", "RGBA", "CMYK", "I", "I;16", "F"):
        for suffix in ("png", "tif", "jpg", "webp", "bmp", "gif"):
            path = tmp_path / f"label.{suffix}"
            try:
                Image.new(mode, (9, 7)).save(path)
            except (OSError, KeyError, ValueError):
                continue  # this format does not have this mode
            if suffix == "png" and mode in read:
                assert (read_label(path, LabelValues(21)) == 0).all(), mode
                continue
            # GIF and WebP turn what they do not have into what they have.
            assert outcome(read_label, path, LabelValues(21)) is None, f"{mode} in {suffix}"
            refused += 1
    assert refused > 30


@pytest.mark.parametrize("suffix", ["jpg", "tif", "bmp", "gif", "webp"])
def test_labels_without_checksums_are_refused(tmp_path, suffix):
    path = tmp_path / f"label.{suffix}"
    Image.fromarray(damage.label() % 251).save(path)
    path = path.rename(tmp_path / "label.png")
    assert outcome(read_label, path, LabelValues(21)) is None


@pytest.mark.parametrize("depth", [2, 4])
def test_grey_labels_of_few_bits_are_refused(tmp_path, depth):
    # Pillow would return 85 or 17 in place of 1.
    path = tmp_path / "label.png"
    path.write_bytes(damage.png(8, 8, depth=depth, pixels=b"\0\x11" * 4 * 8))
    assert outcome(read_label, path, LabelValues(21)) is None


def test_nothing_but_images_is_opened(tmp_path):
    # Pillow would hand PostScript to an interpreter.
    path = tmp_path / "image.jpg"
    photo().save(path, "EPS")
    assert outcome(read_image, path) is None


@pytest.mark.parametrize(
    "settings",
    [
        {"root": "a\0b"},
        {"root": "x" * 5_000},
        {"images": "{0}"},
        {"images": "{split.__class__}"},
        {"labels": "{"},
        {"labels": "../" * 2_000},
        {"lists": "\0"},
        {"lists": "ImageSets"},
        {"lists": "x" * 300},
        {"split": "../../../etc/passwd"},
        {"split": "x" * 300},
        {"split": "\udc80"},
        {"images": "\ud800"},
        {"root": "~" * 300},
        {"label_pattern": "{name}\0"},
        {"label_pattern": "{name}" + "x" * 5_000},
        {"image_pattern": "../{name}"},
        {"values": tuple(range(300))},
    ],
    ids=lambda settings: ascii(settings)[:40],
)
def test_hostile_settings_of_a_folder(tmp_path, settings):
    damage.write_data_set(tmp_path)
    folder = Folder(**{"root": str(tmp_path), "split": "train"} | settings)
    assert outcome(folder.open) is None


def test_paths_out_of_a_data_set_are_not_followed_by_lists(tmp_path):
    root = tmp_path / "data"
    damage.write_data_set(root)
    write_label(tmp_path, palette=True).rename(tmp_path / "secret.png")
    (root / "loop.png").symlink_to("loop.png")
    (root / "JPEGImages/away").symlink_to(tmp_path / "elsewhere")
    for name in ("loop.png", "../secret.png", "JPEGImages/../../secret.png", "/../secret.png"):
        path = root / "ImageSets/Segmentation/train.txt"
        path.write_text(f"JPEGImages/train_0.jpg {name}\n")
        assert outcome(Folder(root=str(root), split="train").open) is None


OVERRIDES = [
    f"--config.{field}={value}"
    for field in (
        "train.total_steps",
        "train.batch_size",
        "train.seed",
        "data.crop_size",
        "data.scale_range",
        "data.train.length",
        "optimizer.learning_rate",
        "model.width_multiplier",
        "model.dtype",
        "model.atrous_rates",
        "loss.class_weights",
        "evaluation.pad_sizes",
    )
    for value in ("", "x", "-1", "1e999", "nan", "(", "9" * 400, "[1,[2]]", "{}", "None", "\udcff")
]
FORKED = """
    import os, sys
    from deeplab_mnv2.cli import command
    from absl import flags

    for number, override in enumerate(sys.argv[1:]):
        if not os.fork():
            command.define_config()
            sys.argv = ["train", override]
            try:
                command.run(lambda: flags.FLAGS.config.check(), default_config=command.QUICKSTART)
                code = 0
            except SystemExit as end:
                code = end.code or 0
            sys.stderr.flush()
            os._exit(code)
        _, status = os.wait()
        print(number, os.waitstatus_to_exitcode(status), flush=True)
        print("case", number, file=sys.stderr, flush=True)
"""


def test_overrides_end_in_one_sentence():
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(FORKED), *OVERRIDES],
        env={**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    codes = [int(line.split()[1]) for line in done.stdout.splitlines()]
    assert len(codes) == len(OVERRIDES)
    said = done.stderr.split("\ncase ")
    for override, code, text in zip(OVERRIDES, codes, said, strict=False):
        assert code in (0, 2), f"{override} ended with {code}: {text}"
        assert "Traceback" not in text, f"{override}: {text}"
    assert codes.count(2) > len(codes) / 2


@pytest.mark.parametrize(
    "settings",
    [
        {"root": "a\0b"},
        {"root": "x" * 5_000},
        {"root": "~" * 300},
        {"images": "\ud800"},
        {"images": "../" * 2_000},
        {"split": "x" * 300},
        {"split": "\udc80"},
        {"split": "\0"},
    ],
    ids=lambda settings: ascii(settings)[:40],
)
@pytest.mark.parametrize("name", FORMATS)
def test_hostile_settings_of_boxes(tmp_path, name, settings):
    data_set, write, target, _ = FORMATS[name]
    write(tmp_path, **target)
    opened = data_set(**{"root": str(tmp_path), "split": "train"} | settings)
    assert outcome(opened.open) is None
