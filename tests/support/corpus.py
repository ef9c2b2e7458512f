"""Every kind of file that the package reads: a sound sample, its reader, and ways to damage it.

A damaged file is a function of (sample, seed), so that whatever `fuzz.py` finds is a test.
"""

import dataclasses
import importlib.util
import json
import os
import shutil
import zipfile
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from PIL import Image

from deeplab_mnv2 import weights
from deeplab_mnv2.config import to_dict
from deeplab_mnv2.data.archive import Archive
from deeplab_mnv2.data.decode import read_image
from deeplab_mnv2.data.folder import Folder
from deeplab_mnv2.data.label_files import LabelValues, read_label
from deeplab_mnv2.inspection.batch import read_batch
from deeplab_mnv2.report.comparison import compare, load_runs
from deeplab_mnv2.training.log import read_metrics
from deeplab_mnv2.training.workdir import open_workdir
from deeplab_mnv2.weights.keras import _TABLE as KERAS_NAMES
from tests.conftest import SHARED
from tests.support import damage, torch_files
from tests.support.box_files import FORMATS, read_boxes
from tests.support.evaluations import made_up
from tests.support.frozen_graphs import FrozenGraph
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
from tests.support.random_weights import random_weights
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


def photo() -> Image.Image:
    """Return 24 x 17 pixels that compress a little."""
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 64, (17, 24, 3), dtype=np.uint8) * 3)


def write_image(folder: Path, *, suffix: str, mode: str = "RGB", **options: Any) -> Path:
    path = folder / f"image.{suffix}"
    if mode == "16":
        picture = Image.fromarray(np.asarray(photo())[..., 0] * np.uint16(300))
    else:
        picture = photo().convert(mode)
    if options.pop("frames", False):
        options |= {"save_all": True, "append_images": [picture.rotate(90), picture.rotate(180)]}
    if options.pop("turned", False):
        options["exif"] = Image.Exif()
        options["exif"][0x0112] = 6
    picture.save(path, **options)
    return path


def write_label(folder: Path, *, palette: bool, bits: int = 8) -> Path:
    path = folder / "label.png"
    if palette:
        picture = Image.fromarray(damage.label() % 251)  # 4 is the highest id
        picture.putpalette(bytes(range(15)))
        picture.save(path, bits=bits)
    else:
        Image.fromarray(damage.label()).save(path)
    return path


def write_folder(folder: Path, *, target: str) -> Path:
    damage.write_data_set(folder)
    return folder / target


def read_folder(path: Path, *, above: int) -> list:
    folder = Folder(root=str(path.parents[above]), split="train")
    folder.digest()
    source = folder.open()
    return [source[index] for index in range(len(source))]


def read_list(path: Path) -> list:
    """Read a data set by its list, in which every image that is read must be named."""
    listed = path.read_bytes()
    for image, _ in Folder(root=str(path.parents[2]), split="train").open().pairs:
        assert os.fsencode(image.stem) in listed, f"{image} is in no line"
    return read_folder(path, above=2)


def write_native(folder: Path) -> Path:
    path = folder / "net.safetensors"
    weights.save(path, random_weights(width_multiplier=0.35, head_channels=16), scores={"a": 1})
    return path


def write_hugging_face(folder: Path, *, target: str) -> Path:
    weights.to_hugging_face(random_weights(width_multiplier=0.35, output_stride=32), folder)
    return folder / target


def write_torch(folder: Path, *, legacy: bool) -> Path:
    stored = write_hugging_face(folder, target="model.safetensors")
    path = folder / "net.pth"
    torch_files.save(safetensors.numpy.load_file(stored), path, legacy=legacy)
    stored.unlink()
    return path


def write_keras(folder: Path, *, suffix: str) -> Path:
    import h5py  # noqa: PLC0415 - an extra

    given = random_weights("classification", width_multiplier=0.35, output_stride=32)
    path = folder / "net.h5"
    with h5py.File(path, "w") as file:
        for theirs, ours in KERAS_NAMES.items():
            if ours not in given.tensors or theirs.endswith("depthwise/kernel"):
                continue
            array = given.tensors[ours]
            if theirs.endswith("depthwise_kernel"):
                array = array.transpose(0, 1, 3, 2)
            elif theirs == "predictions/kernel":
                array = array[0, 0]
            layer, variable = theirs.split("/")
            file[f"model_weights/{layer}/{layer}/{variable}:0"] = array
    if suffix == "keras":
        with zipfile.ZipFile(folder / "net.keras", "w") as archive:
            archive.write(path, "model.weights.h5")
    return folder / f"net.{suffix}"


def write_tflite(folder: Path) -> Path:
    path = folder / "net.tflite"
    shutil.copy(SHARED / "weights/deeplabv3_mnv2_dm05_pascal_quant.tflite", path)
    path.chmod(0o644)
    return path


def write_frozen_graph(folder: Path) -> Path:
    path = folder / "net.pb"
    path.write_bytes(FrozenGraph(random_weights(width_multiplier=0.35)).encode())
    return path


def write_run(folder: Path, *, target: str) -> Path:
    for name, wrong in (("one", 0.3), ("other", 0.5)):
        made_up(wrong=wrong, pictures=2).write(folder / name)
    return folder / "other" / target


def _open_workdir(path: Path) -> object:
    return open_workdir(path.parent, segmentation(path.parent))


def write_config(folder: Path) -> Path:
    # As a run has it from its first seconds on.
    (folder / "checkpoints").mkdir()
    path = folder / "config.json"
    path.write_text(json.dumps(to_dict(segmentation(path.parent)), indent=2))
    return path


def write_metrics(folder: Path) -> Path:
    path = folder / "metrics.jsonl"
    records = [{"step": step, "loss": 1 / step, "val_miou": None} for step in range(1, 9)]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def write_batch(folder: Path) -> Path:
    path = folder / "batch.npz"
    image, ids = np.zeros((2, 9, 9, 3), np.uint8), np.zeros((2, 9, 9), np.uint8)
    np.savez(path, image=image, label=ids, name=np.array(["a", "b"]), step=3)
    return path


def read_runs(path: Path) -> dict[str, Any]:
    folder = path.parents[1]
    return compare([load_runs([folder / "one", folder / "other"])] * 2, samples=2)


def find_archive(path: Path) -> Path | None:
    sound = path.with_name("sound")
    return Archive(path.name, (), sound.stat().st_size, damage.sha256(sound)).find(path.parent)


def write_archive(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in ("sound", "some.tar"):
        (folder / name).write_bytes(rng.bytes(3_000) if name == "sound" else b"")
    shutil.copy(folder / "sound", folder / "some.tar")
    return folder / "some.tar"


def read_weights(path: Path) -> Any:
    return weights.read(str(path))


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
