"""Data sets of TFDS by name, on a tiny one that is prepared here."""

import pickle

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds

from deeplab_mnv2.data.tfds_sets import TfdsClasses, TfdsMasks
from deeplab_mnv2.errors import UserError


class TinyPets(tfds.core.GeneratorBasedBuilder):
    """Ten photographs with a class, and a map of 1, 2 and 3."""

    VERSION = tfds.core.Version("1.2.0")
    url_infos = None

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "label": tfds.features.ClassLabel(names=["cat", "dog"]),
            "segmentation_mask": tfds.features.Image(shape=(None, None, 1)),
        }
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(8), "test": self._generate_examples(2)}

    def _generate_examples(self, number=0):
        for index in range(number):
            mask = np.ones((6, 9, 1), np.uint8)
            mask[:, 3:6], mask[:, 6:] = 2, 3
            image = np.full((6, 9, 3), 10 * index, np.uint8)
            # Encoded: TFDS itself would do that with TensorFlow.
            example = {"image": png(image), "segmentation_mask": png(mask)}
            yield index, {**example, "label": index % 2}


def png(pixels: np.ndarray) -> bytes:
    return cv2.imencode(".png", pixels)[1].tobytes()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("tfds")
    TinyPets(data_dir=path, file_format="array_record").download_and_prepare()
    return str(path)


def test_classes(folder):
    data = TfdsClasses("tiny_pets", data_dir=folder)
    assert data.class_names == ("cat", "dog")
    source = pickle.loads(pickle.dumps(data.open()))
    assert len(source) == 8
    assert [example["label"] for example in source] == [0, 1] * 4
    assert source[3]["image"].shape == (6, 9, 3)
    assert (source[3]["image"] == 30).all()
    assert source[-1]["name"] == "0000007"


def test_parts_of_a_split_have_digests_of_their_own(folder):
    parts = [
        TfdsClasses("tiny_pets", split=split, data_dir=folder)
        for split in ("train", "train[:75%]", "train[75%:]", "test")
    ]
    assert [len(part.open()) for part in parts] == [8, 6, 2, 2]
    assert len({part.digest() for part in parts}) == 4


def test_masks(folder):
    data = TfdsMasks(
        "tiny_pets",
        data_dir=folder,
        values=(2, 1),
        unlabelled=(3,),
        names=("background", "pet"),
    )
    source = data.open()
    assert source[0]["label"][0].tolist() == [1, 1, 1, 0, 0, 0, 255, 255, 255]
    assert source[0]["label"].dtype == np.uint8
    data.unlabelled = ()
    with pytest.raises(UserError, match="tiny_pets train, example 0, holds the value 3"):
        data.open()[0]
    data.unlabelled = (1,)
    with pytest.raises(UserError, match=r"TfdsMasks\.unlabelled=\(1,\).*of no class"):
        data.open()
    for label in ("image", "label"):
        colour = TfdsMasks("tiny_pets", data_dir=folder, label=label, names=("a", "b"))
        with pytest.raises(UserError, match="which is no map of numbers"):
            colour.open()[0]
    other = TfdsMasks("tiny_pets", data_dir=folder, values=(1, 2), names=("background", "pet"))
    assert other.digest() != data.digest()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "tiny_petz"}, "TFDS's 'tiny_petz' cannot be had"),
        ({"split": "validation"}, "it has (train, test|test, train)"),
        ({"label": "breed"}, "has no 'breed' but image, label, segmentation_mask"),
        ({"label": "segmentation_mask"}, "no class names"),
    ],
)
def test_mistakes_are_named(folder, settings, message):
    data = TfdsClasses(**({"name": "tiny_pets", "data_dir": folder} | settings))
    with pytest.raises(UserError, match=message):
        data.open()


def test_masks_have_names(folder):
    with pytest.raises(UserError, match=r"TfdsMasks\.names=\(\).*two classes or more"):
        TfdsMasks("tiny_pets", data_dir=folder).open()
    with pytest.raises(UserError, match=r"TfdsMasks\.values=.*2 different numbers"):
        TfdsMasks("tiny_pets", data_dir=folder, names=("a", "b"), values=(1,)).open()
