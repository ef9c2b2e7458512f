"""From a path to a network: which importer reads it."""

from pathlib import Path

from deeplab_mnv2.data.classes import COCO_CATEGORY_IDS, COCO_CLASSES, VOC_CLASSES
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.files import open_checked, read_json, read_safetensors
from deeplab_mnv2.models.classifier import Classifier
from deeplab_mnv2.models.deeplab import DeepLab
from deeplab_mnv2.models.ssdlite import SSDLite
from deeplab_mnv2.weights import hugging_face, native, pytorch
from deeplab_mnv2.weights.download import download, is_address
from deeplab_mnv2.weights.frozen_graph.graph import read_frozen_graph
from deeplab_mnv2.weights.keras import read_keras
from deeplab_mnv2.weights.model_weights import (
    Weights,
    build_classifier,
    build_deeplab,
    build_detector,
    check,
    number_classes,
)
from deeplab_mnv2.weights.run import find_run, read_run
from deeplab_mnv2.weights.tflite.graph import read_tflite
from deeplab_mnv2.weights.torch_file import read_state_dict

# The mobile head trained on VOC on two CPU cores; voc_mobile.md is its card.
PACKAGED = Path(__file__).with_name("voc_mobile.safetensors")

_READABLE = (
    ".safetensors, .tflite, .pb, .h5, .keras, .pth, the https:// address of one, a run's folder or "
    "hf://owner/name"
)


def read(path: str) -> Weights:
    """Return the weights at a path, checked, with the convention they were trained under.

    `path` is a file (.safetensors, .tflite, .pb, .h5, .keras, .pth), the https:// address of one
    (`download.download`), a folder with config.json and model.safetensors, or with ours alone,
    hf://owner/name[@revision], or the folder of a run, whose newest
    checkpoint is read unless it is written RUN@best or RUN@4000.
    Where the file does not name its classes, 21 of a segmentation network get VOC's names, 80 and
    90 of a detector COCO's, other numbers of these two count them, and a classifier's have none.

    Raises:
        UserError: nothing is there, it is damaged, or of another network.
    """
    path = str(path)
    if path.startswith("hf://"):
        folder, revision = hugging_face.fetch(path)
        weights = _read_folder(folder, {"source": path, "revision": revision})
    elif is_address(path):
        weights = _read_file(str(download(path)), source=path)
    elif (run := find_run(path)) is not None:
        weights = read_run(*run)
    elif Path(path).is_dir():
        weights = _read_folder(Path(path), {"source": path})
    else:
        weights = _read_file(path)
    if not weights.class_names:
        weights.class_names = _known_names(weights)
    return check(weights)


def load(path: str, *, output_stride: int = 0) -> DeepLab:
    """Return the segmentation network at a path (see `read`), ready for evaluation.

    `output_stride` 0 keeps the stride that it was published with.

    Raises:
        UserError: as `read`, or the file holds no segmentation network.
    """
    return build_deeplab(read(path), output_stride=output_stride)


def load_classifier(path: str) -> Classifier:
    """Return the ImageNet classifier at a path (see `read`), ready for evaluation.

    Raises:
        UserError: as `read`, or the file holds no classifier.
    """
    return build_classifier(read(path))


def load_detector(path: str) -> SSDLite:
    """Return the detector at a path (see `read`), ready for evaluation.

    Raises:
        UserError: as `read`, or the file holds no detector.
    """
    return build_detector(read(path))


def _known_names(weights: Weights) -> tuple[str, ...]:
    """Return what the classes are called in a file that does not say."""
    count = weights.config.num_classes
    if weights.kind == "segmentation":
        return VOC_CLASSES if count == len(VOC_CLASSES) else number_classes(count)
    if weights.kind != "detection":
        return ()
    if count == len(COCO_CLASSES):
        return COCO_CLASSES
    numbers = number_classes(count)
    if count != COCO_CATEGORY_IDS[-1]:
        return numbers
    # TensorFlow's published detectors keep COCO's numbers, with gaps.
    names = dict(zip(COCO_CATEGORY_IDS, COCO_CLASSES, strict=True))
    return tuple(names.get(index, number) for index, number in enumerate(numbers, start=1))


def _read_file(path: str, source: str = "") -> Weights:
    suffix = Path(path).suffix.lower()
    sha256 = open_checked(path)
    provenance = {"source": source or path, "sha256": sha256}
    if suffix == ".tflite":
        return read_tflite(path, provenance)
    if suffix == ".pb":
        return read_frozen_graph(path, provenance)
    if suffix in (".h5", ".hdf5", ".keras"):
        return read_keras(path, provenance)
    if suffix in (".pth", ".pt", ".bin"):
        return _from_state_dict(read_state_dict(path), Path(path).parent, provenance)
    if suffix == ".safetensors":
        arrays, metadata = read_safetensors(path)
        if metadata.get("format") == native.FORMAT:
            return native.from_native(arrays, metadata, provenance)
        return _from_state_dict(arrays, Path(path).parent, provenance)
    raise UserError(f"{path} is in no format that is read here; give {_READABLE}.")


def _read_folder(folder: Path, provenance: dict[str, str]) -> Weights:
    for name in ("model.safetensors", "pytorch_model.bin"):
        path = folder / name
        if path.exists():
            break
    else:
        raise UserError(
            f"{provenance['source']} holds no model.safetensors, nor is it a run with checkpoints; "
            "check the path."
        )
    sha256 = open_checked(path)
    # The hub's cache names large files by their SHA-256.
    stored = path.resolve().name
    if len(stored) == 64 and stored != sha256:
        raise UserError(
            f"The cached copy of {provenance['source']} is damaged: its digest is wrong; delete "
            f"{path.resolve()} to fetch it again."
        )
    if name == "model.safetensors":
        arrays, metadata = read_safetensors(path)
        if metadata.get("format") == native.FORMAT:
            return native.from_native(arrays, metadata, {**provenance, "sha256": sha256})
    else:
        arrays = read_state_dict(str(path))
    return _from_state_dict(arrays, folder, {**provenance, "sha256": sha256})


def _from_state_dict(arrays, folder: Path, provenance: dict[str, str]) -> Weights:
    """Return the weights of a PyTorch state dict, whose names tell the library."""
    settings, processor = (
        read_json(folder / name) if (folder / name).exists() else {}
        for name in ("config.json", "preprocessor_config.json")
    )
    if any(name.endswith("conv_stem.first_conv.convolution.weight") for name in arrays):
        return hugging_face.from_hugging_face(arrays, settings, processor, provenance)
    if "features.0.0.weight" in arrays:
        return pytorch.from_torchvision(arrays, provenance)
    if "conv_stem.weight" in arrays:
        return pytorch.from_timm(arrays, settings, provenance)
    raise UserError(
        f"{provenance['source']} holds tensors of another network; MobileNetV2 is read as "
        "torchvision, timm and transformers name it."
    )
