"""Every kind of file that the package reads: a sound sample, its reader, and ways to damage it.

A damaged file is a function of (sample, seed), so that whatever `fuzz.py` finds is a test.
"""

import dataclasses
import importlib.util
import shutil
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from deeplab_mnv2 import weights
from deeplab_mnv2.data.decode import read_image
from deeplab_mnv2.data.label_files import LabelValues, read_label
from deeplab_mnv2.inspection.batch import read_batch
from deeplab_mnv2.training.log import read_metrics
from deeplab_mnv2.training.workdir import open_workdir
from tests.conftest import SHARED
from tests.support.box_files import FORMATS, read_boxes
from tests.support.mutations import (
    Mutate,
    mutate_bytes,
    mutate_header,
    mutate_json,
    mutate_list,
    mutate_member,
    mutate_png,
    mutate_tail,
    mutate_words,
)
from tests.support.outline_files import (
    coco_masks,
    labelme,
    read_outlines,
    write_coco_masks,
    write_labelme,
    write_yolo_masks,
    yolo_masks,
)
from tests.support.sample_files import (
    find_archive,
    read_folder,
    read_list,
    read_runs,
    read_weights,
    write_archive,
    write_batch,
    write_config,
    write_folder,
    write_frozen_graph,
    write_hugging_face,
    write_image,
    write_keras,
    write_label,
    write_metrics,
    write_native,
    write_run,
    write_tflite,
    write_torch,
)
from tests.support.tiny_runs import segmentation


@dataclasses.dataclass(frozen=True)
class Sample:
    """A kind of file: `write` fills a folder and returns what is damaged, `read` opens that."""

    write: Callable[[Path], Path]
    read: Callable[[Path], Any]
    mutations: tuple[Mutate, ...]
    # A package without which nothing can be written or read.
    needs: str = ""
    slow: bool = False

    def available(self) -> bool:
        return not self.needs or importlib.util.find_spec(self.needs) is not None


def damaged(name: str, seed: int, sound: Path, folder: Path) -> Path:
    """Return a damaged copy, in `folder`, of a sample written into `sound`."""
    sample = SAMPLES[name]
    rng = np.random.default_rng((zlib.crc32(name.encode()), seed))
    place = sound / name
    if not place.exists():
        place.mkdir()
        (place / "target").write_text(str(sample.write(place).relative_to(place)))
    target = (place / "target").read_text()
    shutil.rmtree(folder / name, ignore_errors=True)
    shutil.copytree(place, folder / name)
    mutate = sample.mutations[rng.integers(len(sample.mutations))]
    path = folder / name / target
    path.write_bytes(mutate(path.read_bytes(), rng))
    return path


def _images() -> dict[str, Sample]:
    kinds: dict[str, dict[str, Any]] = {
        "jpeg": {"suffix": "jpg", "turned": True},
        "jpeg progressive": {"suffix": "jpg", "progressive": True},
        "jpeg cmyk": {"suffix": "jpg", "mode": "CMYK"},
        "png": {"suffix": "png"},
        "png palette": {"suffix": "png", "mode": "P"},
        "png 16 bits": {"suffix": "png", "mode": "16"},
        "png animated": {"suffix": "png", "frames": True},
        "bmp": {"suffix": "bmp"},
        "gif": {"suffix": "gif", "mode": "P", "frames": True},
        "webp": {"suffix": "webp", "turned": True},
        "webp animated": {"suffix": "webp", "lossless": True, "frames": True},
        "tiff": {"suffix": "tif"},
        "tiff lzw": {"suffix": "tif", "compression": "tiff_lzw", "turned": True},
        "tiff jpeg": {"suffix": "tif", "compression": "jpeg"},
        "tiff 16 bits": {"suffix": "tif", "mode": "16"},
        "tiff float": {"suffix": "tif", "mode": "F"},
    }
    return {
        name: Sample(
            partial(write_image, **options),
            read_image,
            (mutate_bytes, mutate_png) if options["suffix"] == "png" else (mutate_bytes,),
        )
        for name, options in kinds.items()
    }


def _labels() -> dict[str, Sample]:
    kinds = {"palette": {"palette": True}, "palette 4 bits": {"palette": True, "bits": 4}}
    kinds["grey"] = {"palette": False}
    return {
        f"label {name}": Sample(
            partial(write_label, **options),
            partial(read_label, meaning=LabelValues(5)),
            (mutate_bytes,),
        )
        for name, options in kinds.items()
    }


def _boxes() -> dict[str, Sample]:
    mutations = {"coco boxes": _JSON, "voc boxes list": (mutate_list, mutate_words, mutate_bytes)}
    return {
        name: Sample(
            partial(write, **target),
            partial(read_boxes, of=data_set, above=above),
            mutations.get(name, (mutate_bytes,)),
        )
        for name, (data_set, write, target, above) in FORMATS.items()
    }


def _outlines() -> dict[str, Sample]:
    words = (mutate_words, mutate_words, mutate_bytes)
    kinds = {
        "labelme": (write_labelme, labelme, _JSON),
        "coco outlines": (write_coco_masks, coco_masks, _JSON),
        "yolo outlines": (write_yolo_masks, yolo_masks, words),
    }
    return {
        name: Sample(write, partial(read_outlines, of=data_set), mutations)
        for name, (write, data_set, mutations) in kinds.items()
    }


_JSON = (mutate_json, mutate_json, mutate_bytes)
_ZIP = (mutate_member, mutate_member, mutate_bytes)
_RUNS: dict[str, tuple[Mutate, ...]] = {
    "eval.json": _JSON,
    "confusions.npz": _ZIP,
    "pictures.zip": _ZIP,
}
SAMPLES = {
    **_images(),
    **_labels(),
    **_boxes(),
    **_outlines(),
    "list": Sample(
        partial(write_folder, target="ImageSets/Segmentation/train.txt"),
        read_list,
        (mutate_list, mutate_words, mutate_bytes),
    ),
    "classes": Sample(
        partial(write_folder, target="classes.txt"), partial(read_folder, above=0), (mutate_bytes,)
    ),
    "archive": Sample(write_archive, find_archive, (mutate_bytes,)),
    "native": Sample(write_native, read_weights, (mutate_header, mutate_bytes)),
    "transformers": Sample(
        partial(write_hugging_face, target="model.safetensors"),
        read_weights,
        (mutate_header, mutate_bytes),
    ),
    "transformers settings": Sample(
        partial(write_hugging_face, target="config.json"),
        lambda path: weights.read(str(path.parent)),
        _JSON,
    ),
    "transformers processor": Sample(
        partial(write_hugging_face, target="preprocessor_config.json"),
        lambda path: weights.read(str(path.parent)),
        _JSON,
    ),
    "pytorch": Sample(partial(write_torch, legacy=False), read_weights, _ZIP),
    "pytorch legacy": Sample(partial(write_torch, legacy=True), read_weights, (mutate_bytes,)),
    "keras h5": Sample(
        partial(write_keras, suffix="h5"), read_weights, (mutate_bytes,), needs="h5py"
    ),
    "keras zip": Sample(partial(write_keras, suffix="keras"), read_weights, _ZIP, needs="h5py"),
    "frozen graph": Sample(write_frozen_graph, read_weights, (mutate_bytes,)),
    "workdir": Sample(
        write_config, lambda path: open_workdir(path.parent, segmentation(path.parent)), _JSON
    ),
    "config": Sample(write_config, lambda path: weights.read(str(path.parent)), _JSON),
    "metrics": Sample(write_metrics, read_metrics, _JSON),
    "batch": Sample(write_batch, read_batch, _ZIP),
    **{
        name: Sample(
            partial(write_run, target=name),
            read_runs,
            mutations,
        )
        for name, mutations in _RUNS.items()
    },
}
if SHARED.is_dir():
    SAMPLES["tflite"] = Sample(write_tflite, read_weights, (mutate_tail, mutate_bytes))
