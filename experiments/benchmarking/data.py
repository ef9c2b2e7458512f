"""Whole passes over a VOC folder: the input pipeline, and evaluation from file to mIoU."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from flax import nnx
from PIL import Image

from deeplab_mnv2.config import (
    IGNORE_LABEL,
    Config,
    DataConfig,
    EvaluationConfig,
    ModelConfig,
    Source,
    TrainConfig,
)
from deeplab_mnv2.data.folder import Folder
from deeplab_mnv2.data.pipeline import training_batches
from deeplab_mnv2.sharding import make_mesh
from deeplab_mnv2.tasks.segmentation.evaluator import SegmentationEvaluator
from deeplab_mnv2.tasks.segmentation.metrics import scores
from deeplab_mnv2.tasks.segmentation.transforms import pad
from deeplab_mnv2.tasks.task_of import task_of
from experiments.benchmarking.case import Case

_BATCH = 8
_BATCHES = 8
_SIZE = 513


def our_input(folder: str) -> Callable[[], float]:
    """Return a measurement of our pipeline: seconds of processor time an image, VOC's recipe."""
    split = Folder(root=folder, split="val")
    config = Config(data=DataConfig(train=split, val=split, threads=1), model=ModelConfig())
    batches = training_batches(
        split.open(),
        config.data,
        task_of(config).augment,
        num_classes=config.model.num_classes,
        batch_size=_BATCH,
        seed=0,
    )
    return lambda: _seconds_an_image(batches)


def torch_input(folder: str) -> Callable[[], float]:
    """Return the same for PyTorch's `DataLoader` with PIL, as torchvision's scripts do it."""
    import torch  # noqa: PLC0415

    source = Folder(root=folder, split="val").open()
    rng = np.random.default_rng(0)
    std = torch.tensor([127.5] * 3).view(3, 1, 1)

    class Examples(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(source)

        def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
            example = source[index]
            image, label = Image.fromarray(example["image"]), Image.fromarray(example["label"])
            # Random resize, random crop with padding, flip, to tensor, normalise.
            scale = 0.5 + 0.25 * int(rng.integers(0, 7))
            size = [max(1, round(n * scale)) for n in image.size]
            image = image.resize(size, Image.Resampling.BILINEAR)
            label = label.resize(size, Image.Resampling.NEAREST)
            left, top = (int(rng.integers(0, max(n - _SIZE, 0) + 1)) for n in size)
            box = (left, top, left + _SIZE, top + _SIZE)
            # PIL fills the area outside the image with zeros; the mask puts the padding there.
            inside = Image.new("L", image.size, 255).crop(box)
            image = Image.composite(image.crop(box), Image.new("RGB", inside.size, 127), inside)
            label = Image.composite(
                label.crop(box), Image.new("L", inside.size, IGNORE_LABEL), inside
            )
            if rng.random() < 0.5:
                image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
                label = label.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float()
            return (pixels - 127.5) / std, torch.from_numpy(np.array(label)).long()

    loader = torch.utils.data.DataLoader(Examples(), _BATCH, shuffle=True, drop_last=True)

    def forever():
        while True:
            yield from loader

    batches = forever()
    return lambda: _seconds_an_image(batches)


def _seconds_an_image(batches: Any) -> float:
    # Processor time of all threads, so other load does not count; its inverse is images/s a core.
    began = time.process_time()
    for _ in range(_BATCHES):
        next(batches)
    return (time.process_time() - began) / (_BATCH * _BATCHES)


def our_evaluation(case: Case, folder: str, images: int) -> Callable[[], float]:
    """Return an evaluation from files to mIoU: the first `images` of a VOC folder's val, 0: all."""
    model = case.model()
    model.eval()
    split = _Part(Folder(root=folder, split="val"), images)
    config = EvaluationConfig(pad_sizes=(_SIZE,), bootstrap_samples=1)
    evaluator = SegmentationEvaluator(
        model, split, config, threads=2, mesh=make_mesh(TrainConfig())
    )
    _, params, statistics = nnx.split(model, nnx.Param, nnx.BatchStat)
    return lambda: evaluator(params, statistics).result["miou"]


def litert_evaluation(case: Case, folder: str, images: int) -> Callable[[], float]:
    """Return the same with the network in LiteRT, which counts a confusion matrix and no more."""
    from deeplab_mnv2.exporting import litert  # noqa: PLC0415
    from deeplab_mnv2.exporting.target import Target  # noqa: PLC0415

    model = case.model()
    model.eval()
    source = _Part(Folder(root=folder, split="val"), images).open()
    names = tuple(str(number) for number in range(case.classes))
    run = litert.load(litert.build(model, Target(names, (_SIZE, _SIZE))), model)

    def evaluate() -> float:
        confusion = np.zeros(case.classes**2, np.int64)
        for index in range(len(source)):
            example = source[index]
            image, label = pad(
                example["image"], example["label"], (_SIZE, _SIZE), model.config.mean_pixel
            )
            prediction = run(image[None])[0][0].argmax(-1)
            known = label != IGNORE_LABEL
            pairs = label[known].astype(np.int64) * case.classes + prediction[known]
            confusion += np.bincount(pairs, minlength=confusion.size)
        return scores(confusion.reshape(case.classes, -1), names)["miou"]

    return evaluate


class _Part:
    """The first examples of a data set."""

    def __init__(self, dataset: Folder, length: int):
        self._dataset = dataset
        self._length = length
        self.split = dataset.split
        self.class_names = dataset.class_names

    def open(self) -> Source:
        return _First(self._dataset.open(), self._length)

    def digest(self) -> str:
        return self._dataset.digest()


class _First:
    def __init__(self, source: Source, length: int):
        self._source = source
        self._length = min(length or len(source), len(source))

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Any:
        return self._source[index]
