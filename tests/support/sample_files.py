"""Sound files of every kind that the package reads, and what reads them."""

import json
import os
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from PIL import Image

from deeplab_mnv2 import weights
from deeplab_mnv2.config import to_dict
from deeplab_mnv2.data.archive import Archive
from deeplab_mnv2.data.folder import Folder
from deeplab_mnv2.report.comparison import compare, load_runs
from deeplab_mnv2.training.workdir import open_workdir
from deeplab_mnv2.weights.keras import _TABLE as KERAS_NAMES
from tests.conftest import SHARED
from tests.support import damage, torch_files
from tests.support.evaluations import made_up
from tests.support.frozen_graphs import FrozenGraph
from tests.support.random_weights import random_weights
from tests.support.tiny_runs import segmentation


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


def read_config(path: Path) -> object:
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
