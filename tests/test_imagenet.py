"""ImageNet: its own archives read in place, and published weights scored by `evaluate`."""

import io
import tarfile

import numpy as np
import pytest
import scipy.io
from flax import nnx
from PIL import Image

from deeplab_mnv2 import weights
from deeplab_mnv2.config import (
    ClassificationDataConfig,
    ClassificationEvaluationConfig,
    ClassifierConfig,
    Config,
)
from deeplab_mnv2.data import imagenet
from deeplab_mnv2.data.class_folder import ClassFolder
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.evaluate import evaluate
from deeplab_mnv2.models.classifier import Classifier

# The development kit numbers classes in an order that is not that of their ids.
WNIDS = ("n03", "n01", "n02")
WORDS = ("crane, a machine", "ant, emmet", "crane")


def picture(level):
    buffer = io.BytesIO()
    Image.new("RGB", (30, 20), (level, level, level)).save(buffer, "PNG")
    return buffer.getvalue()


def tar(files, mode="w"):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def archives(tmp_path):
    """The four classes' archives as they are published; the fourth is a group of classes."""
    kind = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O")]
    rows = [*zip((1, 2, 3), WNIDS, WORDS, strict=True), (1001, "n00", "whole")]
    meta = io.BytesIO()
    scipy.io.savemat(meta, {"synsets": np.array(rows, kind)})
    kit = {imagenet._TRUTH: b"3\n1\n", imagenet._META: meta.getvalue()}
    (tmp_path / imagenet.DEVKIT).write_bytes(tar(kit, "w:gz"))
    val = {f"ILSVRC2012_val_0000000{n}.JPEG": picture(n) for n in (1, 2)}
    (tmp_path / imagenet.VAL).write_bytes(tar(val))
    train = {
        f"{wnid}.tar": tar({f"{wnid}_{i}.JPEG": picture(10 * number + i) for i in range(2)})
        for number, wnid in enumerate(WNIDS, 1)
    }
    (tmp_path / imagenet.TRAIN).write_bytes(tar(train))
    return tmp_path


def test_classes_are_in_the_order_of_their_ids(archives):
    train, val = (imagenet.imagenet(str(archives), split) for split in ("train", "val"))
    assert train.class_names == val.class_names == ("ant", "crane (n02)", "crane (n03)")
    # The first validation image is number 3 of the kit, n02, the second number 1, n03.
    examples = list(map(val.open().__getitem__, range(2)))
    assert [example["label"] for example in examples] == [1, 2]
    assert [int(example["image"][0, 0, 0]) for example in examples] == [1, 2]
    source = train.open()
    found = {int(source[i]["image"][0, 0, 0]): source[i]["label"] for i in range(6)}
    assert found == {10: 2, 11: 2, 20: 0, 21: 0, 30: 1, 31: 1}
    assert train.digest() != val.digest()


def test_what_is_missing_is_named(archives):
    (archives / imagenet.DEVKIT).rename(archives / "elsewhere")
    with pytest.raises(UserError, match=r"devkit_t12.tar.gz does not exist; put the archive"):
        _ = imagenet.imagenet(str(archives), "val").class_names
    (archives / imagenet.DEVKIT).write_bytes(b"no archive")
    with pytest.raises(UserError, match=r"devkit_t12.tar.gz cannot be read"):
        imagenet.imagenet(str(archives), "train").open()
    with pytest.raises(UserError, match=r"split='test' is out of range"):
        imagenet.imagenet(str(archives), "test").open()


def test_class_folders_are_read_as_such(tmp_path):
    assert isinstance(imagenet.imagenet(str(tmp_path), "train"), ClassFolder)


def test_1001_classes_are_scored_without_their_first(tmp_path):
    """TensorFlow's networks have a background in front of ImageNet's 1,000."""
    network = Classifier(
        ClassifierConfig(num_classes=1001, width_multiplier=0.35), rngs=nnx.Rngs(0)
    )
    network.eval()
    # Class 8 of the 1,001 is class 7 of the 1,000.
    bias = np.zeros(1001, np.float32)
    bias[[0, 8]] = 2000, 1000
    network.classifier.bias[...] = bias
    (tmp_path / "classes.txt").write_text("\n".join(f"n{index:03}" for index in range(1000)))
    for name in ("n007", "n500"):
        (tmp_path / "val" / name).mkdir(parents=True)
        (tmp_path / "val" / name / "1.png").write_bytes(picture(100))
    found = evaluate(network, of_folder(tmp_path, network)).result
    assert (found["top1"], found["accuracy"]["n007"], found["accuracy"]["n500"]) == (0.5, 1, 0)
    assert found["protocol"]["label_offset"] == 1


def of_folder(root, network):
    data_set = ClassFolder(root=str(root), split="val")
    return Config(
        data=ClassificationDataConfig(train=data_set, val=data_set, threads=1),
        model=network.config,
        evaluation=ClassificationEvaluationConfig(bootstrap_samples=50, batch_size=8),
    )


def test_published_weights_have_their_top_1(shared, tmp_path):
    """302 of 334 photographs; another program, which crops half a pixel elsewhere, has 301."""
    names = (shared / "imagenet_sample" / "wnids.txt").read_text()
    (tmp_path / "classes.txt").write_text(names)
    for path in (shared / "imagenet_sample").glob("*.jpg"):
        folder = tmp_path / "val" / path.name.split("_")[1]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / path.name).symlink_to(path)
    network = weights.load_classifier(str(shared / "weights/tf2_mobilenet_v2_1.0_224_ptq.tflite"))
    found = evaluate(network, of_folder(tmp_path, network)).result
    assert found["top1"] == pytest.approx(0.901, abs=0.0065)
    assert found["top5"] > 0.98


def test_predict_takes_a_classifier(command_line, tmp_path):
    network = Classifier(ClassifierConfig(num_classes=3, width_multiplier=0.35), rngs=nnx.Rngs(0))
    made = weights.from_model(network, {"source": "a test"}, ("ant", "bee", "cow"))
    weights.save(tmp_path / "c.safetensors", made)
    for index in range(3):
        (tmp_path / f"{index}.png").write_bytes(picture(80 * index))
    (tmp_path / "damaged.jpg").write_bytes(b"no picture")
    output = tmp_path / "out"
    status, told = command_line(
        "predict", "--weights", str(tmp_path / "c.safetensors"), "--output", str(output),
        str(tmp_path),
    )  # fmt: skip
    assert status == 1
    assert "damaged.jpg cannot be read as an image" in told
    lines = (output / "predictions.csv").read_text().splitlines()
    assert lines[0] == "image,class1,probability1,class2,probability2,class3,probability3"
    assert len(lines) == 4
