"""A small data set that is sound, and the bytes of files that are not."""

import hashlib
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from deeplab_mnv2.data.palette import voc_palette

CLASSES = ("sky", "sea", "land", "ship", "gull")
SPLITS = {"train": 6, "val": 3}


def write_data_set(root: Path) -> None:
    """Write images of 64 x 48 pixels with every class and some void, in VOC's layout."""
    for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / name).mkdir(parents=True)
    (root / "classes.txt").write_text("\n".join(CLASSES))
    rng = np.random.default_rng(0)
    for split, length in SPLITS.items():
        names = [f"{split}_{index}" for index in range(length)]
        (root / f"ImageSets/Segmentation/{split}.txt").write_text("\n".join(names))
        for name in names:
            image = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
            Image.fromarray(image).save(root / f"JPEGImages/{name}.jpg", quality=95)
            write_label(root / f"SegmentationClass/{name}.png", label())


def label() -> np.ndarray:
    """Return a label (48, 64) of all classes in stripes, with void at the top."""
    ids = np.tile((np.arange(64) * len(CLASSES) // 64).astype(np.uint8), (48, 1))
    ids[:4] = 255
    return ids


def write_label(path: Path, ids: np.ndarray) -> None:
    """Write class ids as a palette PNG."""
    picture = Image.fromarray(ids)
    picture.putpalette(voc_palette().tobytes())
    picture.save(path)


def png(width: int, height: int, *, depth: int = 8, colour: int = 0, pixels: bytes = b"") -> bytes:
    """Return a PNG that promises a size and a colour type and holds the (filtered) pixels."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(pixels)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, data) for kind, data in chunks)


def chunk(kind: bytes, data: bytes) -> bytes:
    """Return a PNG chunk with its checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def flip(data: bytes, bit: int) -> bytes:
    """Return the bytes with one bit turned over."""
    damaged = bytearray(data)
    damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


def sha256(path: Path) -> str:
    """Return the digest of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
