"""The command `export`: files, sizes and mistakes."""

import subprocess
import sys

import numpy as np
import pytest

from deeplab_mnv2 import export as export_module
from deeplab_mnv2 import weights
from deeplab_mnv2.data.classes import VOC_CLASSES
from deeplab_mnv2.errors import UserError
from tests.support.exported_networks import source_of


def test_the_command(tmp_path):
    weights.save(tmp_path / "tiny.safetensors", source_of(long_side=90))
    (tmp_path / "names.txt").write_text("a\nb\n")
    command = [sys.executable, "-m", "deeplab_mnv2.export"]

    def run(*flags: str, source: str = "--weights=tiny.safetensors") -> subprocess.CompletedProcess:
        return subprocess.run(
            [*command, source, *flags], cwd=tmp_path, capture_output=True, text=True, check=False
        )

    done = run("--output=deep/half.safetensors", "--precision=float16", "--size=65,97")
    assert done.returncode == 0, done.stderr
    assert "same class as the network on" in done.stdout
    assert "65 x 97" in done.stdout
    assert weights.read(str(tmp_path / "deep" / "half.safetensors")).config.num_classes == 5
    # Without a size it is the one that the network knows photographs in, 90 here.
    done = run("--output=usual.safetensors")
    assert done.returncode == 0, done.stderr
    assert "97 x 97" in done.stdout
    done = run("--output=file", "--classes=names.txt")
    assert done.returncode == 2
    assert done.stderr == "error: names.txt names 2 classes, but the network has 5.\n"
    # Without weights, the package's own.
    done = run("--output=own.safetensors", source="--size=65")
    assert done.returncode == 0, done.stderr
    found = weights.read(str(tmp_path / "own.safetensors"))
    wanted = weights.read(str(weights.PACKAGED))
    assert found.class_names == wanted.class_names == VOC_CLASSES
    kernel = "classifier.kernel"
    np.testing.assert_array_equal(found.tensors[kernel], wanted.tensors[kernel])


@pytest.mark.parametrize("text", ["1", "31", "0,65", "-65", "65,65,65", "65x97", "1.5", ""])
def test_sizes_that_are_none_are_refused(text):
    with pytest.raises(UserError, match=r"--size .*256,512, each of 32 pixels or more"):
        export_module._size(text.split(","))


@pytest.mark.parametrize(
    ("text", "expected"), [("513", (513, 513)), ("256,512", (256, 512)), (" 65, 97 ", (65, 97))]
)
def test_sizes_are_height_and_width(text, expected):
    assert export_module._size(text.split(",")) == expected


@pytest.mark.parametrize("name", [".", "..", "folder", "folder/", "new/", "new/deep/"])
def test_a_folder_is_no_file_to_write(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match=rf"--output {name} is a folder.*model\.tflite"):
        export_module._file(name, "litert")
    assert not (tmp_path / "new").exists()
